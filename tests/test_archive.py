import hashlib
import json
import shutil
import stat
import zipfile
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock

from kdlib.__main__ import main
from kdlib.probes import stimuli
from kdlib.study import Study, archive, runs
from kdlib.study import known_bias as yardstick
from kdlib.study.archive import INDEX, read_archive, write_archive
from kdlib.study.internals import fields
from kdlib.study.runs import WEIGHTS, RunStore

from .conftest import MODELS


@pytest.fixture(scope="module")
def trained(shapes, make_spec, tmp_path_factory):
    """A student and its teacher, with an answer and a look inside kept for each."""
    store = RunStore(tmp_path_factory.mktemp("trained"), device="cpu", quiet=True)
    found = list(store.get_all([make_spec("vit", "lm", "cnn")]))
    few = shapes.test.subset(4)
    for run in found:
        store.predictions(run, {"clean": stimuli("clean", few.images, few.labels)})
        fields(SimpleNamespace(store=store, few=few, few_digest="few"), run)
    return found


@pytest.fixture(scope="module")
def packed(trained, tmp_path_factory):
    return write_archive(trained, tmp_path_factory.mktemp("packed") / "runs.zip")[0]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs", device="cpu", quiet=True)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_four(packed):
    """The size of parts of which the fourth holds what is left: one to three bytes."""
    return (packed.stat().st_size - 1) // 3


def untouched(store):
    return [path for path in store.root.iterdir() if path.suffix != ".lock"] == []


# ------------------------------------------------------------------------------------------ round trip


def test_every_file_comes_back_as_it_was(trained, packed, store):
    assert read_archive(packed, store) == Counter(new=2)
    for run in trained:
        files = content(run.path)
        assert len(files) == 8 and content(store.path(run.spec)) == files
    assert sorted(path.name for path in store.root.iterdir() if path.is_dir()) == sorted(
        run.spec.id for run in trained
    )
    assert read_archive(packed, store) == Counter(left=2)


def test_equal_runs_give_equal_bytes(trained, packed, store, tmp_path):
    read_archive(packed, store)
    copies = [store.load(run.spec) for run in reversed(trained)]
    assert write_archive(copies, tmp_path / "again.zip")[0].read_bytes() == packed.read_bytes()


def test_a_study_finds_imported_runs_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(yardstick, "YARDSTICKS", yardstick.YARDSTICKS[2:3])
    monkeypatch.setattr(yardstick, "SEEDS", (1000,))
    network = {name: {"model": vars(model)} for name, model in MODELS.items()}
    profile = {
        "title": "Tiny",
        "data": {"name": "shape_texture", "train_images": 40, "options": {"test_images": 20}},
        "seeds": [0],
        "training": {"epochs": 1, "batch_size": 16},
        "students": {"vit": network["vit"]},
        "teachers": {"cnn": network["cnn"]},
        "directions": {"cnn_to_vit": {"teacher": "cnn", "student": "vit", "methods": ["lm"]}},
        "probes": ["clean"],
        "yardstick_images": 64,
    }
    path, packed = tmp_path / "tiny.yml", tmp_path / "tiny.zip"
    path.write_text(yaml.safe_dump(profile))
    here, there = (f"--output={tmp_path / name}" for name in ("here", "there"))
    with pytest.raises(SystemExit):
        main(["export", f"--profile={path}", here])
    assert main(["export", f"--profile={path}", here, str(packed)]) == 1
    assert "none of the study's 4 runs is finished; train them first" in capsys.readouterr().err
    assert main(["train", f"--profile={path}", here]) == 0
    spec = Study(str(path), tmp_path / "here").specs()[1]
    shutil.rmtree(RunStore(tmp_path / "here" / "runs").path(spec))
    assert main(["export", f"--profile={path}", here, str(packed)]) == 0
    assert "3 runs; 1 of the study aren't finished and were left out" in capsys.readouterr().out
    assert main(["import", there, str(packed)]) == 0
    assert "3 runs are new" in capsys.readouterr().out
    assert main(["train", f"--profile={path}", here]) == 0
    assert main(["export", f"--profile={path}", here, str(packed)]) == 0
    assert main(["import", there, str(packed)]) == 0
    assert "1 runs are new" in capsys.readouterr().out
    monkeypatch.setattr(runs, "fit", None)
    monkeypatch.setattr(runs, "_ask", None)
    study = Study(str(path), tmp_path / "there", quiet=True)
    assert len(study.train()) == 4
    assert set(study.evidence("cnn_to_vit").roles) == {"teacher", "independent", "lm"}


# ------------------------------------------------------------------------------------- without weights


def test_without_weights_a_run_tells_what_it_was_asked(trained, store, tmp_path, shapes, monkeypatch):
    (path,) = write_archive(trained, tmp_path / "light.zip", weights=False)
    assert read_archive(path, store) == Counter(new=2)
    run, few = store.load(trained[1].spec), shapes.test.subset(4)
    asked = {"clean": stimuli("clean", few.images, few.labels)}
    assert not (run.path / WEIGHTS).exists()
    ours, theirs = store.predictions(run, asked), store.predictions(trained[1], asked)
    assert (ours["clean"]["confidence"] == theirs["clean"]["confidence"]).all()
    with pytest.raises(RuntimeError, match=f"run {run.spec.id} came without weights, so nothing new"):
        run.network()


def test_weights_can_follow(trained, packed, store, tmp_path):
    read_archive(write_archive(trained, tmp_path / "light.zip", weights=False)[0], store)
    assert read_archive(packed, store) == Counter(completed=2)
    for run in trained:
        assert content(store.path(run.spec)) == content(run.path)


def test_weights_that_are_lost_are_damage_and_not_left_out(packed, trained, store):
    read_archive(packed, store)
    (store.path(trained[0].spec) / WEIGHTS).unlink()
    with pytest.warns(UserWarning, match="is damaged .weights.safetensors is missing.: set aside"):
        assert store.load(trained[0].spec) is None


def test_answers_of_another_training_are_not_mixed_in(trained, packed, store):
    own = store.get(trained[0].spec)  # trained here: no answers yet
    files = content(own.path)
    assert read_archive(packed, store) == Counter(new=1, left=1)
    assert content(own.path) == files


# ----------------------------------------------------------------------------------------------- parts


def test_parts_are_the_archive_in_order(trained, packed, store, tmp_path):
    size = in_four(packed)
    parts = write_archive(trained, tmp_path / "runs.zip", part_size=size)
    assert [part.name for part in parts] == [f"runs.zip.00{number}" for number in (1, 2, 3, 4)]
    assert b"".join(part.read_bytes() for part in parts) == packed.read_bytes()
    assert read_archive(tmp_path / "runs.zip.001", store) == Counter(new=2)
    assert read_archive(tmp_path / "runs.zip", store) == Counter(left=2)
    fewer = write_archive(trained, tmp_path / "runs.zip", part_size=2 * size)
    assert fewer == sorted(tmp_path.glob("runs.zip.*"))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (1, "runs.zip.001 is missing"),
        (2, "runs.zip.002 is missing; put all parts into one folder"),
        (4, "it is cut short, or runs.zip.004 is missing"),
    ],
)
def test_a_missing_part_is_named(lost, message, trained, packed, store, tmp_path):
    parts = write_archive(trained, tmp_path / "runs.zip", part_size=in_four(packed))
    parts[lost - 1].unlink()
    with pytest.raises(ValueError, match=message):
        read_archive(tmp_path / "runs.zip.001", store)
    assert untouched(store)


# --------------------------------------------------------------------------------------------- refused


def repacked(packed, target, change):
    """The archive with its files as ``change`` leaves them: a list of (entry, bytes)."""
    with zipfile.ZipFile(packed) as source:
        files = [(info, source.read(info)) for info in source.infolist()]
    change(files)
    with zipfile.ZipFile(target, "w") as made:
        for info, data in files:
            made.writestr(info, data, info.compress_type)
    return target


def listed(files, change):
    """Change the index, too."""
    info, data = files.pop(next(i for i, (info, _) in enumerate(files) if info.filename == INDEX))
    index = json.loads(data)
    change(index)
    files.append((info, json.dumps(index).encode()))


def entry(name, mode=stat.S_IFREG | 0o644, kind=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, kind
    return info


def of(files, name):
    return next(i for i, (info, _) in enumerate(files) if info.filename.endswith(name))


def with_file(name, **more):
    return lambda files: files.append((entry(name, **more), b"../../../etc/passwd"))


def changed(name, data):
    """One file of the first run is another, and the index knows its sha256."""

    def change(files):
        info, _ = files[of(files, name)]
        files[of(files, name)] = (info, data)
        _, run, file = info.filename.split("/", 2)
        listed(files, lambda index: index["runs"][run].update({file: hashlib.sha256(data).hexdigest()}))

    return change


def renamed(files):
    run = files[0][0].filename[5:17]
    for number, (info, data) in enumerate(files):
        files[number] = (entry(info.filename.replace(run, "0" * 12)), data)
    listed(files, lambda index: index["runs"].update({"0" * 12: index["runs"].pop(run)}))


RUN = "runs/0123456789ab"
REFUSED = {
    "traversal": (with_file("runs/../../x.npz"), "holds 'runs/../../x.npz', which no run has"),
    "inner traversal": (with_file(f"{RUN}/inside/../../../x.npz"), "which no run has"),
    "absolute": (with_file("/tmp/x.npz"), "holds '/tmp/x.npz'"),
    "backslashes": (with_file(f"{RUN}\\inside\\x.npz"), "which no run has"),
    "unknown file": (with_file(f"{RUN}/evil.py"), "which no run has"),
    "unlisted": (with_file(f"{RUN}/inside/x.npz"), "inside/x.npz is not in sha256.json"),
    "symlink": (with_file(f"{RUN}/inside/x.npz", mode=stat.S_IFLNK | 0o777), "x.npz is no plain file"),
    "device": (with_file(f"{RUN}/inside/x.npz", mode=stat.S_IFCHR | 0o666), "x.npz is no plain file"),
    "compressed": (
        with_file(f"{RUN}/inside/x.npz", kind=zipfile.ZIP_DEFLATED),
        "x.npz is compressed or encrypted",
    ),
    "wrong hash": (
        lambda files: files.__setitem__(0, (files[0][0], files[0][1] + b" ")),
        "has changed",
    ),
    "missing": (lambda files: files.pop(0), "is missing"),
    "no index": (lambda files: files.pop(of(files, INDEX)), "no item named 'sha256.json'"),
    "newer": (
        lambda files: listed(files, lambda index: index.update(format=2)),
        "its format is 2, this kdlib reads 1",
    ),
    "index of another kind": (
        lambda files: listed(files, lambda index: index.update(runs=[])),
        "sha256.json.runs is \\[\\]; it must be of type dict",
    ),
    "spec of another run": (renamed, "run 000000000000 has the spec of run"),
    "a deep spec": (changed("spec.json", b'{"teacher":' * 2000 + b"1" + b"}" * 2000), "recursion"),
    "a spec that is none": (changed("spec.json", b"[]"), "spec.json is \\[\\]; it must be a mapping"),
    "another manifest": (changed("manifest.json", b"{}"), "manifest.json doesn't list spec.json"),
    "another record": (changed("record.json", b"{}"), "record.json changed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_export_writes_is_refused(name, packed, store, tmp_path):
    change, message = REFUSED[name]
    crafted = repacked(packed, tmp_path / "crafted.zip", change)
    with pytest.raises(ValueError, match=message) as refusal:
        read_archive(crafted, store)
    assert str(refusal.value).endswith("no run was put in place") and "\n" not in str(refusal.value)
    assert untouched(store)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(packed, store, tmp_path):
    crafted = repacked(packed, tmp_path / "crafted.zip", lambda files: files.append(files[0]))
    with pytest.raises(ValueError, match="two of its files have one name"):
        read_archive(crafted, store)
    assert untouched(store)


def test_a_file_that_claims_more_than_there_is_is_refused(packed, store, tmp_path):
    data = bytearray(packed.read_bytes())
    last = data.rindex(b"PK\1\2")  # in the directory: two sizes from byte 20 on
    data[last + 20 : last + 28] = (2 * len(data)).to_bytes(4, "little") * 2
    crafted = tmp_path / "crafted.zip"
    crafted.write_bytes(data)
    with pytest.raises(ValueError, match="its files claim to be larger than itself"):
        read_archive(crafted, store)
    assert untouched(store)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_archive_is_refused(share, packed, store, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed.read_bytes()[: int(share * packed.stat().st_size)])
    with pytest.raises(
        ValueError, match="cut.zip can't be imported: it is cut short; no run was put in place"
    ):
        read_archive(cut, store)
    assert untouched(store)


# ---------------------------------------------------------------------------------------- interruption


def test_an_import_that_is_killed_leaves_whole_runs_only(packed, trained, store, monkeypatch):
    adopt = store.adopt

    def killed(spec, source):
        if spec.teacher:
            raise KeyboardInterrupt
        return adopt(spec, source)

    monkeypatch.setattr(store, "adopt", killed)
    with pytest.raises(KeyboardInterrupt):
        read_archive(packed, store)
    monkeypatch.undo()
    (done,) = [path for path in store.root.iterdir() if path.is_dir()]
    assert content(done) == content(next(run.path for run in trained if run.spec.id == done.name))
    assert read_archive(packed, store) == Counter(new=1, left=1)


def test_what_a_killed_import_left_is_cleared_away(packed, store):
    (store.root / "import.partial" / "runs").mkdir(parents=True)
    assert read_archive(packed, store) == Counter(new=2)
    assert not (store.root / "import.partial").exists()


def test_a_run_that_another_process_holds_is_left_to_it(packed, trained, store):
    store.root.mkdir(parents=True)
    with FileLock(store.beside(trained[0].spec, "lock")):
        assert read_archive(packed, store) == Counter(new=1, left=1)


def test_a_full_disk_leaves_no_archive(trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_store", full)
    with pytest.raises(OSError, match="No space left"):
        write_archive(trained, tmp_path / "runs.zip")
    assert not list(tmp_path.iterdir())
