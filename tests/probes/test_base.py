"""What holds for every probe: labels stay with their images, seeds repeat, and pixels survive."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.probes import PROBES, stimuli
from kdlib.probes.base import cut, join, to_uint8

from .common import classes, random_images

ONE_TO_ONE = [name for name, probe in PROBES.items() if "per_pair" not in probe.params]


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_the_same_seed_gives_the_same_bits(name):
    images, labels = random_images(), classes(6)
    assert PROBES[name](images, labels, seed=5).sha256 == PROBES[name](images, labels, seed=5).sha256


@pytest.mark.parametrize(
    "name", ["scramble_4", "scramble_8_offset", "local_noise", "shot_1", "patch_drop_50"]
)
def test_another_seed_gives_other_images(name):
    images, labels = random_images(), classes(6)
    assert PROBES[name](images, labels, seed=0).sha256 != PROBES[name](images, labels, seed=1).sha256


@pytest.mark.parametrize(
    "name",
    ["clean", "edges", "superpixels_100", "grey", "scramble_8", "intact_4_gutter", "grey_box"],
)
def test_labels_follow_their_images_when_the_test_set_is_permuted(name):
    # Each image has a brightness of its own, which these probes keep, so it tells the images apart.
    labels = torch.arange(6)
    images = (30 * labels + 40).to(torch.uint8).view(6, 1, 1, 1).repeat(1, 3, 32, 32)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    made = PROBES[name](images[order], labels[order])
    assert torch.equal(made.labels, labels[order])
    if name != "edges":
        assert torch.equal(made.images[:, 0, 4, 4], images[made.labels, 0, 4, 4])


def test_clean_is_bit_identical():
    images = random_images()
    assert torch.equal(PROBES["clean"](images, classes(6)).images, images)


def test_every_grey_level_survives_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255)[0], levels)


def test_values_are_rounded_and_the_clipped_share_is_counted():
    made, clipped = to_uint8(torch.tensor([-0.1, 0.6 / 255, 0.5, 1.2]))
    assert made.tolist() == [0, 1, 128, 255] and clipped == 0.5


def test_normalised_floats_and_missing_labels_are_refused():
    with pytest.raises(ValueError, match=r"takes raw uint8"):
        PROBES["clean"](random_images().float(), classes(6))
    with pytest.raises(ValueError, match="6 images, labels of shape"):
        PROBES["clean"](random_images(), classes(5))


@pytest.mark.parametrize("wrong", [-1, 0.7, float("nan")])
def test_labels_that_are_no_classes_are_refused_with_and_without_a_cache(wrong, tmp_path):
    for cache in (None, tmp_path):
        with pytest.raises(ValueError, match="labels must be classes, whole numbers from 0"):
            stimuli("clean", random_images(), torch.full((6,), wrong), cache=cache)
    made = stimuli("clean", random_images(), classes(6).double(), seed=np.int64(0))
    assert made.labels.dtype == torch.int64 and made.labels.equal(classes(6))


@settings(deadline=None, max_examples=20)
@given(rows=st.sampled_from([1, 2, 3, 6]), columns=st.sampled_from([1, 2, 4]))
def test_patches_come_in_reading_order_and_join_to_the_image(rows, columns):
    images = random_images(2, side=12)
    patches = cut(images, rows, columns)
    assert torch.equal(patches[:, 12 // columns], images[:, :, rows : 2 * rows, :columns])
    assert torch.equal(join(patches, 12, 12), images)
