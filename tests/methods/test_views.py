import dataclasses

import pytest
import torch

from kdlib.data import augment
from kdlib.methods.views import rotations, transformed

from .common import make_batch


@pytest.fixture
def batch(shapes):
    """Four images, two of them flipped, cropped as in training."""
    plain = make_batch(shapes, count=4)
    crop, flip = torch.tensor([[0, 8], [4, 4], [7, 1], [3, 5]]), torch.tensor([True, False, True, False])
    return dataclasses.replace(plain, images=augment(plain.originals, crop, flip), flip=flip)


def test_the_upright_views_are_the_batchs_own(batch):
    views = rotations(batch)
    assert views.shape == (16, 3, 32, 32) and views.dtype == torch.uint8
    assert torch.equal(views[::4], batch.images)


def test_views_are_turned_by_90_180_and_270_degrees_and_cropped_each_in_its_own_way(batch):
    views, found = rotations(batch).unflatten(0, (4, 4)), []
    crops = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    stays = torch.zeros(81, dtype=torch.bool)
    for image, flip, turned in zip(batch.originals, batch.flip, views, strict=True):
        image = image.flip(-1) if flip else image
        for turns in (1, 2, 3):
            image = image.transpose(-2, -1).flip(-2)  # a quarter, counter-clockwise
            same = (augment(image.expand(81, -1, -1, -1), crops, stays) == turned[turns]).flatten(1).all(1)
            assert same.sum() == 1
            found.append(tuple(crops[same][0].tolist()))
    assert len(set(found)) > 6


def test_transformed_changes_each_image_with_the_given_probability():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (400, 3, 16, 16), dtype=torch.uint8)
    for probability, low, high in ((0.0, 0, 0), (0.5, 160, 240), (1.0, 400, 400)):
        views = transformed(images, probability)
        assert views.shape == images.shape and views.dtype == torch.uint8
        changed = (views != images).flatten(1).any(1)
        assert low <= changed.sum() <= high
        assert torch.equal(views[~changed], images[~changed])


def test_transformed_draws_anew_for_each_image_and_again_the_same_from_the_same_seed(shapes):
    images = shapes.train.images[:1].expand(20, -1, -1, -1)
    views = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        views.append(transformed(images, 1.0))
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert len(views[0].flatten(1).unique(dim=0)) == 20


def test_a_transformed_image_has_a_black_square_noise_and_another_brightness():
    torch.manual_seed(0)
    grey = torch.full((50, 3, 32, 32), 120, dtype=torch.uint8)
    views = transformed(grey, 1.0)
    squares = torch.nn.functional.max_pool2d(views.float().amax(1), 8, stride=1).flatten(1)
    assert (squares.amin(1) == 0).all()
    centres = views[:, :, 12:20, 12:20].float()
    assert (centres.std((1, 2, 3)) > 0).float().mean() > 0.9  # the square hides some
    assert views.float().amax((1, 2, 3)).min() < 120 < views.float().amax((1, 2, 3)).max()


def test_a_transformed_image_is_turned_and_enlarged_but_still_shows_the_same():
    """A left half in white stays mostly left, and where it ends is no longer a straight column."""
    torch.manual_seed(0)
    half = torch.zeros(100, 3, 32, 32, dtype=torch.uint8)
    half[..., :16] = 255
    bright = (transformed(half, 1.0).float().mean(1) > 90).float()
    assert bright[..., :8].mean() > 2 * bright[..., 24:].mean()
    ends = bright.cumsum(2).argmax(2).float()  # the last bright column of each row
    assert (ends.std(1) > 0).float().mean() > 0.9
