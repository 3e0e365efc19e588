"""Arrays in an .npz file: written beside its place and renamed, and read without trusting what it claims."""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


def write(path: Path, arrays: Mapping) -> None:
    """A reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial-{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(path)


def read(path: Path, largest: int) -> Arrays:
    """All arrays of a file as :func:`write` makes it; nothing is unpickled.

    Args:
        largest: bytes, at most, that they may take.

    Raises:
        ValueError, or whatever a damaged zip archive makes its readers raise.
    """
    if not path.is_file():
        raise ValueError("no plain file")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > largest:
            raise ValueError(f"its arrays claim more than {largest:,} bytes")
        return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    # zipfile doesn't bound what the other compressions make of a block.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed in another way")
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{entry.filename} has another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        # NumPy makes the array before it reads it.
        if math.prod(shape) * dtype.itemsize + file.tell() != entry.file_size:
            raise ValueError(f"{entry.filename} isn't as large as it claims")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def shaped(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether there are numbers of these shapes by these names, whatever else there is."""
    return all(
        name in arrays and arrays[name].shape == shape and arrays[name].dtype.kind in "iuf"
        for name, shape in shapes.items()
    )
