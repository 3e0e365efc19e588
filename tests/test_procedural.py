"""The shape-texture set: what is random, what is controlled, and where the figure is."""

import hashlib

import pytest
import torch

from kdlib.data.procedural import CHUNK, SHAPES, TEXTURES, _draw_chunk, conflict, draw, factors, generate

PAIRS = torch.cartesian_prod(torch.arange(10), torch.arange(10)).repeat(4, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_with_masks(shape, texture, generator, size=32):
    """The images of ``draw``, and where their figures are."""
    pairs = zip(shape.split(CHUNK), texture.split(CHUNK), strict=True)
    chunks = [_draw_chunk(*pair, generator, size) for pair in pairs]
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]


def test_there_are_ten_shapes_and_ten_textures():
    assert len(set(SHAPES)) == len(set(TEXTURES)) == 10


def test_a_seed_fixes_every_bit():
    first, again, other = generate(200, seed=1), generate(200, seed=1), generate(200, seed=2)
    for field in ("images", "labels", "shape", "texture"):
        assert torch.equal(getattr(first, field), getattr(again, field))
    assert not torch.equal(first.images, other.images)
    assert first.images.dtype == torch.uint8 and first.images.shape == (200, 3, 32, 32)


@pytest.mark.parametrize(
    ("size", "known"),
    [
        (32, ("09c052b7eb657459", "3ab29185348f5454")),
        (40, ("fad550b4b1ef6818", "a53b9468bc3f927e")),
    ],
)
def test_the_set_is_the_same_on_every_machine(size, known):
    """Where this fails, the set is another one, and runs on it can't join those from elsewhere."""
    drawn = draw_with_masks(*PAIRS.unbind(1), seeded(), size)  # 400 images, and their masks
    assert torch.equal(draw(*PAIRS.unbind(1), seeded(), size), drawn[0])
    found = [hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in drawn]
    assert tuple(digest[:16] for digest in found) == known


def test_labels_and_factors_are_the_same_on_every_machine():
    drawn = torch.stack(factors(500, seeded(), 0.5, 0.5))
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest()[:16] == "65a9b992fd4f4712"


def test_images_do_not_depend_on_the_number_of_threads():
    threads, images = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            images.append(generate(200, seed=5, size=40).images)
            assert torch.get_num_threads() == count  # the caller's setting survives
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])


@pytest.mark.parametrize("n", [10, 1000, 1007])
def test_labels_are_as_balanced_as_n_allows(n):
    counts = factors(n, seeded())[0].bincount(minlength=10)
    assert counts.sum() == n and counts.max() - counts.min() <= 1


def test_full_correlation_makes_shape_and_texture_the_label():
    labels, shape, texture = factors(500, seeded())
    assert torch.equal(shape, labels) and torch.equal(texture, labels)
    assert not torch.equal(labels, labels.sort().values)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("cue", [1, 2])
def test_a_cue_agrees_with_the_label_as_often_as_its_correlation_says(correlation, cue):
    n, expected = 40_000, correlation + (1 - correlation) / 10
    correlations = [1.0, 1.0]
    correlations[cue - 1] = correlation
    drawn = factors(n, seeded(3), *correlations)
    agreement = (drawn[cue] == drawn[0]).double().mean().item()
    assert abs(agreement - expected) < 4 * (expected * (1 - expected) / n) ** 0.5
    assert torch.equal(drawn[3 - cue], drawn[0])  # the other cue is untouched


def test_shape_and_texture_stray_from_the_label_independently():
    n = 40_000
    labels, shape, texture = factors(n, seeded(4), 0.5, 0.5)
    both = ((shape == labels) & (texture == labels)).double().mean().item()
    expected = 0.55**2
    assert abs(both - expected) < 4 * (expected * (1 - expected) / n) ** 0.5


def test_conflict_holds_every_ordered_pair_equally_often():
    stimuli = conflict(per_pair=3, seed=0)
    counts = (stimuli.shape * 10 + stimuli.texture).bincount(minlength=100).view(10, 10)
    assert torch.equal(counts, 3 * (1 - torch.eye(10, dtype=torch.int64)))
    assert torch.equal(stimuli.labels, stimuli.shape) and len(stimuli.images) == 270


def test_colour_says_nothing_about_the_label():
    # Areas and fills differ between classes, yet move no mean: all colours have the same mean, mid grey.
    n = 3000
    data = generate(n, seed=7)
    colours = data.images.double().mean((2, 3))
    error = colours.std(0) * (10 / n) ** 0.5
    for label in range(10):
        assert ((colours[data.labels == label].mean(0) - colours.mean(0)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("size", [32, 64])
def test_every_figure_lies_within_the_frame_and_can_be_seen(size):
    shape, texture = PAIRS.unbind(1)
    _, masks = draw_with_masks(shape, texture, seeded(), size)
    border = torch.cat([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], dim=1)
    assert border.max() == 0
    area = masks.mean((1, 2))
    assert area.min() > 0.07 and area.max() < 0.5


def test_shapes_have_silhouettes_of_their_own():
    # One seed, one image a call: the same position, scale and turn for all ten.
    masks = [draw_with_masks(torch.tensor([k]), torch.tensor([0]), seeded())[1][0] for k in range(10)]
    for first in range(10):
        for second in range(first):
            union = torch.maximum(masks[first], masks[second]).sum()
            assert torch.minimum(masks[first], masks[second]).sum() < 0.9 * union


def test_texture_fills_the_figure_and_nothing_else():
    shape = torch.arange(10).repeat(20)
    stripes, masks = draw_with_masks(shape, torch.zeros_like(shape), seeded())
    for kind in range(1, 10):
        other = draw(shape, torch.full_like(shape, kind), seeded())
        differs = (stripes != other).any(1)
        assert not differs[masks == 0].any()
        assert differs[masks == 1].float().mean() > 0.3


def test_the_ground_has_clearly_lower_contrast_than_the_figure():
    shape, texture = PAIRS.unbind(1)
    images, masks = draw_with_masks(shape, texture, seeded())

    def spread(inside):
        weight = inside[:, None].double()
        total = weight.sum((2, 3))
        mean = (images * weight).sum((2, 3)) / total
        return (((images - mean[:, :, None, None]) ** 2 * weight).sum((2, 3)) / total).sum(1).sqrt().mean()

    assert spread(masks == 1) > 2.5 * spread(masks == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factors(9, seeded()), "n=9 .* at least 10"),
        (lambda: generate(20, 0, shape_correlation=1.5), "shape_correlation=1.5 .* from 0 to 1"),
        (lambda: generate(20, 0, texture_correlation=-0.1), "texture_correlation=-0.1 .* from 0 to 1"),
        (lambda: generate(20, 0, texture_correlation=float("nan")), "texture_correlation=nan"),
        (lambda: generate(20, 0, size=8), "size=8 .* at least 16"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
