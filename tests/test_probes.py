"""Probes: what they change, what they leave alone, and that labels stay with their images."""

import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.messages import UnknownName
from kdlib.probes import PROBES, Stimuli, stimuli
from kdlib.probes.base import LUMA, cut, in_place_of, join, mean_colour, normal, to_uint8
from kdlib.probes.cue_conflict import (
    contours,
    cue_conflict,
    gram,
    main_colour_axis,
    pair_ids,
    random_filters,
    recolour,
    transfer,
)
from kdlib.probes.noise import gaussian_noise, grey_box, impulse, local_noise, patch_drop, shot
from kdlib.probes.scramble import cycle_sources, pixel_shuffle, scramble
from kdlib.probes.suppression import edges

from .probes.common import classes, generator, random_images

ONE_TO_ONE = [name for name, probe in PROBES.items() if "per_pair" not in probe.params]


def pixels(images: torch.Tensor) -> torch.Tensor:
    """The colours of each image in sorted order: equal where the multisets of pixels are equal."""
    codes = (images.long() * torch.tensor([1, 256, 65536]).view(1, 3, 1, 1)).sum(1)
    return codes.flatten(1).sort(dim=1).values


def patches(image: torch.Tensor, side: int) -> list[bytes]:
    tiles = image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4)
    return [tile.numpy().tobytes() for tile in tiles.flatten(0, 1).contiguous()]


# Every probe


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


@settings(deadline=None, max_examples=20)
@given(rows=st.sampled_from([1, 2, 3, 6]), columns=st.sampled_from([1, 2, 4]))
def test_patches_come_in_reading_order_and_join_to_the_image(rows, columns):
    images = random_images(2, side=12)
    patches = cut(images, rows, columns)
    assert torch.equal(patches[:, 12 // columns], images[:, :, rows : 2 * rows, :columns])
    assert torch.equal(join(patches, 12, 12), images)


# Scrambles


@given(side=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_no_patch_stays_and_the_patches_form_one_cycle(side, seed):
    sources = cycle_sources(3, side**2, generator(seed))
    for source in sources.tolist():
        visited, here = [], 0
        for _ in range(side**2):
            visited.append(here)
            here = source[here]
        assert here == 0 and sorted(visited) == list(range(side**2))


@pytest.mark.parametrize("params", [{"grid": 2}, {"grid": 4, "offset": 2}, {"grid": 8, "offset": 3}])
def test_scrambling_keeps_the_pixels_of_every_image(params):
    images = random_images()
    made = scramble(images, classes(6), generator(), **params).images
    assert torch.equal(pixels(made), pixels(images)) and not torch.equal(made, images)


@settings(deadline=None, max_examples=20)
@given(grid=st.sampled_from([2, 3, 4, 6]), seed=st.integers(0, 2**31))
def test_an_aligned_scramble_only_moves_patches(grid, seed):
    images = random_images(2, side=24)
    made = scramble(images, classes(2), generator(seed), grid=grid).images
    for before, after in zip(images, made, strict=True):
        before, after = patches(before, 24 // grid), patches(after, 24 // grid)
        assert sorted(before) == sorted(after)
        assert all(a != b for a, b in zip(before, after, strict=True))


def test_images_are_scrambled_differently_from_each_other():
    one = random_images(1).repeat(8, 1, 1, 1)
    assert len(scramble(one, classes(8), generator(), grid=4).images.unique(dim=0)) > 1


def test_a_grid_or_a_size_of_one_changes_nothing():
    images = random_images()
    assert torch.equal(scramble(images, classes(6), generator(), grid=1, offset=2).images, images)
    assert torch.equal(pixel_shuffle(images, classes(6), generator(), size=1).images, images)


def test_an_offset_is_roll_scramble_roll_back():
    images, labels = random_images(), classes(6)
    rolled = scramble(images.roll((2, 2), dims=(2, 3)), labels, generator(7), grid=4).images
    made = scramble(images, labels, generator(7), grid=4, offset=2).images
    assert torch.equal(made, rolled.roll((-2, -2), dims=(2, 3)))


@pytest.mark.parametrize("grid", [2, 4])
def test_a_gutter_and_its_intact_control_have_the_same_pixels(grid):
    images, labels = random_images(), classes(6)
    scrambled, intact = (
        PROBES[f"{kind}_{grid}_gutter"](images, labels).images for kind in ("scramble", "intact")
    )
    assert torch.equal(pixels(scrambled), pixels(intact)) and not torch.equal(scrambled, intact)
    mean = images.double().mean(dim=(0, 2, 3)).round().to(torch.uint8).view(1, 3, 1)
    rim = torch.arange(0, 32, 32 // grid)
    for made in (scrambled, intact):
        for line in (*rim.tolist(), *(rim + 32 // grid - 1).tolist()):
            assert (made[:, :, line] == mean).all() and (made[:, :, :, line] == mean).all()
    inside = slice(1, 32 // grid - 1)
    assert torch.equal(intact[:, :, inside, inside], images[:, :, inside, inside])


def test_a_grid_or_gutter_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="grid 5 doesn't divide images of 32x32"):
        scramble(random_images(), classes(6), generator(), grid=5)
    with pytest.raises(ValueError, match="gutter 1 covers patches of 2x2"):
        scramble(random_images(), classes(6), generator(), grid=16, gutter=1)


def test_scrambled_bits_do_not_change_between_versions():
    images = torch.arange(2 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(2, 3, 8, 8)
    assert (
        PROBES["scramble_4"](images, classes(2), seed=1).sha256
        == "0f4421ff06e57548c9371b5387aa6edd80cc4cb88c5ca6f5192feea707fff655"
    )


@settings(deadline=None, max_examples=20)
@given(size=st.sampled_from([2, 3, 4, 6]), seed=st.integers(0, 2**31))
def test_a_pixel_shuffle_keeps_the_pixels_of_each_patch(size, seed):
    images = random_images(2, side=12)
    made = pixel_shuffle(images, classes(2), generator(seed), size=size).images
    before, after = (cut(x, size, size).flatten(0, 1) for x in (images, made))
    assert torch.equal(pixels(before), pixels(after))
    assert (before != after).any(dim=1).all()  # a cycle leaves no pixel in its place


def test_patches_are_shuffled_differently_from_each_other():
    one = random_images(1, side=4).repeat(2, 1, 3, 3)
    made = cut(pixel_shuffle(one, classes(2), generator(), size=4).images, 4, 4)
    assert len(made.flatten(0, 1).unique(dim=0)) > 9


# Noise and occlusion


@pytest.mark.parametrize("noise, params", [(gaussian_noise, {}), (local_noise, {"size": 11})])
def test_sigma_zero_changes_nothing(noise, params):
    images = random_images()
    assert torch.equal(noise(images, classes(6), generator(), sigma=0.0, **params).images, images)


def test_noise_has_the_mean_and_sigma_asked_for():
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    made = gaussian_noise(grey, classes(40), generator(), sigma=0.1)
    values, n = made.images.double() - 128, grey.numel()
    sigma = (25.5**2 + 1 / 12) ** 0.5  # rounding to whole levels adds 1/12 to the variance
    assert abs(values.mean()) < 5 * sigma / n**0.5
    assert abs(values.std() - sigma) < 5 * sigma / (2 * n) ** 0.5
    assert made.meta["clipped"] < 1e-4  # five sigmas from mid-grey to either end


def test_local_noise_stays_in_its_square():
    images = torch.full((6, 3, 32, 32), 128, dtype=torch.uint8)
    made = local_noise(images, classes(6), generator(), size=11, sigma=0.1).images
    changed = made != images
    assert changed[:, :, 10:21, 10:21].float().mean() > 0.95
    changed[:, :, 10:21, 10:21] = False
    assert not changed.any() and len(made.unique(dim=0)) == 6


def test_a_grey_box_is_one_grey_square():
    made = grey_box(torch.zeros(6, 3, 32, 32, dtype=torch.uint8), classes(6), generator(), size=11).images
    assert (made[:, :, 10:21, 10:21] == 128).all() and (made == 128).sum() == 6 * 3 * 121


def test_a_square_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="40 px doesn't fit images of 32x32"):
        grey_box(random_images(), classes(6), generator(), size=40)


@pytest.mark.parametrize("shape", [(16,), (5, 7), (2, 3, 11, 11), (3, 3, 32, 32)])
def test_normal_noise_is_that_of_torch(shape):
    drawn = torch.randn(shape, generator=generator(3))
    torch.testing.assert_close(normal(shape, generator(3)), drawn, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level, rate", [(51, 51), (51, 255), (153, 85)])  # rates that divide 255
def test_shot_noise_keeps_the_mean_and_has_the_variance_of_counts(level, rate):
    images = torch.full((40, 3, 32, 32), level, dtype=torch.uint8)
    made = shot(images, classes(40), generator(), rate=rate)
    values, x, n = made.images.double() / 255, level / 255, images.numel()
    variance = x / rate
    fourth = 3 * variance**2 + x / rate**3  # central moment of a Poisson count / rate
    assert abs(values.mean() - x) < 5 * (variance / n) ** 0.5
    assert abs(values.var() - variance) < 5 * (fourth / n) ** 0.5


def test_impulse_makes_its_share_half_black_half_white_and_spares_the_rest():
    images, share = torch.full((40, 3, 32, 32), 90, dtype=torch.uint8), 0.07
    made = impulse(images, classes(40), generator(), share=share).images
    assert set(made.unique().tolist()) == {0, 90, 255}
    for value in (0, 255):
        error = 5 * (share / 2 / images.numel()) ** 0.5
        assert abs((made == value).float().mean() - share / 2) < error
    assert torch.equal(impulse(images, classes(40), generator(), share=0.0).images, images)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("offset", [0, 2])
def test_patch_drop_paints_exactly_that_share_of_the_patches(share, offset):
    images = random_images()
    made = patch_drop(images, classes(6), generator(), share=share, offset=offset).images
    before, after = (cut(x.roll((offset, offset), dims=(2, 3)), 4, 4) for x in (images, made))
    painted = (after == mean_colour(images)).flatten(2).all(dim=2)
    assert (painted.sum(dim=1) == round(share * 64)).all()
    assert torch.equal(after[~painted], before[~painted])


def test_a_larger_share_drops_the_same_patches_and_more():
    images, labels = random_images(), classes(6)
    dropped = [PROBES[f"patch_drop_{percent}"](images, labels).images != images for percent in (25, 50, 75)]
    assert (dropped[0] <= dropped[1]).all() and (dropped[1] <= dropped[2]).all()


# Edges


def test_an_image_without_edges_is_all_white():
    images = torch.tensor([0, 17, 128, 255], dtype=torch.uint8).view(4, 1, 1, 1).repeat(1, 3, 32, 32)
    images[:, 1] //= 2
    assert (edges(images, classes(4), generator()).images == 255).all()


def test_a_step_edge_is_two_black_columns():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[..., 16:] = 90
    made = edges(images, classes(1), generator()).images
    assert (made[..., 15:17] == 0).all() and (made[..., :15] == 255).all() and (made[..., 17:] == 255).all()


# Cue conflict


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


# By name, and kept on disk


def same(one: Stimuli, other: Stimuli) -> bool:
    tensors = [(one.images, other.images), (one.labels, other.labels), (one.ids, other.ids)]
    if one.texture_labels is not None:
        tensors.append((one.texture_labels, other.texture_labels))
    told = [{name: value for name, value in made.meta.items() if name != "seconds"} for made in (one, other)]
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors) and told[0] == told[1]


def test_an_unknown_probe_gets_the_closest_name_and_the_list():
    with pytest.raises(
        UnknownName, match=r"unknown probe 'scrambel_4'. Did you mean 'scramble_4'\? Valid: clean,"
    ):
        stimuli("scrambel_4", random_images(), classes(6))


@pytest.mark.parametrize("name, side, n", [("gaussian_noise_1", 32, 6), ("cue_conflict", 8, 4)])
def test_the_cache_gives_back_what_was_made(tmp_path, monkeypatch, name, side, n):
    images, labels = random_images(n, side), classes(n, 2)
    made = stimuli(name, images, labels, cache=tmp_path / "new")
    assert {file.suffix for file in (tmp_path / "new").iterdir()} == {".npz", ".lock"}
    monkeypatch.setattr(type(PROBES[name]), "__call__", None)  # it must not be made again
    kept = stimuli(name, images, labels, cache=tmp_path / "new")
    assert same(made, kept) and (kept.texture_labels is None) == (name != "cue_conflict")


def test_other_images_labels_or_seeds_are_other_files(tmp_path):
    images, labels = random_images(), classes(6)
    for arguments in [
        (images, labels, 0),
        (images, labels, 1),
        (images.flip(0), labels, 0),
        (images, labels + 1, 0),
    ]:
        stimuli("scramble_2", *arguments, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 4


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_byte(path):
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)


def other_images(path):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{**arrays, "images": 255 - arrays["images"]})


@pytest.mark.parametrize("damage", [cut_short, flip_a_byte, other_images])
def test_a_damaged_file_is_said_so_and_made_anew(tmp_path, damage):
    images, labels = random_images(), classes(6)
    made = stimuli("scramble_4", images, labels, cache=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    damage(path)
    with pytest.warns(UserWarning, match="damaged"):
        assert same(stimuli("scramble_4", images, labels, cache=tmp_path), made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(stimuli("scramble_4", images, labels, cache=tmp_path), made)


def test_the_hash_is_that_of_the_images_alone():
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    twelve_zero_bytes = "15ec7bf0b50732b49f8228e07d24365338f9e3ab994b00af08e5a3bffe55fd8b"
    assert (
        in_place_of(images, classes(1)).sha256
        == in_place_of(images, classes(1) + 3).sha256
        == twelve_zero_bytes
    )
