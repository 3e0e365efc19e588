"""Suppression: the texture inside regions goes, or colour, or fine detail, or all but the outlines.

Images are uint8 (N, 3, H, W).
"""

from math import ceil, exp

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.probes.base import Stimuli, cut, in_place_of, join, luma, must_divide, sqrt, to_uint8


def superpixels(images: Tensor, labels: Tensor, generator: torch.Generator, n: int) -> Stimuli:
    """Paint every SLIC region (Achanta et al. 2012) in its mean colour: contours stay.

    The regions are scikit-image's, in float64: another version of it may find others. SLIC snaps ``n``, the
    number asked for, to a lattice (at 32 px, 100 and 144 are the same); ``meta["regions"]`` is the mean that
    came out.
    """
    count, channels = images.shape[:2]
    regions = [_regions(image, n) for image in images.permute(0, 2, 3, 1).double().numpy()]
    regions = torch.from_numpy(np.stack(regions)).view(count, 1, -1)
    # One number a region, channel and image: then a single bincount averages the whole set.
    bins = regions + (regions.max() + 1) * torch.arange(count * channels).view(count, channels, 1)
    size = torch.bincount(bins.view(-1)).clamp(min=1)
    mean = torch.bincount(bins.view(-1), weights=images.double().view(-1)) / size
    painted = mean[bins].round().to(torch.uint8).view(images.shape)
    return in_place_of(painted, labels, regions=bins.unique().numel() / (count * channels))


def _regions(image: np.ndarray, n: int) -> np.ndarray:
    """SLIC of compactness 10 of an image, float64 (H, W, 3) of whole numbers.

    Its colours are rounded: else flat ones tie or not by the processor's last digit.
    """
    from skimage.color import rgb2lab  # takes a second to import, and few need it
    from skimage.segmentation import slic

    # SLIC stretches what it is given to [0, 1]: here first the colours, as always, and then Lab, which the
    # compactness makes up for.
    lab = rgb2lab((image - image.min()) / max(np.ptp(image), 1)).round(7)
    stretch = max(np.ptp(lab), 1e-6)
    return slic(lab, n, compactness=10 / stretch, start_label=0, channel_axis=-1, convert2lab=False)


def grid_mean(images: Tensor, labels: Tensor, generator: torch.Generator, grid: int) -> Stimuli:
    """Paint ``grid`` x ``grid`` equal rectangles in their mean colours: superpixels that know no contour.

    Raises ValueError if H or W is not divisible by ``grid``.
    """
    must_divide("grid", grid, images)
    height, width = images.shape[2:]
    patches = cut(images, height // grid, width // grid)
    mean = patches.double().mean(dim=(3, 4), keepdim=True).round().to(torch.uint8)
    return in_place_of(join(mean.expand_as(patches), height, width), labels)


def grey(images: Tensor, labels: Tensor, generator: torch.Generator) -> Stimuli:
    """The Rec. 601 luma in all three channels."""
    return in_place_of((luma(images) / 1000).round().to(torch.uint8).repeat(1, 3, 1, 1), labels)


def blur(images: Tensor, labels: Tensor, generator: torch.Generator, sigma: float) -> Stimuli:
    """Gaussian blur of standard deviation ``sigma`` (px) to 3 of them or just beyond, reflected at the frame.

    Raises ValueError if sigma isn't positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma is {sigma} px; a blur needs a width above 0.")
    reach = ceil(3 * sigma)
    weights = [exp(-((x / sigma) ** 2) / 2) for x in range(-reach, reach + 1)]
    blurred = F.pad(images.double(), [reach] * 4, mode="reflect")
    for dim in (2, 3):
        side = images.shape[dim]
        blurred = sum(w / sum(weights) * blurred.narrow(dim, i, side) for i, w in enumerate(weights))
    return in_place_of(blurred.round().to(torch.uint8), labels)


def edges(images: Tensor, labels: Tensor, generator: torch.Generator) -> Stimuli:
    """Sobel magnitude of the luma over its maximum in the image, dark on white; all white without an edge."""
    padded = F.pad(luma(images), (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    magnitude = sqrt(across * across + down * down).float()
    strongest = magnitude.amax(dim=(2, 3), keepdim=True).clamp(min=1)
    return in_place_of(to_uint8(1 - magnitude / strongest)[0].repeat(1, 3, 1, 1), labels)
