import pytest
import torch
from kdlib.probes.corruptions import brightness, contrast, impulse, jpeg, pixelate, shot, speckle
from kdlib.probes.texture import blur

from kdlib.probes import PROBES

from .common import classes, generator, plain, random_images


@pytest.mark.parametrize(
    "corruption, params",
    [
        (impulse, {"share": 0.0}),
        (speckle, {"sigma": 0.0}),
        (contrast, {"factor": 1.0}),
        (brightness, {"shift": 0.0}),
        (pixelate, {"factor": 1.0}),
    ],
)
def test_no_severity_changes_no_bit(corruption, params):
    images = random_images()
    assert torch.equal(corruption(images, classes(6), generator(), **params).images, images)


@pytest.mark.parametrize("colour", [(0, 0, 0), (40, 90, 200), (255, 255, 255)])
@pytest.mark.parametrize(
    "corruption, params", [(contrast, {"factor": 0.3}), (pixelate, {"factor": 0.65}), (blur, {"sigma": 0.8})]
)
def test_an_image_of_one_colour_has_nothing_to_lose(corruption, params, colour):
    images = plain(colour)
    assert torch.equal(corruption(images, classes(1), generator(), **params).images, images)


@pytest.mark.parametrize("level, rate", [(51, 51), (51, 255), (153, 85)])
def test_shot_noise_keeps_the_mean_and_has_the_variance_of_counts(level, rate):
    made = shot(plain((level,) * 3, n=40), classes(40), generator(), rate=rate)
    values, x, n = made.images.double() / 255, level / 255, made.images.numel()
    variance = x / rate  # rates that divide 255 make whole levels, so rounding adds nothing to it
    fourth = 3 * (x / rate) ** 2 + x / rate**3  # central moment of a Poisson count / rate
    assert abs(values.mean() - x) < 5 * (variance / n) ** 0.5
    assert abs(values.var() - variance) < 5 * (fourth / n) ** 0.5
    assert made.meta["clipped"] < 1e-3


def test_shot_noise_leaves_black_alone_and_clips_half_of_white():
    images = torch.cat([plain((0, 0, 0), n=20), plain((255, 255, 255), n=20)])
    made = shot(images, classes(40), generator(), rate=500)
    assert not made.images[:20].any()
    assert made.meta["clipped"] == pytest.approx(0.5 * 0.488, abs=0.01)  # P(Poisson(500) > 500) = 0.488


def test_impulse_makes_its_share_half_black_half_white_and_spares_the_rest():
    images, share = plain((40, 90, 200), n=40), 0.07
    made = impulse(images, classes(40), generator(), share=share).images
    assert set(made.unique().tolist()) == {0, 40, 90, 200, 255}
    error = 5 * (share / 2 / images.numel()) ** 0.5
    for value in (0, 255):
        assert abs((made == value).float().mean() - share / 2) < error


def test_speckle_grows_with_the_value():
    images = torch.cat([plain((50, 50, 50), n=20), plain((100, 100, 100), n=20)])
    made = speckle(images, classes(40), generator(), sigma=0.2).images.double()
    for part, level in ((made[:20], 50), (made[20:], 100)):
        deviation, n = ((0.2 * level) ** 2 + 1 / 12) ** 0.5, part.numel()
        assert abs(part.mean() - level) < 5 * deviation / n**0.5
        assert abs(part.std() - deviation) < 5 * deviation / (2 * n) ** 0.5


def test_no_contrast_is_the_mean_of_each_image_and_channel():
    images = random_images()
    mean = images.double().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    made = contrast(images, classes(6), generator(), factor=0.0).images
    assert torch.equal(made, mean.expand_as(images))


def test_contrast_shrinks_the_distance_from_the_mean():
    images = random_images().double()
    mean = images.mean(dim=(2, 3), keepdim=True)
    made = contrast(images.to(torch.uint8), classes(6), generator(), factor=0.4).images
    torch.testing.assert_close(made.double(), mean + 0.4 * (images - mean), atol=0.51, rtol=0)


@pytest.mark.parametrize(
    "colour, shift, expected",
    [
        ((100, 50, 0), 0.2, (151, 76, 0)),  # V from 100 to 151: 50 * 1.51 = 75.5
        ((102, 51, 204), 0.3, (128, 64, 255)),  # V stops at 255, a quarter above 204: the ratios stay
        ((0, 0, 0), 0.2, (51, 51, 51)),  # black has no hue to keep
    ],
)
def test_brightness_adds_to_v_and_keeps_the_hue(colour, shift, expected):
    made = brightness(plain(colour), classes(1), generator(), shift=shift)
    assert made.images[0, :, 0, 0].tolist() == pytest.approx(expected, abs=0.5)
    assert made.meta["clipped"] == pytest.approx(expected.count(255) / 3)


def test_pixelate_by_half_is_the_mean_of_squares_twice_as_wide():
    images = random_images()
    mean = images.unfold(2, 2, 2).unfold(3, 2, 2).double().mean(dim=(4, 5))
    expected = mean.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    made = pixelate(images, classes(6), generator(), factor=0.5).images
    torch.testing.assert_close(made.double(), expected, atol=1, rtol=0)  # rounded once an axis


def test_pixelate_cuts_the_number_of_pixels_to_a_whole_one():
    made = pixelate(random_images(), classes(6), generator(), factor=0.65).images
    assert (made[:, :, :, 1:] != made[:, :, :, :-1]).any(dim=(0, 1, 2)).sum() == 20 - 1  # borders
    again = pixelate(random_images(), classes(6), generator(), factor=0.649).images
    assert torch.equal(made, again)  # int(20.8) = int(20.77)


def test_jpeg_keeps_flat_grey_and_costs_more_at_less_quality():
    greys = torch.cat([plain((level,) * 3) for level in (0, 77, 128, 255)])
    made = jpeg(greys, classes(4), generator(), quality=40).images
    assert (made.int() - greys.int()).abs().max() <= 2
    images = random_images()
    errors = [
        (PROBES[f"jpeg_{level}"](images, classes(6)).images.double() - images).square().mean()
        for level in range(1, 6)
    ]
    assert errors == sorted(errors) and errors[0] > 0
