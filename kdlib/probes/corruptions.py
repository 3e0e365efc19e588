"""Corruptions in the style of CIFAR-10-C (Hendrycks & Dietterich 2019), with its severities at 32 px.

Not its images: these are drawn from a seed, and rounded to uint8 where the published ones are truncated.
Gaussian noise and blur are in :mod:`~kdlib.probes.noise` and :mod:`~kdlib.probes.texture`; frost, snow, fog,
glass, motion, zoom and elastic are not rebuilt. Images are uint8 (N, 3, H, W); ``meta["clipped"]``, where
values can leave [0, 1], is the share of them that did.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import jpeg as compress

from kdlib.probes.base import Stimuli, in_place_of, to_uint8, to_unit


def shot(images: Tensor, labels: Tensor, generator: torch.Generator, rate: float) -> Stimuli:
    """Photon counts: ``rate`` of them on average where a value is 1, so the variance is value / rate."""
    noisy, clipped = to_uint8(torch.poisson(to_unit(images) * rate, generator=generator) / rate)
    return in_place_of(noisy, labels, clipped=clipped)


def impulse(images: Tensor, labels: Tensor, generator: torch.Generator, share: float) -> Stimuli:
    """Salt and pepper: each value becomes 0 or 255, with probability ``share / 2`` each; 0 changes no bit."""
    draws = torch.rand(images.shape, generator=generator)
    noisy = images.masked_fill(draws < share / 2, 0).masked_fill(draws >= 1 - share / 2, 255)
    return in_place_of(noisy, labels)


def speckle(images: Tensor, labels: Tensor, generator: torch.Generator, sigma: float) -> Stimuli:
    """Gaussian noise in proportion to the value, of standard deviation ``sigma * value``."""
    values = to_unit(images)
    noisy, clipped = to_uint8(values + values * sigma * torch.randn(images.shape, generator=generator))
    return in_place_of(noisy, labels, clipped=clipped)


def contrast(images: Tensor, labels: Tensor, generator: torch.Generator, factor: float) -> Stimuli:
    """Shrink the distance from the mean of each image and channel; 0 leaves only that, 1 changes no bit."""
    values = to_unit(images)
    mean = values.mean(dim=(2, 3), keepdim=True)
    flat, clipped = to_uint8(mean + factor * (values - mean))
    return in_place_of(flat, labels, clipped=clipped)


def brightness(images: Tensor, labels: Tensor, generator: torch.Generator, shift: float) -> Stimuli:
    """Add ``shift`` to the V of HSV, at most to 1; hue and saturation stay."""
    values = to_unit(images)
    before = values.amax(dim=1, keepdim=True)  # V is the largest of red, green and blue, which scale with it
    after = before + shift
    lit = torch.where(before > 0, values * (after / before), after)  # black has no hue
    return in_place_of(to_uint8(lit / after.clamp(min=1))[0], labels, clipped=to_uint8(lit)[1])


def pixelate(images: Tensor, labels: Tensor, generator: torch.Generator, factor: float) -> Stimuli:
    """Box-filter down to ``factor`` of each side, cut to whole px, and back up; 1 changes no bit."""
    height, width = images.shape[2:]
    small = (int(width * factor), int(height * factor))
    coarse = [
        np.asarray(Image.fromarray(image).resize(small, Image.BOX).resize((width, height), Image.BOX))
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    return in_place_of(torch.from_numpy(np.stack(coarse)).permute(0, 3, 1, 2).contiguous(), labels)


def jpeg(images: Tensor, labels: Tensor, generator: torch.Generator, quality: int) -> Stimuli:
    """Encode as JPEG of ``quality`` 1 to 100 and decode. Decoders may differ by a grey level."""
    return in_place_of(compress(images, quality), labels)
