"""Cue conflict: pairs, colours, textures and contours; and its controls, of the same images."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.messages import UnknownName
from kdlib.probes.base import LUMA
from kdlib.probes.cue_conflict import (
    contours,
    cue_conflict,
    gram,
    main_colour_axis,
    match_classes,
    pair_ids,
    random_filters,
    recolour,
    transfer,
)

from .common import classes, generator, random_images


def drawings() -> tuple[torch.Tensor, torch.Tensor]:
    """Two discs on grey, and two pictures of coloured stripes, uint8."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disc = ((y - 15.5) ** 2 + (x - 15.5) ** 2) < 100
    content = 76 + 102 * torch.stack([disc, ~disc])[:, None].repeat(1, 3, 1, 1)
    stripes = torch.stack([x % 4 < 2, y % 4 < 2])[:, None]
    texture = 76 + stripes * torch.tensor([80, 40, 16]).view(1, 3, 1, 1)
    return content.to(torch.uint8), texture.to(torch.uint8)


def test_all_ordered_pairs_are_equally_often_and_no_image_is_used_twice():
    labels = torch.tensor([2, 5, 7, 9])[torch.randperm(4 * 15, generator=generator()) % 4]
    content, texture = pair_ids(labels, per_pair=20, generator=generator())
    assert len(content) == 12 * 2  # 15 images: 7 a half, of which 3 other classes can have 2 each
    used = torch.cat([content, texture])
    assert len(used.unique()) == len(used)
    pairs = list(zip(labels[content].tolist(), labels[texture].tolist(), strict=True))
    everyone = sorted(permutations([2, 5, 7, 9], 2))
    assert sorted(pairs[:12]) == everyone and sorted(pairs[12:]) == everyone


@pytest.mark.parametrize(("images", "times"), [(2, 1), (9, 4), (200, 20)])
def test_of_many_classes_some_pairs_are_drawn_with_each_class_equally_often_in_both_cues(images, times):
    labels = torch.arange(100).repeat(images)
    content, texture = pair_ids(labels, per_pair=20, generator=generator())
    assert labels[content].bincount().tolist() == labels[texture].bincount().tolist() == [times] * 100
    assert len(torch.cat([content, texture]).unique()) == 200 * times
    pairs = set(zip(labels[content].tolist(), labels[texture].tolist(), strict=True))
    assert len(pairs) == 100 * times and all(shape != other for shape, other in pairs)
    again, others = (pair_ids(labels, 20, generator(seed))[0] for seed in (0, 1))
    assert torch.equal(again, content) and not torch.equal(others, content)


def test_a_class_with_too_few_images_is_named():
    labels = torch.tensor([0] * 4 + [1] * 4 + [2])
    with pytest.raises(ValueError, match=r"needs 2 images of each; class 2 has 1"):
        pair_ids(labels, per_pair=20, generator=generator())


def test_recolouring_keeps_the_brightness_order_and_takes_the_colours():
    content, texture = drawings()
    made = recolour(content, texture)
    inside, outside = made.mean(1)[:, 16, 16], made.mean(1)[:, 0, 0]
    assert inside[0] > outside[0] and inside[1] < outside[1]
    torch.testing.assert_close(made.mean(dim=(2, 3)), texture.double().mean(dim=(2, 3)) / 255)
    red, green, blue = (made - 76 / 255).unbind(1)  # the stripes' colours are 76 + s * (80, 40, 16)
    torch.testing.assert_close(green, red * 0.5)
    torch.testing.assert_close(blue, red * 0.2)


@given(seed=st.integers(0, 2**31), spread=st.sampled_from([(1, 1, 1), (5, 1, 0), (0, 3, 0), (9, 9, 1)]))
@settings(deadline=None, max_examples=20)
def test_the_main_axis_is_the_leading_eigenvector(seed, spread):
    colours = torch.randint(28, (2, 3, 50), generator=generator(seed)).double()
    colours *= torch.tensor(spread).view(1, 3, 1)
    centred = colours - colours.mean(2, keepdim=True)
    variance, axes = torch.linalg.eigh(centred @ centred.mT / 50)
    expected = axes[..., -1] * variance[:, -1:].sqrt()
    axis = main_colour_axis(colours)
    sign = (axis * expected).sum(1, keepdim=True).sign()
    clear = variance[:, 2] > 1.05 * variance[:, 1]  # of two equal axes either will do
    torch.testing.assert_close(axis[clear], (sign * expected)[clear], atol=1e-8, rtol=1e-8)
    assert (axis @ torch.tensor(LUMA).double() >= 0).all()


def test_one_colour_has_no_axis():
    assert not main_colour_axis(torch.full((1, 3, 50), 90.0).double()).any()


def test_a_transfer_nears_the_texture_and_keeps_the_contours():
    content, texture = drawings()
    filters, start, texture = random_filters(), recolour(content, texture), texture.double() / 255
    made = transfer(start, start, texture, steps=15)
    assert made.min() >= 0 and made.max() <= 1

    def to_texture(images):
        return (gram(images, filters) - gram(texture, filters)).flatten(1).norm(dim=1)

    def apart(one, other):
        return (contours(one) - contours(other)).norm(dim=1)

    assert (to_texture(made) < 0.5 * to_texture(start)).all()
    assert (apart(made, start) < apart(made, texture)).all()


def test_rounding_errors_do_not_grow():
    content, texture = drawings()  # flat colours: the filters' responses there are 0 but for rounding
    start, texture = recolour(content, texture), texture.double() / 255
    made, moved = (transfer(begin, start, texture, steps=40) for begin in (start, start + 1e-15))
    torch.testing.assert_close(made, moved, atol=1e-9, rtol=0)


def test_cue_conflict_labels_differ_and_its_bits_repeat_whatever_the_batch_and_caller():
    images, labels = random_images(12, side=16), classes(12, 3)
    few = {"per_pair": 1, "steps": 2}
    made = cue_conflict(images, labels, generator(), **few)
    assert len(made.images) == 6 and made.meta["per_pair"] == 1
    assert (made.labels != made.texture_labels).all() and torch.equal(made.labels, labels[made.ids])
    with torch.inference_mode():
        again = cue_conflict(images, labels, generator(), batch=4, **few)
    assert made.sha256 == again.sha256 and torch.equal(made.texture_labels, again.texture_labels)
    assert made.sha256 != cue_conflict(images, labels, generator(1), **few).sha256


# ---- controls ----


FEW = {"per_pair": 2, "steps": 2}
PURE = {"kind": "texture"}
IMAGES, LABELS = random_images(24, side=16), classes(24, 3)


def made(images: torch.Tensor = IMAGES, seed: int = 0, **params):
    return cue_conflict(images, LABELS, generator(seed), **{**FEW, **params})


def test_conflict_colour_and_pure_texture_are_of_the_same_pairs():
    conflict, colour, pure = made(), made(steps=0), made(**PURE)
    _, texture = pair_ids(LABELS, FEW["per_pair"], generator())
    assert torch.equal(colour.ids, conflict.ids)
    assert torch.equal(colour.texture_labels, conflict.texture_labels)
    assert torch.equal(pure.ids, texture) and torch.equal(pure.labels, conflict.texture_labels)
    assert pure.texture_labels is None


def test_pure_texture_holds_nothing_of_the_content():
    pure, other = made(**PURE), IMAGES.clone()
    other[made().ids] = 255 - other[made().ids]
    assert made(other, **PURE).sha256 == pure.sha256 != made(seed=1, **PURE).sha256


def test_pure_texture_starts_from_uniform_noise_and_nears_the_texture():
    start, end = made(steps=0, **PURE), made(steps=20, **PURE)
    values, filters = start.images.double() / 255, random_filters()
    assert abs(values.mean() - 0.5) < 5 * (1 / 12 / values.numel()) ** 0.5
    assert abs(values.var() - 1 / 12) < 5 * (1 / 180 / values.numel()) ** 0.5
    target = gram(IMAGES[start.ids, :, 3:13, 3:13].double() / 255, filters)
    away = [(gram(m.images.double() / 255, filters) - target).flatten(1).norm(dim=1) for m in (start, end)]
    assert (away[1] < 0.5 * away[0]).all()


def test_without_conflict_the_same_contents_get_textures_of_their_own_class():
    content, texture = pair_ids(LABELS, 2, generator())
    matched = match_classes(LABELS, content, texture)
    assert torch.equal(LABELS[matched], LABELS[content])
    assert torch.equal(matched.sort().values, texture.sort().values)
    assert not set(matched.tolist()) & set(content.tolist())
    ceiling = made(kind="same class")
    assert torch.equal(ceiling.ids, content) and torch.equal(ceiling.labels, LABELS[content])
    assert ceiling.labels.bincount().tolist() == [4, 4, 4] and ceiling.texture_labels is None
    assert ceiling.sha256 != made().sha256


@pytest.mark.parametrize("params", [PURE, {"kind": "same class"}])
def test_the_bits_of_a_control_repeat_whatever_the_batch(params):
    assert made(**params).sha256 == made(batch=5, **params).sha256 == made(batch=1, **params).sha256


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownName, match="unknown kind 'textur'. Did you mean 'texture'"):
        made(kind="textur")
