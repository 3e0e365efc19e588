import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlib import disk
from kdlib.train import Progress

ARRAYS = {
    "predicted": np.arange(20, dtype=np.int16),
    "confidence": np.linspace(0, 1, 20).astype(np.float16),
}


def flips(content: bytes):
    """The content with each of its bits turned over, one at a time."""
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "file"
    with disk.written(path) as partial:
        partial.write_text("first")
    with pytest.raises(KeyboardInterrupt), disk.written(path) as partial:
        partial.write_text("sec")
        raise KeyboardInterrupt
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("file", "first")]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "half").touch()
    with disk.written(tmp_path / "run") as partial:
        partial.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["run"]


def test_no_flipped_bit_gives_other_arrays(tmp_path):
    path = tmp_path / "answers.npz"
    disk.write_arrays(path, ARRAYS)
    content, made_again = path.read_bytes(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for changed in flips(content):
            path.write_bytes(changed)
            found = disk.read_arrays(path)
            made_again += found is None
            assert found is None or all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
        assert made_again > 4 * len(content)  # a few, of dates and the like, change nothing
        for end in range(len(content)):
            path.write_bytes(content[:end])
            assert disk.read_arrays(path) is None


def test_arrays_are_made_once_and_again_if_they_are_damaged(tmp_path):
    path, calls = tmp_path / "new" / "answers.npz", []

    def make() -> disk.Arrays:
        calls.append(1)
        return ARRAYS

    def ask() -> disk.Arrays:
        return disk.kept(path, make, tmp_path / "lock")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask() is ARRAYS and ask().keys() == ARRAYS.keys() and len(calls) == 1
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="answers.npz is damaged .*: made again"):
        assert ask() is ARRAYS
    assert np.array_equal(ask()["confidence"], ARRAYS["confidence"]) and len(calls) == 2


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    tensors = {"student.a": torch.arange(6.0).reshape(2, 3).T, "optimiser.0.step": torch.tensor(3.0)}
    Progress([{"epoch": 1, "loss": float("nan")}], [{"epoch": 1}], tensors).write(tmp_path / "c.npz")
    found = Progress.read(tmp_path / "c.npz")
    assert found.timing == [{"epoch": 1}] and np.isnan(found.history[0]["loss"])
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)
    assert Progress.read(tmp_path / "no.npz") is None


def test_every_change_in_a_sealed_directory_is_found(tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2.0\n")
    disk.seal(tmp_path)
    assert disk.damage(tmp_path) is None
    for path in list(tmp_path.iterdir()):
        content = path.read_bytes()
        for changed in [*flips(content), content[:-1], b""]:
            path.write_bytes(changed)
            assert disk.damage(tmp_path), changed
        path.unlink()
        assert path.name in disk.damage(tmp_path)
        path.write_bytes(content)
    assert disk.damage(tmp_path) is None


def test_a_full_disk_is_told_and_the_part_removed(small_disk):
    few, many = np.random.default_rng(0).random(1000), np.random.default_rng(0).random(1_000_000)
    path = small_disk / "file"
    disk.write_arrays(path, {"x": few})
    before = path.read_bytes()
    with pytest.raises(disk.DiskFull, match="the disk is full: file could not be written under .*small; no"):
        disk.write_arrays(path, {"x": many})
    assert [each.name for each in Path(small_disk).iterdir()] == ["file"] and path.read_bytes() == before
