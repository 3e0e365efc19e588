import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

import kdlib
from kdlib.probes import PROBES, series

from .common import classes, plain, random_images

PROFILES = Path(kdlib.__file__).parent / "profiles"


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_keeps_type_size_and_labels_and_leaves_its_input_alone(name):
    images, labels = random_images(42), classes(42, 4)
    before, probe = images.clone(), PROBES[name]
    made = probe(images, labels)
    assert made.images.dtype == torch.uint8 and made.images.shape == (len(made.ids), 3, 32, 32)
    assert torch.equal(made.labels, labels[made.ids]) and torch.equal(images, before)
    if "per_pair" in probe.params:
        assert len(made.ids) == len(made.ids.unique()) == 12  # one for each ordered pair of 4 classes
    else:
        assert torch.equal(made.ids, torch.arange(42)) and made.texture_labels is None


def test_names_of_controls_and_references_are_probes():
    for probe in PROBES.values():
        assert probe.reference in PROBES
        assert probe.control is None or probe.control in PROBES


def test_a_series_counts_its_levels_from_one_and_is_no_probe_itself():
    for name, levels in series().items():
        assert name not in PROBES and len(levels) >= 2
        assert [PROBES[level].level for level in levels] == list(range(1, len(levels) + 1))
        assert len({PROBES[level].function for level in levels}) == 1


def test_the_levels_of_a_series_are_named_by_strength():
    assert series()["superpixels"] == [
        "superpixels_256",
        "superpixels_100",
        "superpixels_64",
        "superpixels_36",
    ]
    assert series()["scramble_gutter"] == ["scramble_2_gutter", "scramble_4_gutter"]
    assert "cue_conflict" not in series()


def test_a_higher_level_of_noise_is_the_same_noise_stronger():
    grey, labels = plain((128,) * 3, n=6), classes(6)
    mild, strong = (PROBES[f"gaussian_noise_{level}"](grey, labels).images.int() - 128 for level in (1, 3))
    assert mild.any() and (strong - 2 * mild).abs().max() <= 1.5  # sigma 0.04 and 0.08, each rounded


def test_a_higher_level_of_impulse_noise_hits_the_same_values_and_more():
    images, labels = plain((128,) * 3, n=6), classes(6)
    hit = [PROBES[f"impulse_{level}"](images, labels).images != images for level in range(1, 6)]
    assert all((fewer <= more).all() for fewer, more in pairwise(hit))


def test_cue_conflict_and_its_controls_pair_the_same_images():
    images, labels = random_images(12), classes(12, 3)
    conflict, colour = (PROBES[name](images, labels) for name in ("cue_conflict", "colour_axis"))
    assert torch.equal(conflict.ids, colour.ids)
    assert torch.equal(conflict.texture_labels, colour.texture_labels)


def test_series_have_draws_of_their_own():
    images, labels = random_images(), classes(6)
    made = [PROBES[name](images, labels).sha256 for name in ("patch_drop_50", "patch_drop_50_offset")]
    assert made[0] != made[1]


def test_what_defines_the_images_tells_all_probes_and_seeds_apart():
    assert len({probe.describe(seed) for probe in PROBES.values() for seed in (0, 1)}) == 2 * len(PROBES)


def test_every_probe_is_used_by_a_shipped_profile():
    used = {name for path in PROFILES.glob("*.yml") for name in yaml.safe_load(path.read_text())["probes"]}
    levels = {level for name in used for level in series().get(name, [name])}
    beside = {other for name in levels for other in (PROBES[name].reference, PROBES[name].control) if other}
    assert levels | beside == set(PROBES)


def test_importing_the_probes_loads_no_image_library():
    code = "import sys, kdlib.probes; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"skimage", "scipy", "PIL", "torchvision"} & set(loaded.split())
