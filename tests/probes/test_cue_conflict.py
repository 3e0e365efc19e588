"""Controls of the cue conflict: texture alone, colour alone and no conflict, of the same images."""

import pytest
import torch

from kdlib.messages import UnknownName
from kdlib.probes.cue_conflict import cue_conflict, gram, match_classes, pair_ids, random_filters

from .common import classes, generator, random_images

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
