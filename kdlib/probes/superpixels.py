"""Superpixels: texture inside regions goes, contours and layout stay."""

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

from kdlib.probes.base import Stimuli, in_place_of


def superpixels(images: Tensor, labels: Tensor, generator: torch.Generator, n: int) -> Stimuli:
    """Paint every SLIC region (Achanta et al. 2012) in its mean colour.

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
