"""What is done to training images to make a property: exact, the same in every batch, and not the probes'."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from kdlib.data import DataSpec, load
from kdlib.data.exchange import MARGIN, exchanged, luma
from kdlib.data.procedural import SHAPES
from kdlib.data.properties import (
    GRIDS,
    PROPERTIES,
    Treatment,
    changed,
    image_keys,
    maker,
    random_bits,
)
from kdlib.messages import UnknownName
from kdlib.models import ModelSpec
from kdlib.probes import PROBES
from kdlib.probes.base import digest
from kdlib.study.specs import RunSpec
from kdlib.train import Training, batches
from kdlib.train.state import Clock

KNOWN = {  # the start of the changed images' sha256
    "noise": "b396fc2f754cf800",
    "patches": "7884e0dca6232993",
    "grey": "e16e5af42543ed1a",
    "texture": "48075087aa73812e",
    "shape": "8246fa2f5767deee",
}
EVERY = pytest.mark.parametrize("name", KNOWN)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return load(DataSpec("shape_texture", train_images=120, options={"test_images": 10})).train.images


def full(name: str, images: torch.Tensor, indices, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return changed(images, torch.as_tensor(indices), Treatment(name), seed, epoch)


@EVERY
def test_an_image_is_the_same_in_every_batch(name, images):
    whole = full(name, images, range(40))
    for batch in ([3], [39, 3, 7], list(range(3, 20))):
        assert torch.equal(full(name, images, batch), whole[batch])


@EVERY
def test_another_seed_epoch_or_image_is_changed_otherwise(name, images):
    same = images[:1].repeat(120, 1, 1, 1) if name in ("noise", "patches", "grey") else images
    first = full(name, same, range(20))
    assert first.dtype == torch.uint8 and first.shape == (20, 3, 32, 32)
    for other in (full(name, same, range(20), seed=1), full(name, same, range(20), epoch=1)):
        assert (first != other).flatten(1).any(1).sum() >= 18
    if same is not images:
        assert (first[1:] != first[:-1]).flatten(1).any(1).sum() >= 17


@EVERY
def test_seeds_and_epochs_do_not_stand_in_for_each_other(name, images):
    assert not torch.equal(full(name, images, [5], 1, 2), full(name, images, [5], 2, 1))


@EVERY
def test_the_changes_are_the_same_on_every_machine(name):
    pixels = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = pixels.to(torch.uint8).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert digest(full(name, images, range(40)))[:16] == KNOWN[name]


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "noise"])
def test_the_dose_is_the_share_of_changed_images(name, images):
    whole, half = (changed(images, torch.arange(120), Treatment(name, dose), 0, 0) for dose in (1.0, 0.5))
    moved = (half != images).flatten(1).any(1)
    assert 40 <= moved.sum() <= 80
    assert torch.equal(half[moved], whole[moved])
    assert torch.equal(half[~moved], images[~moved])


@EVERY
def test_a_dose_out_of_range_is_refused(name):
    for dose in (-0.1, 1.01):
        with pytest.raises(ValueError, match=f"dose of {name} is {dose}; give the .*, above 0, at most"):
            Treatment(name, dose)


def test_the_full_dose_has_one_name():
    assert Treatment("noise") == Treatment("noise", 0.2) and Treatment("grey", 1) == Treatment("grey")


def test_an_unknown_property_is_named():
    with pytest.raises(UnknownName, match="unknown property 'nois'. Did you mean 'noise'.*patches, grey"):
        Treatment("nois")


def test_the_random_bits_are_those_of_splitmix64():
    # The published sequence from state 1234567 (Vigna's reference implementation).
    found = random_bits(torch.tensor([1234567]), 3, 0)[0].tolist()
    assert [number % 2**64 for number in found] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_keys_differ_for_every_seed_epoch_and_image():
    keys = [image_keys(torch.arange(500), seed, epoch) for seed in range(5) for epoch in range(5)]
    assert torch.cat(keys).unique().numel() == 12_500


def test_noise_is_gaussian_with_a_strength_uniform_up_to_the_dose():
    grey = torch.full((2000, 3, 16, 16), 128, dtype=torch.uint8)
    noise = (changed(grey, torch.arange(2000), Treatment("noise", 0.1), 0, 0).double() - 128) / 255
    sigma = noise.flatten(1).std(1)
    assert stats.kstest(sigma.numpy(), stats.uniform(0, 0.1).cdf).pvalue > 0.001
    scaled = (noise.flatten(1) / sigma[:, None])[sigma > 0.03].flatten().numpy()
    assert abs(scaled.mean()) < 0.01
    assert stats.kurtosis(scaled) == pytest.approx(0, abs=0.05)
    assert abs(np.corrcoef(scaled[:-1], scaled[1:])[0, 1]) < 0.01


def test_patches_keep_every_pixel_and_move_nearly_all(images):
    moved = full("patches", images, range(60))
    sort = [part.flatten(2).sort(2).values for part in (moved, images[:60])]
    assert torch.equal(*sort)
    place = torch.arange(1024).view(1, 1, 32, 32)
    codes = torch.cat([place % 256, place // 256, place * 0], 1).to(torch.uint8).repeat(300, 1, 1, 1)
    found = full("patches", codes, range(300)).long()
    came_from = found[:, 0] + 256 * found[:, 1]
    assert torch.equal(came_from.flatten(1).sort(1).values, place.flatten(1).expand(300, -1))
    stayed = (came_from == place[0]).float().mean()
    assert 0.12 < stayed < 0.22  # two rows and two columns, 12%, and 1 in 9, 25 or 36 of the others


def test_patches_move_whole_in_grids_that_no_probe_has():
    place = torch.arange(1024).view(1, 32, 32)
    codes = torch.stack([place % 256, place // 256, place * 0], 1).to(torch.uint8).repeat(300, 1, 1, 1)
    found = full("patches", codes, range(300)).long()
    came_from = found[:, 0] + 256 * found[:, 1]
    # Where a pixel's right neighbour in the image is not its neighbour in the source, there is a cut.
    cuts = (came_from[:, :, 1:] - came_from[:, :, :-1] != 1).any(1)
    places = [set(row.nonzero()[:, 0].add(1).tolist()) for row in cuts]
    for found in places:
        fits = [
            (grid, start)
            for grid in GRIDS
            for start in range(32 - grid * (32 // grid) + 1)
            if found <= {start + 32 // grid * step for step in range(grid + 1)}
        ]
        assert fits
    assert len({frozenset(found) for found in places}) >= 6
    tested = {probe.params["grid"] for probe in PROBES.values() if "grid" in probe.params}
    assert tested and not tested & set(GRIDS)


def test_grey_has_one_channel_and_mixes_the_three(images):
    made = full("grey", images, range(60))
    assert torch.equal(made[:, 0], made[:, 1]) and torch.equal(made[:, 0], made[:, 2])
    low, high = images[:60].amin(1), images[:60].amax(1)
    assert ((made[:, 0] >= low) & (made[:, 0] <= high)).all()
    red = torch.zeros(3000, 3, 4, 4, dtype=torch.uint8)
    red[:, 0] = 255
    weights = full("grey", red, range(3000))[:, 0, 0, 0].double() / 255
    assert weights.mean().item() == pytest.approx(1 / 3, abs=0.02)  # of a point in a triangle
    assert weights.var().item() == pytest.approx(1 / 18, abs=0.01)


# The exchange of textures


def test_an_image_in_its_own_texture_is_nearly_itself(images):
    made = exchanged(images[:40], images[:40])
    light = [luma(part).double().flatten(1) for part in (made, images[:40])]
    agree = [np.corrcoef(a, b)[0, 1] for a, b in zip(*light, strict=True)]
    assert np.median(agree) > 0.8


def test_colours_are_the_textures_and_light_is_the_contents():
    rows = torch.arange(32).view(1, 1, 32, 1).expand(1, 3, 32, 32)
    content = torch.where(rows < 16, 40, 200).to(torch.uint8)  # dark above, bright below, no colour
    noise = torch.randint(0, 200, (1, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    texture = torch.cat([noise, noise * 0, noise * 0], 1).to(torch.uint8)  # all red
    made = exchanged(content, texture).double()
    assert made[0, 0].mean() > 3 * made[0, 1].mean()
    assert luma(made[:, :, 18:]).double().mean() > luma(made[:, :, :14]).double().mean() + 20
    detail = (made[0, 0, 4:12, 4:12]).std()
    assert detail > 10  # a flat content is not flat any more


def test_the_frame_of_a_texture_is_left_out(images):
    content, texture = images[:8], images[8:16].clone()
    before = exchanged(content, texture)
    inside = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    other = 255 - texture
    other[inside] = texture[inside]
    assert torch.equal(exchanged(content, other), before)


def test_texture_takes_its_colours_from_another_image_and_shape_keeps_them(images):
    others = images.repeat(1, 1, 1, 1)
    others[1:, 1:] //= 4  # all but the first are red
    others[0] = others[0, :1].expand(3, -1, -1)  # the first is grey
    red, grey = full("texture", others, [0]).double(), full("shape", others, [0])
    assert red[0, 0].mean() > 2 * red[0, 1].mean()
    assert (grey[0, 0].int() - grey[0, 1].int()).abs().max() == 0


# Data sets


def test_the_procedural_set_draws_the_same_images_with_other_factors():
    data = load(DataSpec("shape_texture", train_images=400, options={"test_images": 10}))
    make = maker(data, Treatment("texture"), seed=0)
    indices = torch.arange(399, -1, -1)
    found = make(indices, 0)
    assert found.shape == data.train.images.shape and torch.equal(found, make(indices, 5))
    assert (found.flip(0) != data.train.images).flatten(1).any(1).float().mean() > 0.8
    few = maker(data, Treatment("texture", 0.2), seed=0)(torch.arange(400), 0)
    share = (few != data.train.images).flatten(1).any(1).float().mean()
    assert share.item() == pytest.approx(0.2 * (1 - 1 / len(SHAPES)), abs=0.07)


def test_other_properties_of_the_procedural_set_change_its_images():
    data = load(DataSpec("shape_texture", train_images=100, options={"test_images": 10}))
    indices = torch.arange(10)
    expected = changed(data.train.images, indices, Treatment("noise"), 3, 4)
    assert torch.equal(maker(data, Treatment("noise"), 3)(indices, 4), expected)


def test_exchanged_textures_take_turns(shapes):
    pictures = replace(shapes, spec=replace(shapes.spec, name="cifar10"))  # where they can't be drawn
    make, indices = maker(pictures, Treatment("texture"), 3), torch.tensor([5, 2, 60])
    for epoch in (0, 1, 5):
        expected = changed(shapes.train.images, indices, Treatment("texture"), 3, epoch % 4)
        assert torch.equal(make(indices, epoch), expected)
    assert not torch.equal(make(indices, 0), make(indices, 1))


def test_each_ordinary_image_is_followed_by_its_changed_one_in_as_many_steps():
    data = load(DataSpec("shape_texture", train_images=100, options={"test_images": 10}))
    recipe, make = Training(batch_size=32), maker(data, Treatment("grey"), 0)
    plain = list(batches(data.train, recipe, 0, 1, Clock(torch.device("cpu"))))
    made = list(batches(data.train, recipe, 0, 1, Clock(torch.device("cpu")), make))
    assert len(plain) == len(made) == 3
    for one, both in zip(plain, made, strict=True):
        assert torch.equal(both.images[::2], one.images) and torch.equal(both.labels[::2], one.labels)
        assert torch.equal(both.indices[1::2], one.indices) and torch.equal(both.labels[1::2], one.labels)
        changed_ones = both.images[1::2]
        assert torch.equal(changed_ones, changed_ones[:, :1].expand_as(changed_ones))  # grey, cropped alike


def test_a_treatment_is_part_of_a_runs_identity_and_its_absence_of_none():
    plain = RunSpec(DataSpec("shape_texture"), ModelSpec())
    assert "treatment" not in plain.as_json()
    treated = replace(plain, treatment=Treatment("noise"))
    assert treated.id != plain.id and json.loads(treated.as_json())["treatment"]["dose"] == 0.2
    student = RunSpec(DataSpec("shape_texture"), ModelSpec(), "lm", teacher=treated)
    assert student.id != replace(student, teacher=plain).id
    assert student.label == "lm: resnet18 from resnet18 (noise made), seed 0"


@pytest.mark.parametrize(("name", "dose"), [("noise", 0.1), ("texture", 0.5)])
def test_a_property_at_half_dose_is_the_property_with_half_its_dose(name, dose, images):
    half, indices = full(f"half_{name}", images, range(40)), torch.arange(40)
    assert torch.equal(half, changed(images, indices, Treatment(name, dose), 0, 0))
    assert set(PROPERTIES) == {*KNOWN, "half_noise", "half_texture"}
