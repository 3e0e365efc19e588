"""Noise on the whole image or on a square, the grey square that is the square's control, and lost patches.

Severities of Gaussian, shot and impulse noise are those of CIFAR-10-C (Hendrycks & Dietterich 2019); the images
are drawn anew, and rounded to uint8 where the published ones are truncated. All standard deviations are on the
[0, 1] scale; ``meta["clipped"]`` is the share of all values that fell outside [0, 1].
"""

import torch
from torch import Tensor

from kdlib.names import check
from kdlib.probes.base import (
    Stimuli,
    cut,
    in_place_of,
    join,
    mean_colour,
    must_divide,
    normal,
    to_uint8,
    to_unit,
)


def gaussian_noise(images: Tensor, labels: Tensor, generator: torch.Generator, sigma: float) -> Stimuli:
    """Independent Gaussian noise on every value of uint8 (N, C, H, W); sigma 0 changes no bit."""
    noisy, clipped = to_uint8(to_unit(images) + sigma * normal(images.shape, generator))
    return in_place_of(noisy, labels, clipped=clipped)


def shot(images: Tensor, labels: Tensor, generator: torch.Generator, rate: float) -> Stimuli:
    """Photon counts: ``rate`` of them on average where a value is 1, so the variance is value / rate."""
    noisy, clipped = to_uint8(torch.poisson(to_unit(images) * rate, generator=generator) / rate)
    return in_place_of(noisy, labels, clipped=clipped)


def impulse(images: Tensor, labels: Tensor, generator: torch.Generator, share: float) -> Stimuli:
    """Salt and pepper: each value becomes 0 or 255, with probability ``share / 2`` each; 0 changes no bit."""
    draws = torch.rand(images.shape, generator=generator)
    noisy = images.masked_fill(draws < share / 2, 0).masked_fill(draws >= 1 - share / 2, 255)
    return in_place_of(noisy, labels)


def square(images: Tensor, generator: torch.Generator, size: int, place: str) -> tuple[Tensor, ...]:
    """Index of a ``size`` x ``size`` px square in every image of (N, C, H, W), at the centre or anywhere.

    Raises:
        ValueError: the square is larger than the image, or ``place`` is neither "centre" nor "random".
    """
    n, channels, height, width = images.shape
    check("place", place, ("centre", "random"))
    if size > min(height, width):
        raise ValueError(f"a square of {size} px doesn't fit images of {height}x{width}.")
    if place == "random":
        top = torch.randint(height - size + 1, (n, 1), generator=generator)
        left = torch.randint(width - size + 1, (n, 1), generator=generator)
    else:
        top, left = torch.tensor([[(height - size) // 2]]), torch.tensor([[(width - size) // 2]])
    rows, columns = top + torch.arange(size), left + torch.arange(size)
    return (
        torch.arange(n).view(n, 1, 1, 1),
        torch.arange(channels).view(1, channels, 1, 1),
        rows[:, None, :, None],
        columns[:, None, None, :],
    )


def local_noise(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    size: int,
    sigma: float,
    place: str = "centre",
    shared: bool = False,
) -> Stimuli:
    """Gaussian noise on a square of every image, nothing outside it changes; sigma 0 changes no bit.

    Args:
        images: uint8 (N, C, H, W).
        size: px, side of the square.
        place: "centre", or "random" for another place in each image.
        shared: the same noise pattern for all images instead of one each.
    """
    values, where = to_unit(images), square(images, generator, size, place)
    patterns = 1 if shared else len(images)
    values[where] += sigma * normal((patterns, images.shape[1], size, size), generator)
    noisy, clipped = to_uint8(values)
    return in_place_of(noisy, labels, clipped=clipped)


def grey_box(
    images: Tensor, labels: Tensor, generator: torch.Generator, size: int, place: str = "centre"
) -> Stimuli:
    """The square of :func:`local_noise` set to mid-grey: what is lost by hiding alone."""
    boxed = images.clone()
    boxed[square(images, generator, size, place)] = 128
    return in_place_of(boxed, labels)


def patch_drop(
    images: Tensor, labels: Tensor, generator: torch.Generator, share: float, size: int = 4, offset: int = 0
) -> Stimuli:
    """Paint randomly drawn patches of every image in the mean colour of the images (Naseer et al. 2021).

    Args:
        images: uint8 (N, C, H, W).
        share: of the patches, rounded to a whole number of them; 0 changes no bit. With the same draws a
            larger share drops the same patches and more.
        size: px, the side of a patch.
        offset: px, as in :func:`kdlib.probes.scramble.scramble`: no ViT token is dropped whole.

    Raises:
        ValueError: H or W is not divisible by ``size``.
    """
    must_divide("size", size, images)
    patches = cut(images.roll((offset, offset), dims=(2, 3)), size, size)
    draws = torch.rand(patches.shape[:2], generator=generator)
    rank = draws.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    dropped = rank < round(share * patches.shape[1])
    kept = torch.where(dropped[:, :, None, None, None], mean_colour(images), patches)
    return in_place_of(join(kept, *images.shape[2:]).roll((-offset, -offset), dims=(2, 3)), labels)
