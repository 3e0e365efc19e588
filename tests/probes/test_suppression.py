import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.probes.base import cut
from kdlib.probes.suppression import blur, edges, grey, grid_mean, superpixels

from .common import classes, generator, plain, random_images


def test_superpixels_of_two_colours_are_the_image_itself():
    images = plain((200, 30, 40))
    images[..., 16:] = plain((20, 60, 220))[..., 16:]
    assert torch.equal(superpixels(images, classes(1), generator(), n=100).images, images)


def test_one_superpixel_is_the_mean_colour_of_each_image():
    images = random_images(3)
    made = superpixels(images, classes(3), generator(), n=1)
    mean = images.double().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    assert torch.equal(made.images, mean.expand_as(images)) and made.meta == {"regions": 1.0}
    assert torch.equal(grid_mean(images, classes(3), generator(), grid=1).images, made.images)


@settings(deadline=None, max_examples=20)
@given(grid=st.sampled_from([1, 2, 3, 4, 6, 12]), seed=st.integers(0, 2**31))
def test_every_square_is_flat_and_keeps_its_mean(grid, seed):
    images = random_images(2, side=12, seed=seed)
    made = grid_mean(images, classes(2), generator(), grid=grid).images
    before, after = (cut(x, 12 // grid, 12 // grid).flatten(3) for x in (images, made))
    assert (after == after[..., :1]).all()
    assert ((before.double().mean(3) - after.double().mean(3)).abs() <= 0.5).all()
    assert grid < 12 or torch.equal(made, images)


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="grid 5 doesn't divide images of 32x32; choose one that does"):
        grid_mean(random_images(), classes(6), generator(), grid=5)


def test_grey_weighs_the_colours_as_the_eye_does_and_keeps_greys():
    made = grey(
        torch.cat([plain(c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]), classes(3), generator()
    )
    for image, level in zip(made.images, (76, 150, 29), strict=True):  # 255 * (0.299, 0.587, 0.114)
        assert (image == level).all()
    greys = random_images()[:, :1].repeat(1, 3, 1, 1)
    assert torch.equal(grey(greys, classes(6), generator()).images, greys)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_a_blurred_point_is_a_gaussian_that_reaches_three_sigmas(sigma):
    images = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    images[..., 16, 16] = 255
    made = blur(images, classes(1), generator(), sigma=sigma).images[0, 0].double()
    x = torch.arange(-16, 17).double()
    line = torch.exp(-(x**2) / (2 * sigma**2)) * (x.abs() < 3 * sigma + 1)
    expected = 255 * line[:, None] * line / line.sum() ** 2
    torch.testing.assert_close(made, expected, atol=0.51, rtol=0)


def test_a_blur_without_width_is_refused():
    with pytest.raises(ValueError, match="sigma is 0.0 px; a blur needs a width above 0"):
        blur(random_images(), classes(6), generator(), sigma=0.0)


def test_an_image_without_edges_is_all_white():
    images = torch.tensor([0, 17, 128, 255], dtype=torch.uint8).view(4, 1, 1, 1).repeat(1, 3, 32, 32)
    images[:, 1] //= 2
    assert (edges(images, classes(4), generator()).images == 255).all()


def test_a_step_edge_is_two_black_columns():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[..., 16:] = 90
    made = edges(images, classes(1), generator()).images
    assert (made[..., 15:17] == 0).all() and (made[..., :15] == 255).all() and (made[..., 17:] == 255).all()
