"""Scrambles: the arrangement of an image's patches goes and their inside stays, or the other way round."""

import torch
from torch import Tensor

from kdlib.probes.base import Stimuli, cut, in_place_of, join, mean_colour, must_divide


def cycle_sources(images: int, patches: int, generator: torch.Generator) -> Tensor:
    """For every image, where each position takes its patch from, int64 (images, patches): a random n-cycle.

    A uniform permutation of 4 patches is the identity once in 24 draws; in a cycle no patch ever stays,
    so severity doesn't depend on luck. With one patch the cycle is the identity.
    """
    tour = torch.rand(images, patches, generator=generator).argsort(dim=1, stable=True)
    # The patch at tour[k] goes to tour[k + 1], the last one to the first place.
    return torch.empty_like(tour).scatter_(1, tour.roll(-1, dims=1), tour)


def scramble(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    grid: int,
    offset: int = 0,
    gutter: int = 0,
    shuffle: bool = True,
) -> Stimuli:
    """Cut every image into ``grid`` x ``grid`` patches and send each to another place.

    Args:
        images: uint8 (N, C, H, W), H and W divisible by ``grid``.
        grid: patches a side; 1 leaves the images as they are.
        offset: px, the image is rolled before and back after, so that the cuts don't fall on the borders of
            a ViT's tokens.
        gutter: px, the rim of every patch is painted in the mean colour of the images given. The seams
            then look the same with and without scrambling.
        shuffle: False gives the control of a gutter: painted, every patch in its place.

    Raises ValueError if H or W is not divisible by ``grid``, or the gutter covers whole patches.
    """
    must_divide("grid", grid, images)
    height, width = images.shape[2:]
    rows, columns = height // grid, width // grid
    if 2 * gutter >= min(rows, columns):
        raise ValueError(f"gutter {gutter} covers patches of {rows}x{columns}; choose a coarser grid.")

    patches = cut(images.roll((offset, offset), dims=(2, 3)), rows, columns)
    if gutter:
        painted = mean_colour(images).expand_as(patches).clone()
        inside = (..., slice(gutter, rows - gutter), slice(gutter, columns - gutter))
        painted[inside] = patches[inside]
        patches = painted
    if shuffle:
        source = cycle_sources(len(images), grid**2, generator)
        patches = patches.gather(1, source.view(*source.shape, 1, 1, 1).expand_as(patches))
    return in_place_of(join(patches, height, width).roll((-offset, -offset), dims=(2, 3)), labels)


def pixel_shuffle(images: Tensor, labels: Tensor, generator: torch.Generator, size: int) -> Stimuli:
    """Move every pixel to another place of its ``size`` x ``size`` px patch; the patches stay where they are.

    Each patch of each image, uint8 (N, C, H, W), gets a cycle of its own; size 1 leaves them as they are.
    Raises ValueError if H or W is not divisible by ``size``.
    """
    must_divide("size", size, images)
    pixels = cut(images, size, size).flatten(3)
    n, patches, _, places = pixels.shape
    source = cycle_sources(n * patches, places, generator).view(n, patches, 1, places)
    shuffled = pixels.gather(3, source.expand_as(pixels)).unflatten(3, (size, size))
    return in_place_of(join(shuffled, *images.shape[2:]), labels)
