"""Noise and occlusion: its mean, its variance and its place."""

import pytest
import torch

from kdlib.probes import PROBES
from kdlib.probes.base import cut, mean_colour, normal
from kdlib.probes.noise import gaussian_noise, grey_box, impulse, local_noise, patch_drop, shot

from .common import classes, generator, random_images


@pytest.mark.parametrize("noise, params", [(gaussian_noise, {}), (local_noise, {"size": 11})])
def test_sigma_zero_changes_nothing(noise, params):
    images = random_images()
    assert torch.equal(noise(images, classes(6), generator(), sigma=0.0, **params).images, images)


def test_noise_has_the_mean_and_sigma_asked_for():
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    made = gaussian_noise(grey, classes(40), generator(), sigma=0.1)
    values, n = made.images.double() - 128, grey.numel()
    sigma = (25.5**2 + 1 / 12) ** 0.5  # rounding to whole levels adds 1/12 to the variance
    assert abs(values.mean()) < 5 * sigma / n**0.5
    assert abs(values.std() - sigma) < 5 * sigma / (2 * n) ** 0.5
    assert made.meta["clipped"] < 1e-4  # five sigmas from mid-grey to either end


def test_local_noise_stays_in_its_square():
    images = torch.full((6, 3, 32, 32), 128, dtype=torch.uint8)
    made = local_noise(images, classes(6), generator(), size=11, sigma=0.1).images
    changed = made != images
    assert changed[:, :, 10:21, 10:21].float().mean() > 0.95
    changed[:, :, 10:21, 10:21] = False
    assert not changed.any() and len(made.unique(dim=0)) == 6


def test_a_grey_box_is_one_grey_square():
    made = grey_box(torch.zeros(6, 3, 32, 32, dtype=torch.uint8), classes(6), generator(), size=11).images
    assert (made[:, :, 10:21, 10:21] == 128).all() and (made == 128).sum() == 6 * 3 * 121


def test_a_square_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="40 px doesn't fit images of 32x32"):
        grey_box(random_images(), classes(6), generator(), size=40)


@pytest.mark.parametrize("shape", [(16,), (5, 7), (2, 3, 11, 11), (3, 3, 32, 32)])
def test_normal_noise_is_that_of_torch(shape):
    drawn = torch.randn(shape, generator=generator(3))
    torch.testing.assert_close(normal(shape, generator(3)), drawn, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level, rate", [(51, 51), (51, 255), (153, 85)])  # rates that divide 255
def test_shot_noise_keeps_the_mean_and_has_the_variance_of_counts(level, rate):
    images = torch.full((40, 3, 32, 32), level, dtype=torch.uint8)
    made = shot(images, classes(40), generator(), rate=rate)
    values, x, n = made.images.double() / 255, level / 255, images.numel()
    variance = x / rate
    fourth = 3 * variance**2 + x / rate**3  # central moment of a Poisson count / rate
    assert abs(values.mean() - x) < 5 * (variance / n) ** 0.5
    assert abs(values.var() - variance) < 5 * (fourth / n) ** 0.5


def test_impulse_makes_its_share_half_black_half_white_and_spares_the_rest():
    images, share = torch.full((40, 3, 32, 32), 90, dtype=torch.uint8), 0.07
    made = impulse(images, classes(40), generator(), share=share).images
    assert set(made.unique().tolist()) == {0, 90, 255}
    for value in (0, 255):
        error = 5 * (share / 2 / images.numel()) ** 0.5
        assert abs((made == value).float().mean() - share / 2) < error
    assert torch.equal(impulse(images, classes(40), generator(), share=0.0).images, images)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("offset", [0, 2])
def test_patch_drop_paints_exactly_that_share_of_the_patches(share, offset):
    images = random_images()
    made = patch_drop(images, classes(6), generator(), share=share, offset=offset).images
    before, after = (cut(x.roll((offset, offset), dims=(2, 3)), 4, 4) for x in (images, made))
    painted = (after == mean_colour(images)).flatten(2).all(dim=2)
    assert (painted.sum(dim=1) == round(share * 64)).all()
    assert torch.equal(after[~painted], before[~painted])


def test_a_larger_share_drops_the_same_patches_and_more():
    images, labels = random_images(), classes(6)
    dropped = [PROBES[f"patch_drop_{percent}"](images, labels).images != images for percent in (25, 50, 75)]
    assert (dropped[0] <= dropped[1]).all() and (dropped[1] <= dropped[2]).all()
