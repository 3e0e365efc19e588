"""Files that are whole or absent: written beside their place and renamed, checked when they are read."""

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kdlib.names import one_line

MANIFEST = "manifest.json"
LARGEST = 256_000_000  # bytes, at most, of the arrays in one file
Arrays = dict[str, np.ndarray]


class DiskFull(OSError):
    """There is no room for a file; what was there before is as it was."""


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Where to write a file, or make a directory, that is to be ``path``; it is renamed at the end.

    On an error what was written is removed. Whoever writes holds a lock: a path has one such place.

    Raises:
        DiskFull: if there is no room.
    """
    partial = path.with_name(f"{path.name}.partial")
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)  # what a killed process left
        try:
            yield partial
            partial.replace(path)
        except BaseException:
            _remove(partial)
            raise


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Tell of a full disk, or a used-up quota, as :class:`DiskFull`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # By its text: safetensors has no errno.
        if not any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            raise
        raise DiskFull(
            f"the disk is full: {path.name} could not be written under {path.parent}; no finished run is "
            "lost; free some space and give the same command again"
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------- directories


def seal(folder: Path, left_out: Iterable[str] = ()) -> None:
    """Keep the sha256 of every file of a directory in its manifest, and null for those that were left out."""
    manifest = {path.name: sha256(path) for path in sorted(folder.iterdir())} | dict.fromkeys(left_out)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a sealed directory, or None; null stands for a file left out."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        changed = [name for name, told in manifest.items() if told and sha256(folder / name) != told]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return str(error)
    return f"{', '.join(changed)} changed" if changed else None


def sha256(path: Path) -> str:
    """Hex digest of a file; a pipe, which would be waited for, counts as none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --------------------------------------------------------------------------------------------- arrays


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with written(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path, fits: Callable[[Arrays], bool] = lambda found: True) -> Arrays | None:
    """The arrays of a file; None if it isn't there, or with a warning if it is damaged or doesn't fit.

    Nothing is unpickled, and nothing trusted that the file claims of its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > LARGEST:
                raise ValueError(f"its arrays claim more than {LARGEST:,} bytes")
            arrays = {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
        if not fits(arrays):
            raise ValueError("it holds something else")
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged zip archive makes its readers raise
        warnings.warn(f"{path} is damaged ({one_line(error)}): made again", stacklevel=3)
        return None
    return arrays


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


# ---------------------------------------------------------------------------------------- checkpoints


def write_tensors(path: Path, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Keep tensors of any device, and texts, with a checksum over all of them."""
    tensors = on_host(tensors)
    with written(path) as partial:
        save_file(tensors, partial, metadata=texts | {"sha256": _digest(tensors, texts)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What :func:`write_tensors` kept.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from error
    if texts.pop("sha256", None) != _digest(tensors, texts):
        raise ValueError("its content does not match its sha256")
    return tensors, texts


def read_texts(path: Path) -> dict[str, str]:
    """The texts alone, unchecked: that is quick.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from error


def on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _digest(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
