"""Stimuli by a probe's name, kept on disk."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from kdlib.disk import Arrays, lock, read_arrays, write_arrays
from kdlib.messages import lookup
from kdlib.probes.base import Stimuli, as_classes
from kdlib.probes.registry import PROBES

VERSION = 3  # of the probes' code: raise it when a change of the code changes an image


def stimuli(
    name: str, images: ArrayLike, labels: ArrayLike, seed: int = 0, cache: str | Path | None = None
) -> Stimuli:
    """The stimuli of a probe by its name, from the cache directory where it holds them.

    ``images`` are uint8 (N, 3, H, W), ``labels`` whole numbers (N,); tensors on the CPU, or NumPy's arrays.

    The file's name covers probe, parameters, seed, images and labels. ``meta["seconds"]`` is the time that
    making them took. Raises UnknownName for another probe, ValueError for images or labels that it refuses.
    """
    probe = lookup("probe", name, PROBES)
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if cache is None:
        return probe(images, labels, seed)
    asked = {"images": images.numpy(), "labels": as_classes(labels).numpy()}
    path = Path(cache) / f"{name}-{_digest(asked, f'{VERSION}{probe.describe(seed)}')[:20]}.npz"
    with lock(Path(f"{path}.lock"), path):  # what several processes need is made once
        arrays = read_arrays(path, lambda found: str(found["sha256"]) == _digest(found))
        if arrays is None:
            start = time.perf_counter()
            made = probe(images, labels, seed)
            made.meta["seconds"] = time.perf_counter() - start
            _write(path, made)
            return made
    meta = json.loads(str(arrays.pop("meta")))
    arrays.pop("sha256")
    return Stimuli(**{field: torch.from_numpy(array) for field, array in arrays.items()}, meta=meta)


def _write(path: Path, made: Stimuli) -> None:
    tensors = {"images": made.images, "labels": made.labels, "ids": made.ids}
    if made.texture_labels is not None:
        tensors["texture_labels"] = made.texture_labels
    arrays = {field: tensor.numpy() for field, tensor in tensors.items()}
    arrays["meta"] = np.array(json.dumps(made.meta))
    write_arrays(path, arrays | {"sha256": np.array(_digest(arrays))})


def _digest(arrays: Arrays, text: str = "") -> str:
    """Of all arrays but the digest itself, with their names, types and shapes."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays.keys() - {"sha256"}):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()
