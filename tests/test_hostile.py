"""Files made to harm, whose digests are right where they have any: refused in a line, or made again."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from kdlib import disk
from kdlib.data import CIFAR10_CLASSES, DataError, DataSpec, load, read_image
from kdlib.models import ModelSpec, Network
from kdlib.probes import PROBES, stimuli
from kdlib.probes.external import cifar10_c
from kdlib.report.figures.page import table_html
from kdlib.study.profile import PROFILES, read_profile
from kdlib.study.runs import WEIGHTS, RunStore
from kdlib.train import Progress

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Harm:
    def __reduce__(self):
        return os._exit, (1,)


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, dtype="<f8") -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def packed(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.npy", content)


PICKLE = npy(np.array([Harm()], dtype=object))

# -------------------------------------------------------------------------------------------- profiles

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "longer than 100,000 characters, its anchors written out"),
        ("a: &a [*a]", "no YAML that can be read: Circular reference"),
        ("[" * 2000, "no YAML that can be read"),
        ("title: !!python/object/apply:os._exit [1]", "no YAML that can be read: could not determine"),
        ("[title]", r"is \['title'\]; it must be a mapping"),
        ("", "is None; it must be a mapping"),
    ],
)
def test_yaml_that_is_no_profile_is_told(text, message, tmp_path):
    path = tmp_path / "profile.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        read_profile(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=3", r"a profile.seeds is 3; it must be of type list\[int\]"),
        ("training.epochs=true", "training.epochs is True; it must be of type int"),
        ("training.clip=.nan", "training.clip is nan; it must be of type float"),
        ("training.epochs.x=1", "epochs of override training.epochs.x is 5; it must be a mapping"),
        ("students.cnn=[]", r"students.cnn is \[\]; it must be a mapping"),
        ("directions={../x: {teacher: cnn, student: vit, methods: [lm]}}", "'../x' is part of files' names"),
    ],
)
def test_values_of_another_kind_are_told(override, message):
    with pytest.raises(ValueError, match=message):
        read_profile("quick", [override])


@few
@given(share=st.floats(0, 1, exclude_max=True), new=st.binary(max_size=8))
def test_a_damaged_profile_is_read_or_told(share, new, tmp_path):
    content = (PROFILES / "quick.yml").read_bytes()
    at = int(share * len(content))
    (tmp_path / "profile.yml").write_bytes(content[:at] + new + content[at + len(new) + 1 :])
    try:
        assert read_profile(str(tmp_path / "profile.yml"))["seeds"]
    except ValueError as refusal:
        assert str(refusal)


def test_a_profile_loads_no_file(shapes, tmp_path):
    with pytest.raises(ValueError, match="not for a profile: checkpoint_path"):
        Network(ModelSpec(options={"checkpoint_path": "x"}), 10, *shapes.statistics)
    with pytest.raises(DataError, match="give the name of a folder in the data root, not a path"):
        load(DataSpec("../cifar10"), tmp_path)


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
    """The run in a store of its own, to be damaged."""
    store = RunStore(tmp_path / "runs", device="cpu", quiet=True)
    return store, shutil.copytree(made.path, store.path(made.spec), ignore=shutil.ignore_patterns("*.lock"))


def sign(folder):
    """What someone who means harm would do too."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != disk.MANIFEST]
    (folder / disk.MANIFEST).write_text(json.dumps({path.name: disk.sha256(path) for path in files}))


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


def other(name, **more):
    return lambda folder: put(name, json.dumps(json.loads((folder / name).read_text()) | more))(folder)


def pipe(folder):
    (folder / "history.csv").unlink()
    os.mkfifo(folder / "history.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("record.json", "[" * 100_000), "recursion"),
        (put("record.json", "{}"), "record.json has no status"),
        (other("record.json", classes=3), "record.json.classes is 3"),
        (other("record.json", environment={}), "record.json's environment has no device"),
        (other("spec.json", seed=1), "spec.json is of another run"),
        (put("history.csv", ""), "No columns to parse"),
        (put("history.csv", "epoch,loss\n1,x\n"), "history.csv isn't numbers"),
        (put("timing.csv", "epoch,evaluation\n2,1\n"), "timing.csv hasn't a row for each epoch"),
        (lambda folder: os.truncate(folder / "history.csv", 17_000_000), "or larger than 16 MB"),
    ],
)
def test_a_run_that_is_signed_but_none_is_set_aside(change, message, copy, made):
    store, folder = copy
    change(folder)
    sign(folder)
    with pytest.warns(UserWarning, match=f"is damaged .*{message}.*: set aside"):
        assert store.load(made.spec) is None


@pytest.mark.parametrize(
    "change",
    [put(disk.MANIFEST, text) for text in ("{}", "[]", "null", '{"../../x": null}', '{"/dev/zero": "0"}')]
    + [other(disk.MANIFEST, **{"../../x": "0"}), pipe],
)
def test_a_manifest_names_the_runs_own_plain_files(change, copy, made):
    store, folder = copy
    change(folder)
    with pytest.warns(UserWarning, match="is damaged .*(doesn't list|object|history.csv is missing)"):
        assert store.load(made.spec) is None


def test_weights_of_another_network_are_told(copy, made):
    store, folder = copy
    save_file(load_file(folder / WEIGHTS) | {"mean": torch.zeros(4)}, folder / WEIGHTS)
    sign(folder)
    with pytest.raises(RuntimeError, match=f"the weights of run {made.spec.id} don't fit its") as told:
        store.load(made.spec).network()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "texts",
    [{}, {"history": "[]"}, {"history": "[", "timing": "[]"}, {"history": "[1]", "timing": "[1]"}],
)
def test_a_checkpoint_without_its_tables_starts_anew(texts, tmp_path):
    disk.write_tensors(tmp_path / "checkpoint", {"student.mean": torch.zeros(3)}, texts)
    with pytest.warns(UserWarning, match="is damaged .*: training starts anew"):
        assert Progress.read(tmp_path / "checkpoint") is None


# ------------------------------------------------------------------------------------------ .npz files

NPZ = {
    "a pickle": (PICKLE, "isn't as large as it claims|Object arrays"),
    "a pickle for an array": (pickle.dumps(Harm()), "magic"),
    "a huge shape": (header((10**13,)), "isn't as large as it claims"),
    "a negative shape": (header((-1,)), "isn't as large as it claims"),
    "a huge type": (header((1,), "<U100000000"), "isn't as large as it claims"),
    "a bomb": (bytes(2_000_000), "its arrays claim more than 1,000,000 bytes"),
    "no array": (b"", "EOF"),
    "other lengths": (npy(np.zeros(3, np.int16)), "it holds something else"),
    "other classes": (npy(np.full(20, 99, np.int16)), "it holds something else"),
}


@pytest.mark.parametrize("name", NPZ)
def test_crafted_answers_are_made_again(name, copy, made, shapes, monkeypatch):
    monkeypatch.setattr(disk, "LARGEST", 1_000_000)
    content, message = NPZ[name]
    store, folder = copy
    (path,) = (folder / "predictions").iterdir()
    good = disk.read_arrays(path)
    packed(path, {key: npy(value) for key, value in good.items()} | {"predicted": content})
    with pytest.warns(UserWarning, match=f"is damaged .*({message}).*: made again"):
        found = store.predictions(store.load(made.spec), asked(shapes))["clean"]
    assert np.array_equal(found["predicted"], good["predicted"])
    assert np.array_equal(disk.read_arrays(path)["predicted"], good["predicted"])


def test_blocks_that_grow_without_bound_are_refused(tmp_path):
    packed(tmp_path / "x.npz", {"x": npy(np.zeros(9))}, zipfile.ZIP_BZIP2)
    with pytest.warns(UserWarning, match="x.npy is compressed in another way"):
        assert disk.read_arrays(tmp_path / "x.npz") is None


@pytest.mark.parametrize("name", ["images", "labels", "ids", "meta", "sha256"])
@pytest.mark.parametrize("content", [None, PICKLE, npy(np.full(20, 10**6)), npy(np.array("[]"))])
def test_crafted_stimuli_are_made_again(name, content, tmp_path, shapes):
    images, labels = shapes.test.images[:20], shapes.test.labels[:20]
    stimuli("grey", images, labels, cache=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    files = {key: npy(value) for key, value in disk.read_arrays(path).items()} | {name: content}
    packed(path, {key: value for key, value in files.items() if value is not None})
    with pytest.warns(UserWarning, match="is damaged .*: made again"):
        found = stimuli("grey", images, labels, cache=tmp_path)
    assert torch.equal(found.images, PROBES["grey"](images, labels).images)


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
        (png(60_000, 60_000, zlib.compress(bytes(100))), "could be decompression bomb"),
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


@pytest.mark.parametrize("name", ["test_images.npy", disk.MANIFEST])
def test_decoded_images_that_changed_are_decoded_again(name, tmp_path, shapes, monkeypatch):
    monkeypatch.delenv("KDLIB_CACHE", raising=False)
    for split in ("train", "test"):
        (tmp_path / "mine" / split / "a").mkdir(parents=True)
        Image.fromarray(shapes.test.images[0].permute(1, 2, 0).numpy()).save(
            tmp_path / "mine" / split / "a" / "0.png"
        )
    first = load(DataSpec("mine"), tmp_path).spec
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    for content in (PICKLE, header((10**13,), "|u1"), b"[" * 100_000):
        path.unlink()  # what is mapped stays as it was
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged .*: decoded again"):
            assert load(DataSpec("mine"), tmp_path).spec == first


@pytest.mark.parametrize("content", [PICKLE, header((10**13,), "|u1"), b"", b"PK\3\4" + bytes(100)])
def test_published_arrays_that_are_none_are_told(content, tmp_path):
    (tmp_path / "labels.npy").write_bytes(npy(np.zeros(20, np.uint8)))
    (tmp_path / "fog.npy").write_bytes(content)
    with pytest.raises(DataError, match="fog.npy is missing or damaged") as told:
        cifar10_c(tmp_path, CIFAR10_CLASSES)
    assert "\n" not in str(told.value)


def test_names_from_files_are_text_in_tables():
    table = table_html(pd.DataFrame({"<b>": ["<script>alert(1)</script>"]}), "t")
    assert "&lt;script&gt;" in table and "<script" not in table and "<b>" not in table
