"""Figure and ground: the guessed masks against true ones, and the controls of the same area."""

import pytest
import torch

from kdlib.data.procedural import draw_with_masks
from kdlib.names import UnknownName
from kdlib.probes.foreground import centred_disc, figure_mask, foreground

from .common import classes, generator, plain


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """100 images of the procedural set, ten of each shape, and where their figures are."""
    source = generator()
    shape, texture = classes(100), torch.randint(10, (100,), generator=source)
    images, masks = draw_with_masks(shape, texture, source)
    return images, masks > 0.5


def rectangles(sides: list[int]) -> torch.Tensor:
    """A red square of each side in the middle of green ground."""
    images = plain((20, 120, 30), len(sides))
    for image, side in zip(images, sides, strict=True):
        start = (32 - side) // 2
        inside = slice(start, start + side)
        image[:, inside, inside] = plain((200, 40, 20), side=1)[0]
    return images


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean intersection over union."""
    return ((one & other).sum((1, 2)) / (one | other).sum((1, 2))).mean().item()


def test_masks_find_the_true_figures_where_discs_of_their_areas_do_not(drawn):
    images, truth = drawn
    masks = figure_mask(images)
    assert masks.dtype == torch.bool and masks.shape == truth.shape
    assert overlap(masks, truth) > 0.85  # 0.89 to 0.91 in ten sets of 100
    assert overlap(centred_disc(masks.sum((1, 2)), 32, 32), truth) < 0.65


def test_a_square_on_flat_ground_is_its_own_mask_and_a_frame_is_filled():
    images = rectangles([12, 12])
    images[1, :, 13:19, 13:19] = images[1, :, :1, :1]  # a hole in the colour of the ground
    truth = torch.zeros(32, 32, dtype=torch.bool)
    truth[10:22, 10:22] = True
    assert torch.equal(figure_mask(images), truth.expand(2, 32, 32))


def test_of_two_squares_the_central_one_is_the_figure():
    images = rectangles([10])
    images[:, :, 2:8, 2:8] = images[:, :, 16:17, 16:17]
    assert torch.equal(figure_mask(images), figure_mask(rectangles([10])))


def test_a_mask_does_not_depend_on_the_other_images(drawn):
    images, _ = drawn
    assert torch.equal(figure_mask(images)[40:60].flip(0), figure_mask(images[40:60].flip(0)))


def test_an_image_of_one_colour_has_no_figure_is_counted_and_stays_in():
    images = rectangles([12, 0, 14])
    assert not figure_mask(images)[1].any()
    made = foreground(images, torch.arange(3), generator())
    assert made.meta["degenerate"] == 1 and len(made.images) == 3
    assert made.images[1].flatten(1).unique(dim=1).shape == (3, 1)


@pytest.mark.parametrize("mask", ["own", "disc", "other"])
def test_figure_and_ground_share_out_every_pixel(drawn, mask):
    images, labels = drawn[0], classes(100)
    figure, ground = (foreground(images, labels, generator(3), keep, mask) for keep in ("figure", "ground"))
    assert figure.meta["kept"] + ground.meta["kept"] == pytest.approx(1)
    mean = images.double().mean(dim=(0, 2, 3)).round().to(torch.uint8).view(1, 3, 1, 1)
    kept, left = (made.images == images for made in (figure, ground))
    assert (kept | left).all() and torch.equal(kept & left, (images == mean).expand_as(kept))
    assert torch.equal(figure.labels, labels) and torch.equal(figure.ids, torch.arange(100))


def test_controls_keep_as_many_pixels_as_the_masks_do(drawn):
    images, labels = drawn[0], torch.arange(100)
    kept = [foreground(images, labels, generator(), mask=m).meta["kept"] for m in ("own", "disc", "other")]
    assert kept[0] == kept[1] == kept[2]


def test_a_disc_has_the_area_asked_for_and_nothing_outside_is_nearer_the_centre():
    areas = torch.tensor([0, 1, 100, 500, 1024])
    discs = centred_disc(areas, 32, 32)
    assert torch.equal(discs.sum((1, 2)), areas)
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    radius = (x**2 + y**2).expand(5, 32, 32)
    assert all(radius[i][discs[i]].max() <= radius[i][~discs[i]].min() for i in (1, 2, 3))


@pytest.mark.parametrize("seed", range(5))
def test_every_mask_goes_to_another_image(seed):
    sides = [8, 10, 12, 14, 16]
    images = rectangles(sides)
    made = foreground(images, torch.arange(5), generator(seed), mask="other").images
    mean = images.double().mean(dim=(0, 2, 3)).round().to(torch.uint8).view(1, 3, 1, 1)
    areas = (made != mean).all(1).sum((1, 2)).tolist()
    assert sorted(areas) == [side**2 for side in sides]
    assert all(area != side**2 for area, side in zip(areas, sides, strict=True))


def test_wrong_words_and_a_lone_image_are_refused():
    images, labels = rectangles([12]), torch.arange(1)
    with pytest.raises(UnknownName, match="Did you mean 'figure'"):
        foreground(images, labels, generator(), keep="figures")
    with pytest.raises(UnknownName, match="unknown mask 'box'.* Valid: own, disc, other"):
        foreground(images, labels, generator(), mask="box")
    with pytest.raises(ValueError, match="give 2 images or more"):
        foreground(images, labels, generator(), mask="other")
