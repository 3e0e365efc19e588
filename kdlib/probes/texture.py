"""Suppression: the texture inside regions goes, or colour, or fine detail; the layout stays."""

from math import ceil

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from kdlib.probes.base import Stimuli, cut, in_place_of, join, must_divide
from kdlib.probes.cue_conflict import luminance


def superpixels(images: Tensor, labels: Tensor, generator: torch.Generator, n: int) -> Stimuli:
    """Paint every SLIC region (Achanta et al. 2012) in its mean colour: contours stay.

    Args:
        images: uint8 (N, 3, H, W).
        n: number of regions asked for. SLIC snaps it to a lattice (at 32 px, 100 and 144 are the same), so
            ``meta["regions"]`` holds the mean number that came out.
    """
    count, channels = images.shape[:2]
    regions = np.stack(
        [
            slic(image, n_segments=n, compactness=10, start_label=0, channel_axis=-1)
            for image in images.permute(0, 2, 3, 1).contiguous().numpy()
        ]
    )
    regions = torch.from_numpy(regions).view(count, 1, -1)
    # One number a region, channel and image: then a single bincount averages the whole set.
    bins = regions + (regions.max() + 1) * torch.arange(count * channels).view(count, channels, 1)
    values = images.double().view(-1)  # sums of uint8 are exact in float64
    size = torch.bincount(bins.view(-1)).clamp(min=1)
    mean = torch.bincount(bins.view(-1), weights=values) / size
    painted = mean[bins].round().to(torch.uint8).view(images.shape)
    realised = bins.unique().numel() / (count * channels)
    return in_place_of(painted, labels, regions=realised)


def grid_mean(images: Tensor, labels: Tensor, generator: torch.Generator, grid: int) -> Stimuli:
    """Paint ``grid`` x ``grid`` equal rectangles in their mean colours: superpixels that know no contour.

    Args:
        images: uint8 (N, C, H, W).
        grid: rectangles a side; H = W leaves the images as they are.

    Raises:
        ValueError: H or W is not divisible by ``grid``.
    """
    must_divide("grid", grid, images)
    height, width = images.shape[2:]
    patches = cut(images, height // grid, width // grid)
    mean = patches.double().mean(dim=(3, 4), keepdim=True).round().to(torch.uint8)
    return in_place_of(join(mean.expand_as(patches), height, width), labels)


def grey(images: Tensor, labels: Tensor, generator: torch.Generator) -> Stimuli:
    """The Rec. 601 luma of uint8 (N, 3, H, W) in all three channels."""
    return in_place_of(luminance(images).round().to(torch.uint8).repeat(1, 3, 1, 1), labels)


def blur(images: Tensor, labels: Tensor, generator: torch.Generator, sigma: float) -> Stimuli:
    """Gaussian blur of uint8 (N, C, H, W), reflected at the frame.

    Args:
        sigma: px, standard deviation; the kernel ends at 3 of them or just beyond.

    Raises:
        ValueError: sigma isn't positive.
    """
    return in_place_of(gaussian_blur(images, 2 * ceil(3 * sigma) + 1, sigma), labels)
