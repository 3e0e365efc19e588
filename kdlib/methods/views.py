"""Transformed images for the methods that use them, and for their controls.

Whole batches, uint8 in and out, where the images lie; random numbers come from torch's global generator.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.data import PADDING, augment
from kdlib.methods.base import Batch

# Strengths of `transformed`; CAPD's paper names the kinds of change, but no strengths.
COLOUR = 0.4  # brightness, contrast and saturation by a factor of 1 ± this
SMALLEST_CROP = 0.5  # share of the area
LARGEST_ANGLE = math.radians(20)
MASK = 0.25  # share of the side
LARGEST_NOISE = 0.1  # standard deviation, of pixels in [0, 1]


def rotations(batch: Batch) -> Tensor:
    """Four views of each image in turn, turned by 0, 90, 180 and 270 degrees: (4 B, 3, H, W).

    The upright one is the batch's own. The others are flipped as it is, and cropped each in its own way.
    """
    flipped = torch.where(batch.flip[:, None, None, None], batch.originals.flip(-1), batch.originals)
    turned = torch.stack([flipped.rot90(turns, (-2, -1)) for turns in (1, 2, 3)], dim=1).flatten(0, 1)
    device, count = turned.device, len(turned)
    crop = torch.randint(0, 2 * PADDING + 1, (count, 2), device=device)
    cropped = augment(turned, crop, torch.zeros(count, dtype=torch.bool, device=device))
    return torch.cat([batch.images[:, None], cropped.unflatten(0, (-1, 3))], dim=1).flatten(0, 1)


def transformed(images: Tensor, probability: float) -> Tensor:
    """Each image (B, 3, H, W), with the given probability, changed in five ways at once.

    A part of it is rotated and enlarged, its colours change, noise is added, and a square is made black.
    """
    changed = _jittered(_warped(images.float() / 255))
    changed = changed + _uniform(0, LARGEST_NOISE, images) * torch.randn_like(changed)
    changed = (changed.clamp(0, 1) * 255).round().to(torch.uint8)
    changed = changed.masked_fill(_square(images), 0)
    return torch.where(_uniform(0, 1, images) < probability, changed, images)


def _uniform(low: float, high: float, images: Tensor) -> Tensor:
    """A number for each image: (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, device=images.device)


def _warped(images: Tensor) -> Tensor:
    """A random crop at a random angle, at the size of the image; black where it reaches beyond."""
    side = _uniform(SMALLEST_CROP, 1, images).sqrt().flatten()
    angle = _uniform(-LARGEST_ANGLE, LARGEST_ANGLE, images).flatten()
    x, y = (_uniform(-1, 1, images).flatten() * (1 - side) for _ in range(2))
    cosine, sine = side * angle.cos(), side * angle.sin()
    place = torch.stack([cosine, -sine, x, sine, cosine, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(place, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _jittered(images: Tensor) -> Tensor:
    """Random brightness, contrast and saturation."""
    brightness, contrast, saturation = (_uniform(1 - COLOUR, 1 + COLOUR, images) for _ in range(3))
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * saturation


def _square(images: Tensor) -> Tensor:
    """True in a square at a random place: (B, 1, H, W)."""
    height, width = images.shape[-2:]
    side = round(MASK * height)
    row = torch.arange(height, device=images.device)[:, None] - _uniform(0, height - side + 1, images).floor()
    column = torch.arange(width, device=images.device) - _uniform(0, width - side + 1, images).floor()
    return (row >= 0) & (row < side) & (column >= 0) & (column < side)
