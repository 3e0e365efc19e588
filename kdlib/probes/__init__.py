"""Probes: changed test images that each ask one question about what a model relies on.

A probe takes uint8 images at their own size and returns uint8: normalising and resizing are a model's
business, and the same for clean and probe images.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from kdlib.disk import Arrays, read_arrays, write_arrays
from kdlib.names import lookup
from kdlib.probes import corruptions, cue_conflict, foreground, frequency, noise, scramble, shape, texture
from kdlib.probes.base import Stimuli, clean

__all__ = ["PROBES", "Probe", "Stimuli", "series", "stimuli"]


@dataclass(frozen=True)
class Probe:
    """A named way to change test images. ``function(images, labels, generator, **params)`` does it."""

    name: str
    family: str  # "clean", "texture", "suppression", "shape", "scramble", "noise", ...: those shown together
    question: str  # for readers
    function: Callable[..., Stimuli]
    params: dict
    baseline: str = "clean"  # the probe that shows the same images without the change in question
    series: str = ""  # its name unless given: one change in several strengths, or one with its controls
    level: int = 0  # strength within the series, from 1; 0 outside such an order
    control: str | None = None  # the probe that it must differ from, for its effect to be what its name says
    tier: str = "core"  # or "extended"

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", self.series or self.name)

    def describe(self, seed: int) -> str:
        """Canonical JSON of what defines the images made: name, parameters, series and seed."""
        return _canonical(self.name, self.params, self.series, seed)

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
        # The name is no part of it: levels and controls of one series get the same random numbers, so that
        # what differs between them is the strength's doing and not the draw's.
        digest = hashlib.sha256(_canonical(self.series, seed).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        return self.function(images, labels.long(), generator, **self.params)


def _canonical(*values) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


# fmt: off
CORRUPTIONS = {  # severities of CIFAR-10-C from the mildest on
    "gaussian_noise": (noise.gaussian_noise, "sigma", (0.04, 0.06, 0.08, 0.09, 0.10),
                       "core", "Gaussian noise of sigma"),
    "shot": (corruptions.shot, "rate", (500, 250, 100, 75, 50), "core", "shot noise of rate"),
    "impulse": (corruptions.impulse, "share", (0.01, 0.02, 0.03, 0.05, 0.07),
                "core", "salt and pepper on a share of"),
    "speckle": (corruptions.speckle, "sigma", (0.06, 0.10, 0.12, 0.16, 0.20), "extended", "speckle of sigma"),
    "gaussian_blur": (texture.blur, "sigma", (0.4, 0.6, 0.7, 0.8, 1.0), "extended", "blur of sigma"),
    "contrast": (corruptions.contrast, "factor", (0.75, 0.5, 0.4, 0.3, 0.15), "extended", "contrast cut to"),
    "brightness": (corruptions.brightness, "shift", (0.05, 0.1, 0.15, 0.2, 0.3),
                   "extended", "brightness raised by"),
    "pixelate": (corruptions.pixelate, "factor", (0.95, 0.9, 0.85, 0.75, 0.65),
                 "extended", "a resolution cut to"),
    "jpeg": (corruptions.jpeg, "quality", (80, 65, 58, 50, 40), "extended", "JPEG of quality"),
}

PROBES: dict[str, Probe] = {probe.name: probe for probe in (
    Probe("clean", "clean", "How often is the model right on unchanged images?", clean, {}),

    Probe("cue_conflict", "texture", "When shape and texture name different classes, which does it follow?",
          cue_conflict.cue_conflict, {"per_pair": 20, "content_weight": 1.0}, control="colour_axis"),
    Probe("colour_axis", "texture", "When only the colours are of another class, does it follow the shape?",
          cue_conflict.cue_conflict, {"per_pair": 20, "steps": 0}, series="cue_conflict"),
    Probe("pure_texture", "texture", "Does it know a class by its texture alone?",
          cue_conflict.cue_conflict, {"per_pair": 20, "content_weight": 0.0, "start": "noise"},
          series="cue_conflict"),
    Probe("no_conflict", "texture", "What does repainting cost when shape and texture are of one class?",
          cue_conflict.cue_conflict, {"per_pair": 5, "same_class": True}),

    *(Probe(f"superpixels_{n}", "suppression", f"Are {n} flat regions with their contours enough?",
            texture.superpixels, {"n": n}, series="superpixels", level=level,
            control="grid_mean_64" if n == 64 else None)
      for level, n in enumerate((256, 100, 64, 36), 1)),
    Probe("grid_mean_64", "suppression", "Are 64 flat squares enough, whatever the contours?",
          texture.grid_mean, {"grid": 8}),
    Probe("grey", "suppression", "Is it enough without colour?", texture.grey, {}),
    *(Probe(f"blur_{sigma}", "suppression", f"Is it enough without detail finer than {sigma} px?",
            texture.blur, {"sigma": float(sigma)}, series="blur", level=level)
      for level, sigma in enumerate((1, 2), 1)),

    Probe("edges", "shape", "Are outlines, without colour and texture, enough?", shape.edges, {}),

    Probe("foreground", "foreground", "Is the figure enough, on plain ground?",
          foreground.foreground, {"keep": "figure"}, control="foreground_disc", tier="extended"),
    Probe("foreground_disc", "foreground", "Is a disc at the centre, as large as the figure, enough?",
          foreground.foreground, {"keep": "figure", "mask": "disc"}, tier="extended"),
    Probe("foreground_other", "foreground", "Is what lies under another image's figure enough?",
          foreground.foreground, {"keep": "figure", "mask": "other"}, series="foreground", tier="extended"),
    Probe("background", "foreground", "Is the ground enough, without the figure?",
          foreground.foreground, {"keep": "ground"}, control="background_other", tier="extended"),
    Probe("background_other", "foreground", "Is what lies around another image's figure enough?",
          foreground.foreground, {"keep": "ground", "mask": "other"}, series="foreground", tier="extended"),

    *(Probe(f"scramble_{grid}", "scramble", f"Does it need the layout of {grid**2} patches?",
            scramble.scramble, {"grid": grid}, series="scramble", level=level)
      for level, grid in enumerate((2, 4, 8), 1)),
    *(Probe(f"scramble_{grid}_offset", "scramble",
            f"Does it need the layout of {grid**2} patches cut across ViT tokens?",
            scramble.scramble, {"grid": grid, "offset": 2}, series="scramble_offset", level=level)
      for level, grid in enumerate((2, 4, 8), 1)),
    *(Probe(f"scramble_{grid}_gutter", "scramble",
            f"Does it need the layout of {grid**2} patches whose seams are painted?",
            scramble.scramble, {"grid": grid, "gutter": 1}, series="scramble_gutter", level=level,
            baseline=f"intact_{grid}_gutter", control=f"intact_{grid}_gutter")
      for level, grid in enumerate((2, 4), 1)),
    *(Probe(f"intact_{grid}_gutter", "scramble",
            f"What do the painted seams of {grid**2} patches cost by themselves?",
            scramble.scramble, {"grid": grid, "gutter": 1, "shuffle": False}, series="scramble_gutter")
      for grid in (2, 4)),
    *(Probe(f"pixel_shuffle_{size}", "scramble", f"Does it need the order inside patches of {size} px?",
            scramble.pixel_shuffle, {"size": size}, series="pixel_shuffle", level=level)
      for level, size in enumerate((2, 4, 8), 1)),

    Probe("local_noise", "noise", "Does noise on an 11 px square at the centre mislead it?",
          noise.local_noise, {"size": 11, "sigma": 0.5}, control="grey_box"),
    Probe("local_noise_strong", "noise", "Does noise four times as strong on that square mislead it?",
          noise.local_noise, {"size": 11, "sigma": 2.0}, series="local_noise", control="grey_box"),
    Probe("grey_box", "noise", "What does hiding that square cost by itself?", noise.grey_box, {"size": 11}),

    *(Probe(f"{name}_{level}", "corruption", f"Does it withstand {what} {value}?",
            function, {parameter: value}, series=name, level=level, tier=tier)
      for name, (function, parameter, values, tier, what) in CORRUPTIONS.items()
      for level, value in enumerate(values, 1)),

    *(Probe(f"patch_drop_{percent}", "occlusion", f"Does it withstand the loss of {percent}% of the patches?",
            noise.patch_drop, {"share": percent / 100}, series="patch_drop", level=level)
      for level, percent in enumerate((25, 50, 75), 1)),
    *(Probe(f"patch_drop_{percent}_offset", "occlusion",
            f"Does it withstand the loss of {percent}% of the patches, cut across ViT tokens?",
            noise.patch_drop, {"share": percent / 100, "offset": 2}, series="patch_drop_offset", level=level)
      for level, percent in enumerate((25, 50, 75), 1)),

    Probe("frequency_conflict", "frequency", "Of two images over each other, does it see the coarse one?",
          frequency.frequency_conflict, {"per_pair": 20, "sigma": 2.0}, tier="extended"),
    *(Probe(f"band_noise_{band + 1}", "frequency",
            f"Does it withstand noise of frequency band {band + 1} of 8, from coarse to fine?",
            frequency.band_noise, {"band": band, "bands": 8, "norm": 4.0},
            series="band_noise", level=band + 1, tier="extended")
      for band in range(8)),
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
