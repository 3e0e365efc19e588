"""Frequencies: bands that share out the spectrum, noise that stays in its band, hybrids that add up."""

from math import exp, isqrt, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.probes.frequency import band_noise, band_of, filtered_noise, frequency_conflict

from .common import classes, generator, random_images


@pytest.mark.parametrize("side, bands", [(32, 8), (32, 5), (16, 4)])
def test_a_band_is_the_whole_part_of_the_radius_in_bands(side, bands):
    band = band_of(side, side, bands)
    for row in range(side):
        for column in range(side // 2 + 1):
            squared = min(row, side - row) ** 2 + column**2  # the radius, squared, in cycles per image
            expected = min(isqrt(4 * bands**2 * squared // side**2), bands - 1) if squared else -1
            assert band[row, column] == expected


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(8, 40), width=st.integers(8, 40), bands=st.integers(1, 3), seed=st.integers(0, 2**31)
)
def test_noise_has_its_norm_and_no_energy_outside_its_band(height, width, bands, seed):
    band = seed % bands
    noise = filtered_noise((2, 3, height, width), generator(seed), band, bands, norm=4.0)
    assert noise.shape == (2, 3, height, width)
    torch.testing.assert_close(noise.flatten(2).norm(dim=2), torch.full((2, 3), 4.0))
    power = torch.fft.rfft2(noise).abs().square()
    assert power[..., band_of(height, width, bands) != band].sum() < 1e-10 * power.sum()


def test_noise_differs_between_images_channels_and_seeds():
    made = torch.cat([filtered_noise((2, 3, 16, 16), generator(seed), 1, 4, 1.0) for seed in (0, 1)])
    assert len(made.flatten(0, 1).unique(dim=0)) == 12


def test_the_noise_that_is_added_has_the_norm_up_to_rounding():
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    made = band_noise(grey, torch.arange(4), generator(), band=2, norm=2.0)
    norms = (made.images.double() - 128).flatten(2).norm(dim=2) / 255
    assert made.meta["clipped"] == 0
    assert ((norms - 2).abs() < 0.5 * 32 / 255).all()  # each of 32x32 values is rounded by half a level


@pytest.mark.parametrize("band", [0, 7])
def test_norm_zero_changes_nothing(band):
    images = random_images(3)
    assert torch.equal(band_noise(images, torch.arange(3), generator(), band=band, norm=0.0).images, images)


@pytest.mark.parametrize("band, bands", [(8, 8), (-2, 8), (0, 16)])
def test_a_band_without_frequencies_is_refused(band, bands):
    with pytest.raises(ValueError, match=f"band {band} of {bands} holds no frequency of images of 32x32"):
        band_noise(random_images(1), torch.arange(1), generator(), band=band, bands=bands)


def test_low_and_high_frequencies_of_one_image_add_up_to_it():
    images = random_images(1).repeat(8, 1, 1, 1)
    made = frequency_conflict(images, classes(8, 2), generator(), per_pair=2)
    assert len(made.images) == 4 and torch.equal(made.images, images[:4])


def test_without_blur_the_low_image_is_all_there_is():
    images, labels = random_images(12), classes(12, 3)
    made = frequency_conflict(images, labels, generator(), per_pair=1, sigma=0.0)
    assert torch.equal(made.images, images[made.ids]) and made.meta == {"per_pair": 1, "clipped": 0}
    assert torch.equal(made.labels, labels[made.ids]) and (made.labels != made.texture_labels).all()


def test_a_slow_wave_passes_below_and_a_fast_one_above():
    # These cosines are eigenvectors of a blur that reflects at the frame, with known eigenvalues.
    x = pi * (torch.arange(32) + 0.5) / 32
    slow, fast = 50 * (1 * x).cos().expand(3, 32, 32), 50 * (24 * x).cos()[:, None].expand(3, 32, 32)
    images = (128 + torch.stack([slow, fast])[classes(4, 2)]).round().to(torch.uint8)
    made = frequency_conflict(images, classes(4, 2), generator(), per_pair=1, sigma=2.0)
    passed = exp(-(2.0**2) * (pi / 32) ** 2 / 2)
    slow_below = made.images[made.labels == 0][0].float()
    fast_below = made.images[made.labels == 1][0].float()
    torch.testing.assert_close(slow_below, 128 + passed * slow + fast, atol=2, rtol=0)
    torch.testing.assert_close(fast_below, 128 + (1 - passed) * slow, atol=2, rtol=0)
