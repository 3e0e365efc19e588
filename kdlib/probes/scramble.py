"""Patch scramble: the parts of an image stay, their arrangement goes."""

import torch
from torch import Tensor

from kdlib.probes.base import Stimuli, in_place_of


def cycle_sources(images: int, patches: int, generator: torch.Generator) -> Tensor:
    """For every image, where each position takes its patch from: a uniformly random n-cycle.

    A uniform permutation of 4 patches is the identity once in 24 draws; in a cycle no patch ever stays,
    so severity doesn't depend on luck. With one patch the cycle is the identity.

    Returns:
        int64 (images, patches).
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

    Raises:
        ValueError: H or W is not divisible by ``grid``, or the gutter covers whole patches.
    """
    n, channels, height, width = images.shape
    if height % grid or width % grid:
        raise ValueError(f"grid {grid} doesn't divide images of {height}x{width}; choose one that does.")
    rows, columns = height // grid, width // grid
    if 2 * gutter >= min(rows, columns):
        raise ValueError(f"gutter {gutter} covers patches of {rows}x{columns}; choose a coarser grid.")

    rolled = images.roll((offset, offset), dims=(2, 3))
    patches = rolled.reshape(n, channels, grid, rows, grid, columns).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(n, grid**2, channels, rows, columns)
    if gutter:
        mean_colour = images.double().mean(dim=(0, 2, 3)).round().to(torch.uint8)
        painted = mean_colour.view(channels, 1, 1).expand_as(patches).clone()
        inside = (..., slice(gutter, rows - gutter), slice(gutter, columns - gutter))
        painted[inside] = patches[inside]
        patches = painted
    if shuffle:
        source = cycle_sources(n, grid**2, generator)
        patches = patches.gather(1, source.view(n, -1, 1, 1, 1).expand_as(patches))
    whole = patches.reshape(n, grid, grid, channels, rows, columns).permute(0, 3, 1, 4, 2, 5)
    return in_place_of(whole.reshape(images.shape).roll((-offset, -offset), dims=(2, 3)), labels)
