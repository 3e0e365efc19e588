"""Noise on the whole image or on a square, the grey square that is the square's control, and lost patches.

Severities of Gaussian, shot and impulse noise are those of CIFAR-10-C (Hendrycks & Dietterich 2019); the
images are drawn anew, and rounded to uint8 where the published ones are truncated. Other packages' severity 1
has twice the noise (docs/other_libraries.md). All standard deviations are on the [0, 1] scale;
``meta["clipped"]`` is the share of all values that fell outside [0, 1].
"""

import torch
from torch import Tensor

from kdlib.probes.base import Stimuli, cut, in_place_of, join, mean_colour, must_divide, normal, rounded


def gaussian_noise(images: Tensor, labels: Tensor, generator: torch.Generator, sigma: float) -> Stimuli:
    """Independent Gaussian noise on every value of uint8 (N, C, H, W); sigma 0 changes no bit."""
    return rounded(images.float() / 255 + sigma * normal(images.shape, generator), labels)


def shot(images: Tensor, labels: Tensor, generator: torch.Generator, rate: float) -> Stimuli:
    """Photon counts: ``rate`` of them on average where a value is 1, so the variance is value / rate."""
    return rounded(torch.poisson(images.float() / 255 * rate, generator=generator) / rate, labels)


def impulse(images: Tensor, labels: Tensor, generator: torch.Generator, share: float) -> Stimuli:
    """Salt and pepper: each value becomes 0 or 255, with probability ``share / 2`` each; 0 changes no bit."""
    draws = torch.rand(images.shape, generator=generator)
    noisy = images.masked_fill(draws < share / 2, 0).masked_fill(draws >= 1 - share / 2, 255)
    return in_place_of(noisy, labels)


def _centre(images: Tensor, size: int) -> tuple:
    """Index of the square of ``size`` px in the middle of (N, C, H, W); ValueError where it doesn't fit."""
    height, width = images.shape[2:]
    if size > min(height, width):
        raise ValueError(f"a square of {size} px doesn't fit images of {height}x{width}.")
    top, left = (height - size) // 2, (width - size) // 2
    return ..., slice(top, top + size), slice(left, left + size)


def local_noise(
    images: Tensor, labels: Tensor, generator: torch.Generator, size: int, sigma: float
) -> Stimuli:
    """Gaussian noise on a square of ``size`` px at the centre; sigma 0 changes no bit."""
    values, where = images.float() / 255, _centre(images, size)
    values[where] += sigma * normal(values[where].shape, generator)
    return rounded(values, labels)


def grey_box(images: Tensor, labels: Tensor, generator: torch.Generator, size: int) -> Stimuli:
    """The square of :func:`local_noise` set to mid-grey: what is lost by hiding alone."""
    boxed = images.clone()
    boxed[_centre(images, size)] = 128
    return in_place_of(boxed, labels)


def patch_drop(
    images: Tensor, labels: Tensor, generator: torch.Generator, share: float, size: int = 4, offset: int = 0
) -> Stimuli:
    """Paint randomly drawn patches of every image in the mean colour of the images (Naseer et al. 2021).

    Args:
        share: of the patches, rounded to a whole number of them; 0 changes no bit. With the same draws a
            larger share drops the same patches and more.
        size: px, the side of a patch.
        offset: px, as in :func:`kdlib.probes.scramble.scramble`: no ViT token is dropped whole.

    Raises ValueError if H or W is not divisible by ``size``.
    """
    must_divide("size", size, images)
    patches = cut(images.roll((offset, offset), dims=(2, 3)), size, size)
    draws = torch.rand(patches.shape[:2], generator=generator)
    rank = draws.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    dropped = rank < round(share * patches.shape[1])
    kept = torch.where(dropped[:, :, None, None, None], mean_colour(images), patches)
    return in_place_of(join(kept, *images.shape[2:]).roll((-offset, -offset), dims=(2, 3)), labels)
