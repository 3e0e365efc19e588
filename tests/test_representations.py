"""Measures inside a network against networks, fields and features whose answers are known."""

import math
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from kdlib.bias.representations import (
    attention_distance,
    cka,
    features,
    interactions,
    invariance,
    receptive_field,
    receptive_maps,
)
from kdlib.models import ModelSpec, Network
from kdlib.probes.scramble import scramble

CELLS = list(product(range(4), repeat=2))  # of 8 px
LABELS = torch.tensor([0, 1, 1])


def random_images(n: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)


def brightness(images: torch.Tensor) -> torch.Tensor:
    """(n, 16): mean of each 8-px patch, in [0, 1]."""
    return F.avg_pool2d(images.double().mean(1) / 255, 8).flatten(1)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


class Quadratic(nn.Module):
    """One of three logits is v W v of the patches' brightness v, the others 0."""

    def __init__(self, weights: torch.Tensor):
        super().__init__()
        self.weights = nn.Parameter(weights.double())

    def forward(self, images):
        values = brightness(images)
        score = ((values @ self.weights) * values).sum(1)
        return SimpleNamespace(logits=F.pad(score[:, None], (0, 2)))


class FixedAttention(nn.Module):
    """One block with two heads, each with the same attention (P+N, P+N) for every image."""

    def __init__(self, *heads: torch.Tensor):
        super().__init__()
        self.heads = nn.Parameter(torch.stack(heads))
        self.num_prefix_tokens = len(heads[0]) - 64

    def forward(self, images, extras):
        return SimpleNamespace(attention=[self.heads.expand(len(images), -1, -1, -1)], grid=(8, 8))


def attentive(vit: Network) -> Network:
    """With larger queries, keys and values: untrained attention is nearly uniform, whatever it reads."""
    with torch.no_grad():
        for block in vit.backbone.blocks:
            block.attn.qkv.weight *= 30
    return vit


@pytest.fixture
def local_bag() -> Network:
    """Three 3x3 convolutions, so that a unit sees 7 px, then the mean over positions."""
    options = {"layers": [1] * 4, "channels": [16] * 4, "zero_init_last": False}
    spec = ModelSpec("resnet18", small_stem=True, options=options)
    network = Network(spec, 10, torch.full((3,), 0.5), torch.full((3,), 0.25))
    for stage in ("layer2", "layer3", "layer4"):
        setattr(network.backbone, stage, nn.Identity())
    return network


# Interactions


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(list(combinations(range(16), 2))), st.integers(0, 99))
def test_a_product_of_two_patches_interacts_at_exactly_their_distance(pair, seed):
    images, weights = random_images(seed=seed), torch.zeros(16, 16)
    weights[pair] = 1
    found = interactions(Quadratic(weights), images, LABELS)
    fill = images.double().mean(dim=(0, 2, 3)).round().mean().item() / 255
    mass = (brightness(images)[:, pair] - fill).prod(1).abs().numpy()
    mass = mass * [1, 0.5, 0.5]  # another label's margin sees it in one of two other logits
    apart = 8 * math.dist(*(CELLS[cell] for cell in pair))
    np.testing.assert_allclose(found["near"], mass / 24 if apart == 8 else 0, atol=1e-12)
    np.testing.assert_allclose(found["far"], mass / 78 if apart >= 16 else 0, atol=1e-12)


def test_what_adds_up_over_patches_does_not_interact():
    found = interactions(Quadratic(torch.eye(16)), random_images(), LABELS)
    assert all((values < 1e-12).all() for values in found.values())


def test_patches_that_all_interact_alike_have_no_locality():
    board = torch.tensor(CELLS).sum(1).view(4, 4) % 2 * 80 + 88
    images = board.repeat_interleave(8, 0).repeat_interleave(8, 1).expand(3, 3, 32, 32).to(torch.uint8)
    found = interactions(Quadratic(torch.ones(16, 16)), images, LABELS)
    np.testing.assert_allclose(found["far"] / found["near"], 1)


def test_a_bag_of_local_features_has_no_far_interactions(local_bag):
    found = interactions(local_bag, random_images(), LABELS)
    assert (found["near"] > 1e-4).all()
    np.testing.assert_allclose(found["far"] / found["near"], 0, atol=1e-3)  # float32


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_interactions_belong_to_their_image_whatever_batch_and_order(make_network, shapes, name):
    images, labels, order = shapes.test.images[:6], shapes.test.labels[:6], [5, 2, 0, 3, 1, 4]
    network = make_network(name)
    whole = interactions(network, images, labels)
    parts = interactions(network, images[order], labels[order])
    for measure, values in whole.items():
        np.testing.assert_allclose(parts[measure], values[order], rtol=1e-3, atol=1e-6)


def test_patches_are_a_quarter_of_the_images_side():
    class Halved(Quadratic):
        def forward(self, images):
            return super().forward(images[..., ::2, ::2])

    images, weights = random_images(), torch.ones(16, 16)
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found, told = (
        interactions(Halved(weights), large, LABELS),
        interactions(Quadratic(weights), images, LABELS),
    )
    assert all(np.array_equal(found[name], told[name]) for name in told)


def test_floats_are_hidden_and_seen_as_bytes_are(make_network):
    images = torch.tensor([100, 200], dtype=torch.uint8).repeat(3, 3, 32, 16)
    images[:, :, ::2] = images[:, :, ::2].flip(3)  # whose mean is a whole number
    network, floats = make_network("cnn"), images / 255
    for found, told in zip(
        *(interactions(network, part, LABELS).values() for part in (floats, images)), strict=True
    ):
        np.testing.assert_allclose(found, told, rtol=1e-3, atol=1e-6)
    assert np.array_equal(receptive_maps(network, floats), receptive_maps(network, images))


def test_images_that_are_not_cut_into_patches_are_refused(make_network):
    with pytest.raises(
        ValueError, match="images of 30x30 px can't be cut into 4 x 4 patches; give sides that 4"
    ):
        interactions(make_network("cnn"), random_images()[..., :30, :30], LABELS)


def test_a_vit_without_position_embedding_does_not_see_where_its_patches_are(make_network):
    network, images = attentive(make_network("vit")).eval(), random_images()
    moved = scramble(images, LABELS, torch.Generator().manual_seed(0), grid=8).images
    with torch.no_grad():
        network.backbone.pos_embed *= 30
        assert not torch.allclose(network(images).logits, network(moved).logits, atol=0.01)
        network.backbone.pos_embed.zero_()
        torch.testing.assert_close(network(images).logits, network(moved).logits)


# Receptive fields


def test_the_field_of_three_3x3_convolutions_is_7_px_wide(local_bag):
    maps = receptive_maps(local_bag, random_images())
    rows, columns = np.nonzero(maps[0])
    assert {*rows} == {*columns} == set(range(13, 20))


def test_a_vits_unit_sees_its_own_patch_most_and_every_other_too(make_network):
    maps = receptive_maps(make_network("vit"), random_images())
    assert maps.shape == (4, 32, 32) and (maps > 0).all()
    assert (maps[:, 16:20, 16:20].mean(axis=(1, 2)) > 2 * maps.mean(axis=(1, 2))).all()


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_receptive_fields_do_not_depend_on_batch_or_order(make_network, name):
    network, images = make_network(name), random_images()
    one, other = receptive_maps(network, images), receptive_maps(network, images.flip(0), batch_size=2)
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6 * one.max())


def test_sizes_of_known_fields():
    fields = np.zeros((4, 32, 32))
    fields[0] = 0.25  # uniform
    fields[1, 5, 9] = 3  # one pixel
    fields[2, [4, 4], [2, 12]] = 1  # two pixels, 10 px apart
    np.testing.assert_allclose(receptive_field(fields), [13.058, 0, 5, np.nan], atol=1e-3)


def test_size_does_not_depend_on_place_or_strength():
    field = np.zeros((1, 32, 32))
    field[0, 2:9, 3:8] = np.abs(noise(7, 5))
    moved = 7 * np.roll(field, (11, 20), axis=(1, 2))
    np.testing.assert_allclose(receptive_field(moved), receptive_field(field))


# Attention


def test_without_queries_and_keys_attention_is_uniform(make_network):
    network = make_network("vit")
    with torch.no_grad():
        for block in network.backbone.blocks:
            block.attn.qkv.weight[:32] = 0
    table = attention_distance(network, random_images(), batch_size=2)
    assert table[["block", "head"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    np.testing.assert_allclose(table.distance, 16.546, atol=1e-3)
    np.testing.assert_allclose(table.relative, 1, atol=1e-6)


def test_attention_to_itself_reaches_nowhere_and_to_the_next_cell_4_px_whatever_the_prefix_gets():
    own, beside = torch.eye(64), torch.eye(64)[torch.arange(64) ^ 1]
    heads = [F.pad(0.1 * tokens, (2, 0, 2, 0), value=0.45) for tokens in (own, beside)]
    table = attention_distance(FixedAttention(*heads), random_images())
    np.testing.assert_allclose(table.distance, [0, 4], atol=1e-6)
    np.testing.assert_allclose(table.relative, [0, 4 / 16.546], atol=1e-4)


def test_attention_is_that_of_all_images_whatever_the_batch(make_network):
    network, images = attentive(make_network("vit")), random_images()
    whole = attention_distance(network, images)
    alone = [attention_distance(network, image[None]) for image in images]
    assert not np.allclose(alone[0], alone[1], rtol=1e-3)
    np.testing.assert_allclose(whole, np.mean(alone, axis=0), rtol=1e-4)
    np.testing.assert_allclose(whole, attention_distance(network, images, batch_size=2), rtol=1e-4)


def test_a_cnn_has_no_attention(make_network):
    with pytest.raises(ValueError, match="resnet18 has no queries, keys and values; use a ViT"):
        attention_distance(make_network("cnn"), random_images())


# Features, CKA, invariance


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_features_are_the_means_of_the_stages_and_the_embedding_whatever_the_batch(make_network, name):
    network, images = make_network(name).eval(), random_images()
    with torch.inference_mode():
        output = network(images, ["stages"])
    expected = [*(stage.flatten(2).mean(2) for stage in output.stages), output.embedding]
    for size in (2, 500):
        found = features(network, images, batch_size=size)
        for values, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(values, reference.numpy(), rtol=1e-4, atol=1e-5)


def unbiased_hsic(one: np.ndarray, other: np.ndarray) -> float:
    """Song et al. 2012, term by term."""
    m = len(one)
    k, q = (values @ values.T * (1 - np.eye(m)) for values in (one, other))
    rest = k.sum() * q.sum() / ((m - 1) * (m - 2)) - 2 * (k @ q).sum() / (m - 2)
    return (np.trace(k @ q) + rest) / (m * (m - 3))


def test_cka_is_the_ratio_of_textbook_hsics_summed_over_whole_batches():
    one, other = noise(25, 6), noise(25, 9, seed=1) + 5
    other[:, :6] += one
    parts = [(one[:10], other[:10]), (one[10:20], other[10:20])]
    cross, first, second = (
        sum(unbiased_hsic(pair[a], pair[b]) for pair in parts) for a, b in ((0, 1), (0, 0), (1, 1))
    )
    assert cka(one, other, batch_size=10) == pytest.approx(cross / math.sqrt(first * second))


def test_cka_of_copies_is_1_and_rotation_scale_and_shift_change_nothing():
    one, other = noise(60, 8), noise(60, 8) + noise(60, 8, seed=1)
    rotation = np.linalg.qr(noise(8, 8, seed=2))[0]
    assert cka(one, one, 20) == pytest.approx(1)
    assert cka(one, 3 * other @ rotation + 2, 20) == pytest.approx(cka(one, other, 20))
    assert cka(one, other, 20) == pytest.approx(cka(other, one, 20))


def test_cka_of_features_that_are_the_same_for_all_inputs_is_nan():
    constant = np.tile(noise(1, 7), (40, 1))
    assert all(np.isnan(cka(constant, other, 20)) for other in (constant, noise(40, 8)))


def test_cka_of_independent_noise_is_near_0_where_the_biased_one_is_not():
    one, other = noise(1000, 100), noise(1000, 100, seed=1)
    centred = [values[:250] - values[:250].mean(0) for values in (one, other)]
    cross, first, second = (np.sum((centred[a].T @ centred[b]) ** 2) for a, b in ((0, 1), (0, 0), (1, 1)))
    assert cross / math.sqrt(first * second) > 0.25
    assert abs(cka(one, other)) < 0.01


@pytest.mark.parametrize("sizes", [(300, 299), (249, 249)])
def test_cka_needs_the_same_inputs_and_a_whole_batch(sizes):
    with pytest.raises(ValueError, match="same inputs, at least one batch of 250"):
        cka(*(noise(size, 4) for size in sizes))


def test_invariance_is_the_cosine_with_its_own_less_the_mean_with_the_others():
    clean, changed = noise(5, 3) + 4, noise(5, 3, seed=1) + 4
    mean = clean.mean(0)

    def cosine(i, j):
        a, b = clean[i] - mean, changed[j] - mean
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    expected = [cosine(i, i) - np.mean([cosine(i, j) for j in range(5) if j != i]) for i in range(5)]
    np.testing.assert_allclose(invariance(clean, changed), expected)
    order = [3, 1, 4, 0, 2]
    np.testing.assert_allclose(invariance(clean[order], changed[order]), np.array(expected)[order])


def test_invariance_is_1_where_nothing_changes_and_0_where_nothing_stays():
    clean = noise(400, 50).astype(np.float32)
    np.testing.assert_allclose(invariance(clean, clean), 1, atol=0.01)
    assert invariance(clean, noise(400, 50, seed=1).astype(np.float32)).mean() == pytest.approx(0, abs=0.02)
    np.testing.assert_allclose(invariance(clean, np.full_like(clean, 2)), 0, atol=1e-6)  # one for all


@pytest.mark.parametrize("shapes", [((5, 3), (4, 3)), ((1, 3), (1, 3))])
def test_invariance_needs_the_same_images_and_another(shapes):
    with pytest.raises(ValueError, match="embed the same images with and without the change"):
        invariance(*(noise(*shape) for shape in shapes))
