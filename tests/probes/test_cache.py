"""Probes by name, and their images kept on disk."""

import warnings

import pytest
import torch

from kdlib.messages import UnknownName
from kdlib.probes import PROBES, Stimuli, stimuli
from kdlib.probes.base import in_place_of

from .common import classes, random_images


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


@pytest.mark.parametrize("damage", [cut_short, flip_a_byte])
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
