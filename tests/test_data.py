"""A split's subsets and statistics, its fingerprint, and the plan by which epochs augment it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data import Dataset, DataSpec, Split, augment, epoch_plan, fingerprint, load


@pytest.mark.parametrize("value", [0, 77])
def test_a_channel_that_is_constant_is_not_blown_up(value):
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    images[:, 2] = value
    split = Split(images, torch.arange(20) % 2)
    mean, std = Dataset(DataSpec(), "", ("a", "b"), split, split).statistics
    assert std[2] == pytest.approx(0.02) and mean[2] == pytest.approx(value / 255)
    assert std[:2].min() > 0.2


def test_unknown_option_of_the_procedural_set_is_named():
    with pytest.raises(ValueError, match="'shape_corelation'. Did you mean 'shape_correlation'"):
        load(DataSpec("shape_texture", options={"shape_corelation": 0}))


def test_subset_is_balanced_and_nested():
    labels = torch.arange(10).repeat_interleave(20)
    split = Split(torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1), labels)
    small, large = split.subset(30), split.subset(50)
    assert torch.equal(torch.bincount(small.labels), torch.full((10,), 3))
    assert set(small.images.flatten().tolist()) <= set(large.images.flatten().tolist())
    assert torch.equal(small.labels, small.images.flatten().long() // 20)
    assert split.subset(201) is split


def test_statistics_are_the_mean_and_deviation_of_the_pixels(shapes):
    mean, std = shapes.statistics
    pixels = shapes.train.images.double() / 255
    assert torch.allclose(mean.double(), pixels.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(std.double(), pixels.transpose(0, 1).flatten(1).std(1, unbiased=False), atol=1e-6)


def test_fingerprint_depends_on_pixels_labels_and_order(shapes):
    images, labels = shapes.test.images, shapes.test.labels
    other = labels.clone()
    other[0] = (other[0] + 1) % 10
    names = {
        fingerprint(Split(images, labels)),
        fingerprint(Split(images.flip(0), labels)),
        fingerprint(Split(images, other)),
        fingerprint(Split(255 - images, labels)),
    }
    assert len(names) == 4


def test_plan_depends_on_seed_and_epoch_alone():
    plans = {(s, e): epoch_plan(50, s, e) for s in (0, 1) for e in (0, 1)}
    again = epoch_plan(50, 1, 0)
    assert all(torch.equal(first, second) for first, second in zip(plans[1, 0], again, strict=True))
    assert len({tuple(order.tolist()) for order, _, _ in plans.values()}) == 4
    assert sorted(again[0].tolist()) == list(range(50))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_augmentation_is_pad_crop_and_mirror(top, left, flip):
    images = torch.randint(0, 256, (2, 3, 12, 10), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    expected = padded[:, :, top : top + 12, left : left + 10]
    expected = expected.flip(-1) if flip else expected
    crop = torch.tensor([[top, left]] * 2)
    assert torch.equal(augment(images, crop, torch.tensor([flip] * 2)), expected)


def test_augmentation_treats_each_image_by_itself():
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    _, crop, flip = epoch_plan(5, 0, 0)
    batch = augment(images, crop, flip)
    single = [augment(images[i : i + 1], crop[i : i + 1], flip[i : i + 1]) for i in range(5)]
    assert torch.equal(batch, torch.cat(single))
