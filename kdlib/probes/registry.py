"""The table of probes: which question each asks of a model, what it is compared with, and its images."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kdlib.disk import Arrays, kept
from kdlib.messages import lookup
from kdlib.probes.base import Stimuli, as_classes, clean
from kdlib.probes.cue_conflict import cue_conflict
from kdlib.probes.noise import gaussian_noise, grey_box, impulse, local_noise, patch_drop, shot
from kdlib.probes.scramble import pixel_shuffle, scramble
from kdlib.probes.suppression import blur, edges, grey, grid_mean, superpixels

VERSION = 3  # of the probes' code: raise it when a change of the code changes an image


@dataclass(frozen=True)
class Probe:
    """A named way to change test images. ``function(images, labels, generator, **params)`` does it."""

    name: str
    family: str  # "clean", "texture", "suppression", "shape", "scramble", "noise", ...: those shown together
    question: str  # for readers
    function: Callable[..., Stimuli]
    params: dict
    reference: str = "clean"  # the probe that shows the same images without the change in question
    series: str = ""  # its name unless given: one change in several strengths, or one with its controls
    level: int = 0  # strength within the series, from 1; 0 outside such an order
    control: str | None = None  # the probe that it must differ from, for its effect to be what its name says

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", self.series or self.name)

    def describe(self, seed: int) -> str:
        """Canonical JSON of what defines the images made: name, parameters, series and seed."""
        return _canonical(self.name, self.params, self.series, seed)

    def __call__(self, images: Tensor, labels: Tensor, seed: int = 0) -> Stimuli:
        """Make the stimuli from uint8 (N, 3, H, W) and labels (N,), both on the CPU.

        Raises ValueError for images of another type or shape, or labels that are not one class an image.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            told = f"images are {images.dtype} {tuple(images.shape)}"
            raise ValueError(f"{told}; a probe takes raw uint8 (N, 3, H, W).")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images, labels of shape {tuple(labels.shape)}; give one each.")
        # Levels and controls of a series get the same random numbers, so that they differ in strength alone.
        # An image's numbers depend on the whole set given: take subsets of stimuli, not of images.
        digest = hashlib.sha256(_canonical(self.series, seed).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        return self.function(images, as_classes(labels), generator, **self.params)


def _canonical(*values) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=int)  # NumPy's seeds too


CORRUPTIONS = {  # noise robustness; severities of CIFAR-10-C, from the mildest
    "gaussian_noise": (gaussian_noise, "sigma", (0.04, 0.06, 0.08, 0.09, 0.10), "Gaussian noise of sigma {}"),
    "shot": (shot, "rate", (500, 250, 100, 75, 50), "shot noise at {} photons for white"),
    "impulse": (impulse, "share", (0.01, 0.02, 0.03, 0.05, 0.07), "salt and pepper on {:.0%} of the values"),
}

# fmt: off
PROBES: dict[str, Probe] = {probe.name: probe for probe in (
    Probe("clean", "clean", "How accurate is the model on unchanged images?", clean, {}),

    # Shape bias and texture bias
    Probe("cue_conflict", "texture", "Does it follow shape or texture when they are of different classes?",
          cue_conflict, {"per_pair": 20}, control="colour_axis"),
    Probe("colour_axis", "texture", "Does it follow shape or colour when they are of different classes?",
          cue_conflict, {"per_pair": 20, "steps": 0}, series="cue_conflict"),
    Probe("pure_texture", "texture", "Does it recognise a class by its texture alone?",
          cue_conflict, {"per_pair": 20, "kind": "texture"}, series="cue_conflict"),
    Probe("no_conflict", "texture", "How accurate is it when a texture of the same class is painted on?",
          cue_conflict, {"per_pair": 5, "kind": "same class"}),
    *(Probe(f"superpixels_{n}", "suppression", f"Does it recognise {n} flat regions with true contours?",
            superpixels, {"n": n}, series="superpixels", level=level,
            control="grid_mean_64" if n == 64 else None)
      for level, n in enumerate((256, 100, 64, 36), 1)),
    Probe("grid_mean_64", "suppression", "Does it recognise 64 flat squares?", grid_mean, {"grid": 8}),
    Probe("grey", "suppression", "Does it recognise images without colour?", grey, {}),
    *(Probe(f"blur_{sigma}", "suppression", f"Is it robust to Gaussian blur of sigma {sigma} px?",
            blur, {"sigma": float(sigma)}, series="blur", level=level)
      for level, sigma in enumerate((1, 2), 1)),
    Probe("edges", "shape", "Does it recognise outlines without colour and texture?", edges, {}),

    # Permutation invariance and locality
    *(Probe(f"scramble_{grid}", "scramble", f"Is it invariant to a permutation of {grid**2} patches?",
            scramble, {"grid": grid}, series="scramble", level=level)
      for level, grid in enumerate((2, 4, 8), 1)),
    *(Probe(f"scramble_{grid}_offset", "scramble",
            f"Is it invariant to a permutation of {grid**2} patches that straddle the ViT's tokens?",
            scramble, {"grid": grid, "offset": 2}, series="scramble_offset", level=level)
      for level, grid in enumerate((2, 4, 8), 1)),
    *(Probe(f"scramble_{grid}_gutter", "scramble",
            f"Is it invariant to a permutation of {grid**2} patches with painted seams?",
            scramble, {"grid": grid, "gutter": 1}, series="scramble_gutter", level=level,
            reference=f"intact_{grid}_gutter", control=f"intact_{grid}_gutter")
      for level, grid in enumerate((2, 4), 1)),
    *(Probe(f"intact_{grid}_gutter", "scramble",
            f"Is it robust to painted seams around {grid**2} patches that stay in place?",
            scramble, {"grid": grid, "gutter": 1, "shuffle": False}, series="scramble_gutter")
      for grid in (2, 4)),
    *(Probe(f"pixel_shuffle_{size}", "scramble",
            f"Is it invariant to a permutation of the pixels within patches of {size} px?",
            pixel_shuffle, {"size": size}, series="pixel_shuffle", level=level)
      for level, size in enumerate((2, 4, 8), 1)),

    # Noise robustness and occlusion
    Probe("local_noise", "noise", "Is it robust to noise on a square of 11 px at the centre?",
          local_noise, {"size": 11, "sigma": 0.5}, control="grey_box"),
    Probe("local_noise_strong", "noise", "Is it robust to noise four times as strong on that square?",
          local_noise, {"size": 11, "sigma": 2.0}, series="local_noise", control="grey_box"),
    Probe("grey_box", "noise", "Is it robust to a grey square in that place?", grey_box, {"size": 11}),
    *(Probe(f"{name}_{level}", "corruption", f"Is it robust to {what.format(value)}?",
            function, {parameter: value}, series=name, level=level)
      for name, (function, parameter, values, what) in CORRUPTIONS.items()
      for level, value in enumerate(values, 1)),
    *(Probe(f"patch_drop_{percent}", "occlusion", f"Is it robust to the loss of {percent}% of the patches?",
            patch_drop, {"share": percent / 100}, series="patch_drop", level=level)
      for level, percent in enumerate((25, 50, 75), 1)),
    *(Probe(f"patch_drop_{percent}_offset", "occlusion",
            f"Is it robust to the loss of {percent}% of patches that straddle the ViT's tokens?",
            patch_drop, {"share": percent / 100, "offset": 2}, series="patch_drop_offset", level=level)
      for level, percent in enumerate((25, 50, 75), 1)),
)}
# fmt: on


def series() -> dict[str, list[str]]:
    """Name of each series -> its probes from the mildest to the strongest."""
    found = {}
    for probe in sorted(PROBES.values(), key=lambda probe: probe.level):
        if probe.level:
            found.setdefault(probe.series, []).append(probe.name)
    return found


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

    def make() -> Arrays:
        start = time.perf_counter()
        made = probe(images, labels, seed)
        made.meta["seconds"] = time.perf_counter() - start
        arrays = {key: value.numpy() for key, value in vars(made).items() if isinstance(value, Tensor)}
        return arrays | {"meta": np.array(json.dumps(made.meta))}

    key = hashlib.sha256(f"{VERSION}{probe.describe(seed)}".encode())
    for part, tensor in (("images", images), ("labels", as_classes(labels))):
        array = np.ascontiguousarray(tensor.numpy())
        key.update(f"{part}{array.dtype}{array.shape}".encode() + array.tobytes())
    path = Path(cache) / f"{name}-{key.hexdigest()[:20]}.npz"
    arrays = kept(path, make, Path(f"{path}.lock"))
    known = ("images", "labels", "ids", "texture_labels")
    tensors = {key: torch.from_numpy(arrays[key]) for key in known if key in arrays}
    return Stimuli(**tensors, meta=json.loads(str(arrays["meta"])))
