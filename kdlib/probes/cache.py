"""Stimuli by a probe's name, kept on disk."""

import hashlib
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from kdlib.disk import Arrays, read_arrays, write_arrays
from kdlib.names import lookup
from kdlib.probes.base import Stimuli
from kdlib.probes.registry import PROBES


def stimuli(
    name: str, images: Tensor, labels: Tensor, seed: int = 0, cache: str | Path | None = None
) -> Stimuli:
    """The stimuli of a probe by its name, from the cache directory where it holds them.

    The file's name covers probe, parameters, seed, images and labels; delete the directory after changing a
    probe's code. Floats differ a little between machines, so the uint8 images are what is kept, with the time
    that making them took, ``meta["seconds"]``.

    Raises:
        UnknownName: no such probe.
        ValueError: the probe doesn't accept these images and labels.
    """
    probe = lookup("probe", name, PROBES)
    if cache is None:
        return probe(images, labels, seed)
    key = hashlib.sha256(f"{probe.describe(seed)}{images.dtype}{tuple(images.shape)}".encode())
    for array in (images, labels.long()):
        key.update(array.contiguous().numpy().tobytes())
    path = Path(cache) / f"{name}-{key.hexdigest()[:20]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # what several processes need is made once
        made = _read(path, images, labels)
        if made is None:
            start = time.perf_counter()
            made = probe(images, labels, seed)
            made.meta["seconds"] = time.perf_counter() - start
            _write(path, made)
        return made


def _write(path: Path, made: Stimuli) -> None:
    arrays = {"images": made.images, "labels": made.labels, "ids": made.ids}
    if made.texture_labels is not None:
        arrays["texture_labels"] = made.texture_labels
    arrays = {field: tensor.numpy() for field, tensor in arrays.items()}
    write_arrays(path, arrays | {"meta": np.array(json.dumps(made.meta)), "sha256": np.array(made.sha256)})


def _read(path: Path, images: Tensor, labels: Tensor) -> Stimuli | None:
    """Stimuli that can have been made of these images and labels."""
    arrays = read_arrays(path, lambda found: _fit(found, images, labels))
    if arrays is None:
        return None
    meta, digest = json.loads(str(arrays.pop("meta"))), str(arrays.pop("sha256"))
    read = Stimuli(**{field: torch.from_numpy(array) for field, array in arrays.items()}, meta=meta)
    if read.sha256 != digest:
        warnings.warn(f"{path} is damaged (its images don't match their sha256): made again", stacklevel=3)
        return None
    return read


def _fit(arrays: Arrays, images: Tensor, labels: Tensor) -> bool:
    numbers = [name for name in ("labels", "ids", "texture_labels") if name in arrays]
    highest = {"ids": len(images) - 1}
    return (
        {"images", "labels", "ids", "meta", "sha256"} <= set(arrays) <= {"images", "meta", "sha256", *numbers}
        and arrays["images"].dtype == np.uint8
        and arrays["images"].shape[1:] == images.shape[1:]
        and isinstance(json.loads(str(arrays["meta"])), dict)
        and all(
            arrays[name].dtype == np.int64
            and arrays[name].shape == arrays["images"].shape[:1]
            and ((arrays[name] >= 0) & (arrays[name] <= highest.get(name, int(labels.max())))).all()
            for name in numbers
        )
    )
