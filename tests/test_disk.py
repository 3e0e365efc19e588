import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlib import disk

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True), "c": torch.ones(2).bfloat16()}
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
            found = disk.read_arrays(path, lambda found: found.keys() == ARRAYS.keys())
            made_again += found is None
            assert found is None or all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
        assert made_again > 4 * len(content)  # a few, of dates and the like, change nothing
        for end in range(len(content)):
            path.write_bytes(content[:end])
            assert disk.read_arrays(path) is None


def test_arrays_that_do_not_fit_count_as_absent(tmp_path):
    disk.write_arrays(tmp_path / "answers.npz", ARRAYS)
    with pytest.warns(UserWarning, match="is damaged .it holds something else.: made again"):
        assert disk.read_arrays(tmp_path / "answers.npz", lambda found: "squares" in found) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert disk.read_arrays(tmp_path / "no.npz") is None


def test_no_flipped_bit_gives_another_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    disk.write_tensors(path, TENSORS, {"history": "[1]"})
    content = path.read_bytes()
    tensors, texts = disk.read_tensors(path)
    assert texts == {"history": "[1]"} and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    damaged = [*flips(content), *(content[:end] for end in range(len(content)))]
    for changed in damaged:
        path.write_bytes(changed)
        with pytest.raises(ValueError):
            disk.read_tensors(path)


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


@pytest.mark.parametrize("write", [disk.write_arrays, lambda *what: disk.write_tensors(*what, {})])
def test_a_full_disk_is_told_and_the_part_removed(small_disk, write):
    few, many = torch.rand(1000), torch.rand(1_000_000)
    if write is disk.write_arrays:
        few, many = few.numpy(), many.numpy()
    path = small_disk / "file"
    write(path, {"x": few})
    before = path.read_bytes()
    with pytest.raises(disk.DiskFull, match="the disk is full: file could not be written under .*small; no"):
        write(path, {"x": many})
    assert [each.name for each in Path(small_disk).iterdir()] == ["file"] and path.read_bytes() == before
