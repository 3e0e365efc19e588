"""What every probe returns, and what several of them do to images: rounding, patches, noise, neutral paint.

Probes give the same bits on every processor. Torch's uniform random numbers are the same everywhere, but
``sqrt``, ``log``, convolutions, matrix products and ``randn`` may round differently on another processor, and
so may a sum in another order. So probes use + - x / on whole tensors, sums of whole numbers, which are exact
in any order, and NumPy's square root. Where this isn't possible they compute in float64 and round once, at
the end: a difference of 1e-16 then changes a pixel about once in 1e13.
"""

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # Rec. 601 weights of red, green, blue


@dataclass(frozen=True, eq=False)  # tensors have no single truth value, so no ==
class Stimuli:
    """The images a model is asked to classify, and what is known about each of them."""

    images: Tensor  # uint8 (N, 3, H, W)
    labels: Tensor  # int64 (N,), the class of the shape where shape and texture disagree
    ids: Tensor  # int64 (N,), index of the source image in the test set that was given
    texture_labels: Tensor | None = None  # int64 (N,), the second cue's class where there are two
    meta: dict[str, float] = field(default_factory=dict)  # e.g. share of clipped values
    recorded: str = ""  # the digest of images that are not at hand; ``images`` is then empty

    @property
    def sha256(self) -> str:
        """Hex digest of the uint8 images, in their order."""
        return self.recorded or digest(self.images)


def digest(images: Tensor) -> str:
    """sha256 of uint8 images (N, 3, H, W), in hexadecimal."""
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()


def as_classes(labels: Tensor) -> Tensor:
    """Labels of any type as int64; ValueError unless they are whole numbers from 0."""
    found = labels.double()
    if not ((found >= 0) & (found == found.floor())).all():
        raise ValueError("labels must be classes, whole numbers from 0")
    return labels.long()


def in_place_of(images: Tensor, labels: Tensor, **meta: float) -> Stimuli:
    """Stimuli that stand in for the test images one for one: same order, same labels."""
    return Stimuli(images, labels, torch.arange(len(images)), None, meta)


def to_uint8(values: Tensor) -> tuple[Tensor, float]:
    """Clamp to [0, 1] and round to uint8; also the share of values that the clamp changed."""
    clipped = ((values < 0) | (values > 1)).double().mean().item()
    return (values.clamp(0, 1) * 255).round().to(torch.uint8), clipped


def rounded(values: Tensor, labels: Tensor) -> Stimuli:
    """Stimuli of floats, one for each test image; ``meta["clipped"]`` is the share outside [0, 1]."""
    images, clipped = to_uint8(values)
    return in_place_of(images, labels, clipped=clipped)


def luma(images: Tensor) -> Tensor:
    """Rec. 601 luma of uint8 (N, 3, H, W) in thousandths of a level: whole numbers, float64 (N, 1, H, W)."""
    red, green, blue = images.double().split(1, dim=1)
    return 299 * red + 587 * green + 114 * blue


def sqrt(values: Tensor) -> Tensor:
    """The square root, rounded as IEEE 754 asks; ``torch.sqrt`` leaves the last bit to MKL."""
    return torch.from_numpy(np.sqrt(values.numpy()))


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The numbers of ``torch.randn``, of 16 or more, through float64: the same on every processor.

    Each of 8 uniform numbers is paired with one of the next 8 (Box & Muller 1958), and the last 16 are drawn
    anew where 16 doesn't divide the count.
    """
    count = math.prod(shape)
    made = _box_muller(torch.rand(count, generator=generator)[: count // 16 * 16])
    if count % 16:
        made = torch.cat([made[: count - 16], _box_muller(torch.rand(16, generator=generator))])[-count:]
    return made.view(shape)


def _box_muller(uniform: Tensor) -> Tensor:
    length, turn = uniform.double().view(-1, 2, 8).unbind(1)
    radius, angle = (-2 * (1 - length).log()).sqrt(), 2 * math.pi * turn
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1).flatten().float()


def mean_colour(images: Tensor) -> Tensor:
    """The colour of uint8 (N, C, H, W) on average, uint8 (C, 1, 1): paint that tells of no class."""
    return images.double().mean(dim=(0, 2, 3)).round().to(torch.uint8).view(-1, 1, 1)


def must_divide(name: str, value: int, images: Tensor) -> None:
    """Raise ValueError unless ``value`` divides both sides of (N, C, H, W)."""
    height, width = images.shape[2:]
    if height % value or width % value:
        raise ValueError(f"{name} {value} doesn't divide images of {height}x{width}; choose one that does.")


def cut(images: Tensor, rows: int, columns: int) -> Tensor:
    """(N, C, H, W) to patches of ``rows`` x ``columns`` px in reading order, (N, P, C, rows, columns)."""
    patches = images.unfold(2, rows, rows).unfold(3, columns, columns)
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def join(patches: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`cut`."""
    rows, columns = patches.shape[3:]
    grid = patches.unflatten(1, (height // rows, width // columns))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def clean(images: Tensor, labels: Tensor, generator: torch.Generator) -> Stimuli:
    """The images as they are, bit for bit."""
    return in_place_of(images, labels)
