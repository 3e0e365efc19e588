"""Scrambles: patches and pixels change their places, and nothing else changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.probes import PROBES
from kdlib.probes.base import cut
from kdlib.probes.scramble import cycle_sources, pixel_shuffle, scramble

from .common import classes, generator, random_images


def pixels(images: torch.Tensor) -> torch.Tensor:
    """The colours of each image in sorted order: equal where the multisets of pixels are equal."""
    codes = (images.long() * torch.tensor([1, 256, 65536]).view(1, 3, 1, 1)).sum(1)
    return codes.flatten(1).sort(dim=1).values


def patches(image: torch.Tensor, side: int) -> list[bytes]:
    tiles = image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4)
    return [tile.numpy().tobytes() for tile in tiles.flatten(0, 1).contiguous()]


@given(side=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_no_patch_stays_and_the_patches_form_one_cycle(side, seed):
    sources = cycle_sources(3, side**2, generator(seed))
    for source in sources.tolist():
        visited, here = [], 0
        for _ in range(side**2):
            visited.append(here)
            here = source[here]
        assert here == 0 and sorted(visited) == list(range(side**2))


@pytest.mark.parametrize("params", [{"grid": 2}, {"grid": 4, "offset": 2}, {"grid": 8, "offset": 3}])
def test_scrambling_keeps_the_pixels_of_every_image(params):
    images = random_images()
    made = scramble(images, classes(6), generator(), **params).images
    assert torch.equal(pixels(made), pixels(images)) and not torch.equal(made, images)


@settings(deadline=None, max_examples=20)
@given(grid=st.sampled_from([2, 3, 4, 6]), seed=st.integers(0, 2**31))
def test_an_aligned_scramble_only_moves_patches(grid, seed):
    images = random_images(2, side=24)
    made = scramble(images, classes(2), generator(seed), grid=grid).images
    for before, after in zip(images, made, strict=True):
        before, after = patches(before, 24 // grid), patches(after, 24 // grid)
        assert sorted(before) == sorted(after)
        assert all(a != b for a, b in zip(before, after, strict=True))


def test_images_are_scrambled_differently_from_each_other():
    one = random_images(1).repeat(8, 1, 1, 1)
    assert len(scramble(one, classes(8), generator(), grid=4).images.unique(dim=0)) > 1


def test_a_grid_or_a_size_of_one_changes_nothing():
    images = random_images()
    assert torch.equal(scramble(images, classes(6), generator(), grid=1, offset=2).images, images)
    assert torch.equal(pixel_shuffle(images, classes(6), generator(), size=1).images, images)


def test_an_offset_is_roll_scramble_roll_back():
    images, labels = random_images(), classes(6)
    rolled = scramble(images.roll((2, 2), dims=(2, 3)), labels, generator(7), grid=4).images
    made = scramble(images, labels, generator(7), grid=4, offset=2).images
    assert torch.equal(made, rolled.roll((-2, -2), dims=(2, 3)))


@pytest.mark.parametrize("grid", [2, 4])
def test_a_gutter_and_its_intact_control_have_the_same_pixels(grid):
    images, labels = random_images(), classes(6)
    scrambled, intact = (
        PROBES[f"{kind}_{grid}_gutter"](images, labels).images for kind in ("scramble", "intact")
    )
    assert torch.equal(pixels(scrambled), pixels(intact)) and not torch.equal(scrambled, intact)
    mean = images.double().mean(dim=(0, 2, 3)).round().to(torch.uint8).view(1, 3, 1)
    rim = torch.arange(0, 32, 32 // grid)
    for made in (scrambled, intact):
        for line in (*rim.tolist(), *(rim + 32 // grid - 1).tolist()):
            assert (made[:, :, line] == mean).all() and (made[:, :, :, line] == mean).all()
    inside = slice(1, 32 // grid - 1)
    assert torch.equal(intact[:, :, inside, inside], images[:, :, inside, inside])


def test_a_grid_or_gutter_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="grid 5 doesn't divide images of 32x32"):
        scramble(random_images(), classes(6), generator(), grid=5)
    with pytest.raises(ValueError, match="gutter 1 covers patches of 2x2"):
        scramble(random_images(), classes(6), generator(), grid=16, gutter=1)


def test_scrambled_bits_do_not_change_between_versions():
    images = torch.arange(2 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(2, 3, 8, 8)
    assert (
        PROBES["scramble_4"](images, classes(2), seed=1).sha256
        == "0f4421ff06e57548c9371b5387aa6edd80cc4cb88c5ca6f5192feea707fff655"
    )


@settings(deadline=None, max_examples=20)
@given(size=st.sampled_from([2, 3, 4, 6]), seed=st.integers(0, 2**31))
def test_a_pixel_shuffle_keeps_the_pixels_of_each_patch(size, seed):
    images = random_images(2, side=12)
    made = pixel_shuffle(images, classes(2), generator(seed), size=size).images
    before, after = (cut(x, size, size).flatten(0, 1) for x in (images, made))
    assert torch.equal(pixels(before), pixels(after))
    assert (before != after).any(dim=1).all()  # a cycle leaves no pixel in its place


def test_patches_are_shuffled_differently_from_each_other():
    one = random_images(1, side=4).repeat(2, 1, 3, 3)
    made = cut(pixel_shuffle(one, classes(2), generator(), size=4).images, 4, 4)
    assert len(made.flatten(0, 1).unique(dim=0)) > 9
