"""Files that were damaged, or are something else than their name says: made again, or told in a line."""

import io
import pickle
import shutil
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kdlib import disk
from kdlib.data import CIFAR10_CLASSES, DataError, DataSpec, load, read_image
from kdlib.models import ModelSpec, Network
from kdlib.probes import PROBES, stimuli
from kdlib.probes.external import cifar10_c
from kdlib.report.figures.page import table_html
from kdlib.study import runs
from kdlib.study.runs import RunStore
from kdlib.study.specs import WEIGHTS


class Harm:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


PICKLE = npy(np.array([Harm()], dtype=object))


# ------------------------------------------------------------------------------------- run directories


@pytest.fixture(scope="module")
def made(shapes, make_spec, tmp_path_factory):
    """A finished run with an answer."""
    store = RunStore(tmp_path_factory.mktemp("made"), device="cpu", quiet=True)
    run = store.get(make_spec("cnn"))
    store.predictions(run, asked(shapes))
    return run


def asked(shapes):
    return {"clean": stimuli("clean", shapes.test.images[:20], shapes.test.labels[:20])}


@pytest.fixture
def copy(made, tmp_path):
    """The run in another store, as any tool copies folders."""
    store = RunStore(tmp_path / "runs", device="cpu", quiet=True)
    return store, shutil.copytree(made.path, store.path(made.spec))


def test_a_copied_run_is_loaded_with_its_answers(copy, made, shapes, monkeypatch):
    store, _ = copy
    monkeypatch.setattr(runs, "fit", None)
    monkeypatch.setattr(runs, "_ask", None)
    (run,) = store.get_all([made.spec])
    assert run.history.equals(made.history)
    assert "predicted" in store.predictions(run, asked(shapes))["clean"]


@pytest.mark.parametrize("name", ["spec.json", "record.json", "history.csv", WEIGHTS, disk.MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "other content"])
def test_a_damaged_copy_is_set_aside(name, damage, copy, made):
    store, folder = copy
    content = (folder / name).read_bytes()
    changed = {"empty": b"", "cut short": content[:-1], "other content": content + b"}"}
    (folder / name).unlink()
    if damage != "missing":
        (folder / name).write_bytes(changed[damage])
    with pytest.warns(UserWarning, match=r"is damaged \(.*\): set aside as"):
        assert store.load(made.spec) is None
    assert not folder.exists()


@pytest.mark.parametrize("text", ["{}", "[]", "null", "[" * 100_000])
def test_a_manifest_that_is_none_is_told(text, copy, made):
    store, folder = copy
    (folder / disk.MANIFEST).write_text(text)
    with pytest.warns(UserWarning, match="is damaged .*(doesn't list|object|recursion)"):
        assert store.load(made.spec) is None


def test_a_run_in_the_place_of_another_is_set_aside(copy, made, make_spec):
    store, folder = copy
    other = make_spec("cnn", seed=1)
    folder.rename(store.path(other))
    with pytest.warns(UserWarning, match="spec.json is of another run"):
        assert store.load(other) is None


def test_a_run_damaged_on_its_way_is_trained_again(copy, made):
    store, folder = copy
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.warns(UserWarning, match=f"is damaged .{WEIGHTS} changed.: set aside"):
        (again,) = store.get_all([made.spec])
    assert (again.path / WEIGHTS).read_bytes() == (made.path / WEIGHTS).read_bytes()
    assert len(list(store.root.glob(f"{made.spec.id}.damaged-*"))) == 1


def test_weights_of_another_network_are_told(copy, made):
    _, folder = copy
    save_file(load_file(folder / WEIGHTS) | {"mean": torch.zeros(4)}, folder / WEIGHTS)
    with pytest.raises(RuntimeError, match=f"the weights of run {made.spec.id} don't fit its") as told:
        type(made)(made.spec, folder).network()
    assert "\n" not in str(told.value)


# --------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "content", ["cut short", b"", b"PK\3\4" + bytes(100), pickle.dumps(Harm()), "objects"]
)
def test_answers_that_are_none_are_made_again(content, copy, made, shapes):
    store, folder = copy
    (path,) = (folder / "predictions").iterdir()
    good = disk.read_arrays(path)
    if content == "cut short":
        content = path.read_bytes()[:-9]
    if content == "objects":
        np.savez(path, **good | {"predicted": np.array([Harm()] * 20)})
    else:
        path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .*: made again"):
        found = store.predictions(store.load(made.spec), asked(shapes))["clean"]
    assert np.array_equal(found["predicted"], good["predicted"])
    assert np.array_equal(disk.read_arrays(path)["predicted"], good["predicted"])


@pytest.mark.parametrize("content", ["cut short", "objects"])
def test_stimuli_that_are_none_are_made_again(content, tmp_path, shapes):
    images, labels = shapes.test.images[:20], shapes.test.labels[:20]
    stimuli("grey", images, labels, cache=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    if content == "objects":
        np.savez(path, **disk.read_arrays(path) | {"images": np.array([Harm()])})
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="is damaged .*: made again"):
        found = stimuli("grey", images, labels, cache=tmp_path)
    assert torch.equal(found.images, PROBES["grey"](images, labels).images)


@pytest.mark.parametrize("content", [PICKLE, b"", b"PK\3\4" + bytes(100)])
def test_published_arrays_that_are_none_are_told(content, tmp_path):
    (tmp_path / "labels.npy").write_bytes(npy(np.zeros(20, np.uint8)))
    (tmp_path / "fog.npy").write_bytes(content)
    with pytest.raises(DataError, match="fog.npy is missing or damaged") as told:
        cifar10_c(tmp_path, CIFAR10_CLASSES)
    assert "\n" not in str(told.value)


# --------------------------------------------------------------------------------------------- images


def png(width, height, data=b"") -> bytes:
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in ((b"IHDR", size), (b"IDAT", data), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(9_000, 10_000, zlib.compress(bytes(100))), "9000 x 10000 pixels"),
        (png(32, 32, zlib.compress(bytes(100))), "is damaged or not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "cannot identify image file"),
        (b"", "cannot identify image file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Image size")
def test_what_is_no_png_or_jpeg_is_told(content, message, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=message) as told:
        read_image(tmp_path / "x.png")
    assert "\n" not in str(told.value)


def test_decoded_images_that_changed_are_decoded_again(tmp_path, shapes, monkeypatch):
    monkeypatch.delenv("KDLIB_CACHE", raising=False)
    for index, folder in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        image = Image.fromarray(shapes.test.images[index].permute(1, 2, 0).numpy())
        image.save(tmp_path / "mine" / folder / "0.png")
    first = load(DataSpec("mine"), tmp_path).spec
    (path,) = (tmp_path / "cache").glob("*.npz")
    for content in (PICKLE, path.read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged .*: made again"):
            assert load(DataSpec("mine"), tmp_path).spec == first


# ----------------------------------------------------------------------------------- names from files


def test_a_profile_loads_no_file(shapes, tmp_path):
    with pytest.raises(ValueError, match="not for a profile: checkpoint_path"):
        Network(ModelSpec(options={"checkpoint_path": "x"}), 10, *shapes.statistics)
    with pytest.raises(DataError, match="give the name of a folder in the data root, not a path"):
        load(DataSpec("../cifar10"), tmp_path)


def test_names_from_files_are_text_in_tables():
    table = table_html(pd.DataFrame({"<b>": ["<script>alert(1)</script>"]}), "t")
    assert "&lt;script&gt;" in table and "<script" not in table and "<b>" not in table
