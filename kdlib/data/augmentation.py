"""Crops and flips of whole batches where the data lies: a function of (seed, epoch) alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4  # px of zeros around an image, out of which it is cropped


def epoch_plan(count: int, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
    """What happens to every training image in one epoch: the images' order, and of each its crop and flip.

    Int64 (N,), int64 (N, 2) in [0, 2 * PADDING], and bool (N,). Drawn on the CPU, so that every device and
    every method of a seed gets the same.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return (
        torch.randperm(count, generator=generator),
        torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator),
        torch.rand(count, generator=generator) < 0.5,
    )


def augment(images: Tensor, crop: Tensor, flip: Tensor) -> Tensor:
    """Crop each image out of its zero-padded self and flip some.

    Args:
        images: (B, 3, H, W).
        crop: (B, 2) upper left corner in the padded image; PADDING for both leaves an image in place.
        flip: (B,) whether to mirror left and right.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (PADDING,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, 3, 9, 9, H, W), all possible crops
    cropped = windows[torch.arange(len(images), device=images.device), :, crop[:, 0], crop[:, 1]]
    return torch.where(flip[:, None, None, None], cropped.flip(3), cropped)
