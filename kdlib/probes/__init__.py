"""Probes: changed test images that each ask one question about what a model relies on.

A probe takes uint8 images at their own size and returns uint8: normalising and resizing are a model's
business, and the same for clean and probe images.
"""

import hashlib
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib.names import lookup
from kdlib.probes import cue_conflict, noise, scramble, shape, superpixels
from kdlib.probes.base import Stimuli, clean

__all__ = ["PROBES", "Probe", "Stimuli", "stimuli"]


@dataclass(frozen=True)
class Probe:
    """A named way to change test images. ``function(images, labels, generator, **params)`` does it."""

    name: str
    family: str  # "clean", "texture", "shape", "superpixels", "scramble" or "noise"
    question: str  # for readers
    function: Callable[..., Stimuli]
    params: dict
    baseline: str = "clean"  # the probe that shows the same images without the change in question

    def describe(self, seed: int) -> str:
        """Canonical JSON of what defines the probe's draws: name, parameters and seed."""
        return json.dumps([self.name, self.params, seed], sort_keys=True, separators=(",", ":"))

    def __call__(self, images: Tensor, labels: Tensor, seed: int = 0) -> Stimuli:
        """Make the stimuli from uint8 (N, 3, H, W) and labels (N,), both on the CPU.

        Raises:
            ValueError: images of another type or shape, or not one label an image.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images are {images.dtype} {tuple(images.shape)}; a probe takes raw uint8 (N, 3, H, W)."
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images, labels of shape {tuple(labels.shape)}; give one each.")
        # Every probe draws for the whole set given, in one call and before any batching, so batches can't
        # change an image. Image i's draw does depend on the set: take subsets of stimuli, not of images.
        digest = hashlib.sha256(self.describe(seed).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        return self.function(images, labels.long(), generator, **self.params)


# fmt: off
PROBES: dict[str, Probe] = {probe.name: probe for probe in (
    Probe("clean", "clean", "How often is the model right on unchanged images?", clean, {}),
    Probe("cue_conflict", "texture", "When shape and texture name different classes, which does it follow?",
          cue_conflict.cue_conflict, {"per_pair": 20, "content_weight": 1.0}),
    Probe("edges", "shape", "Are outlines, without colour and texture, enough?", shape.edges, {}),
    Probe("superpixels", "superpixels", "Are flat regions with their contours, without texture, enough?",
          superpixels.superpixels, {"n": 100}),
    Probe("scramble_2", "scramble", "Does it need the layout of 4 patches?",
          scramble.scramble, {"grid": 2}),
    Probe("scramble_4", "scramble", "Does it need the layout of 16 patches?",
          scramble.scramble, {"grid": 4}),
    Probe("scramble_8", "scramble", "Does it need the layout of 64 patches?",
          scramble.scramble, {"grid": 8}),
    Probe("scramble_2_gutter", "scramble", "Does it need the layout of 4 patches whose seams are painted?",
          scramble.scramble, {"grid": 2, "gutter": 1}, baseline="intact_2_gutter"),
    Probe("scramble_4_gutter", "scramble", "Does it need the layout of 16 patches whose seams are painted?",
          scramble.scramble, {"grid": 4, "gutter": 1}, baseline="intact_4_gutter"),
    Probe("intact_2_gutter", "scramble", "What do the painted seams of 4 patches cost by themselves?",
          scramble.scramble, {"grid": 2, "gutter": 1, "shuffle": False}),
    Probe("intact_4_gutter", "scramble", "What do the painted seams of 16 patches cost by themselves?",
          scramble.scramble, {"grid": 4, "gutter": 1, "shuffle": False}),
    Probe("scramble_2_offset", "scramble", "Does it need the layout of 4 patches cut across ViT tokens?",
          scramble.scramble, {"grid": 2, "offset": 2}),
    Probe("scramble_4_offset", "scramble", "Does it need the layout of 16 patches cut across ViT tokens?",
          scramble.scramble, {"grid": 4, "offset": 2}),
    Probe("scramble_8_offset", "scramble", "Does it need the layout of 64 patches cut across ViT tokens?",
          scramble.scramble, {"grid": 8, "offset": 2}),
    Probe("local_noise", "noise", "Does noise on an 11 px square at the centre mislead it?",
          noise.local_noise, {"size": 11, "sigma": 0.5, "place": "centre", "shared": False}),
    Probe("grey_box", "noise", "What does hiding that square cost by itself?", noise.grey_box, {"size": 11}),
    Probe("gaussian_noise", "noise", "Does it withstand noise over the whole image?",
          noise.gaussian_noise, {"sigma": 0.10}),
)}
# fmt: on


def stimuli(
    name: str, images: Tensor, labels: Tensor, seed: int = 0, cache: str | Path | None = None
) -> Stimuli:
    """The stimuli of a probe by its name, from the cache directory where it holds them.

    The file's name covers probe, parameters, seed, images and labels; delete the directory after changing a
    probe's code. Floats differ a little between machines, so the uint8 images are what is kept.

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
    if path.exists():
        try:
            return _read(path)
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(f"{path} is damaged ({error}); making it anew.", stacklevel=2)
    made = probe(images, labels, seed)
    _write(path, made)
    return made


def _write(path: Path, made: Stimuli) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": made.images, "labels": made.labels, "ids": made.ids}
    if made.texture_labels is not None:
        arrays["texture_labels"] = made.texture_labels
    arrays = {field: tensor.numpy() for field, tensor in arrays.items()}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, meta=json.dumps(made.meta), sha256=made.sha256)
    os.replace(temporary, path)  # a reader sees the whole file or none


def _read(path: Path) -> Stimuli:
    with np.load(path, allow_pickle=False) as file:
        arrays = {field: torch.from_numpy(file[field]) for field in file.files if file[field].ndim}
        meta, digest = json.loads(str(file["meta"])), str(file["sha256"])
    read = Stimuli(**arrays, meta=meta)
    if read.sha256 != digest:
        raise ValueError("the images don't match their sha256")
    return read
