import dataclasses
import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from filelock import FileLock

from kdlib import disk
from kdlib.bias import accuracy
from kdlib.disk import DiskFull
from kdlib.methods import METHODS
from kdlib.probes import stimuli
from kdlib.study import runs, specs, status
from kdlib.study.interrupt import Stopped
from kdlib.study.runs import RunsFailed, RunStore
from kdlib.study.specs import Run, RunSpec, environment
from kdlib.study.status import failure
from kdlib.train import Progress

from .conftest import MODELS, RECIPES
from .methods.common import TAUGHT


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs", device="cpu", quiet=True)


def weights(run):
    return run.network().state_dict()


def at_each_checkpoint(root):
    """Whether to stop: once for each checkpoint that appears."""
    seen = set()

    def stop() -> bool:
        new = {path.name for path in root.glob("*.checkpoint.npz")} - seen
        seen.update(new)
        return bool(new)

    return stop


def same_weights(one, other):
    one, other = weights(one), weights(other)
    return all(torch.equal(one[name], other[name]) for name in one)


# -------------------------------------------------------------------------------------------- RunSpec


def test_equal_specs_have_equal_ids_and_any_change_another(make_spec):
    spec = make_spec("vit", "crd", "cnn")
    assert spec.id == make_spec("vit", "crd", "cnn").id
    changes = [
        {"seed": 1},
        {"hyper": {**spec.hyper, "temperature": 0.1}},
        {"training": dataclasses.replace(spec.training, epochs=3)},
        {"data": dataclasses.replace(spec.data, fingerprint="other")},
        {"teacher": dataclasses.replace(spec.teacher, seed=1)},
        {"student": MODELS["cnn"]},
    ]
    assert len({spec.id, *(dataclasses.replace(spec, **change).id for change in changes)}) == 7


def test_defaults_are_part_of_the_identity(make_spec):
    assert make_spec("vit", "crd", "cnn").id == make_spec("vit", "crd", "cnn", hyper={"weight": 0.8}).id
    assert json.loads(make_spec("vit", "crd", "cnn").as_json())["hyper"]["temperature"] == 0.07


def test_a_method_and_its_teacher_must_fit(make_spec, shapes):
    with pytest.raises(ValueError, match="method lm needs a teacher; give it one"):
        make_spec("vit", "lm")
    with pytest.raises(ValueError, match="method baseline uses no teacher"):
        RunSpec(shapes.spec, MODELS["vit"], teacher=make_spec("cnn"))


# ------------------------------------------------------------------------------------------- RunStore


def test_a_run_is_trained_once_and_then_loaded(store, make_spec, monkeypatch):
    spec = make_spec("vit", "lm", "cnn")
    run = store.get(spec)
    assert {path.name for path in run.path.iterdir()} == {
        *("spec.json", "record.json", "history.csv", "timing.csv", "weights.safetensors", "manifest.json")
    }
    assert store.load(spec.teacher) is not None
    monkeypatch.setattr(runs, "fit", None)
    again = store.get(spec)
    assert same_weights(run, again)
    assert list(again.history.epoch) == [1, 2]


def test_students_of_a_seed_start_from_the_same_weights(store, make_spec, monkeypatch):
    starts = []
    fit = runs.fit

    def spy(student, *args, **kwargs):
        starts.append({name: value.clone() for name, value in student.state_dict().items()})
        return fit(student, *args, **kwargs)

    monkeypatch.setattr(runs, "fit", spy)
    specs = [make_spec("vit"), make_spec("vit", "lm", "cnn"), make_spec("vit", "crd", "cnn")]
    list(store.get_all(specs))
    students = [start for start in starts if "backbone.pos_embed" in start]
    assert len(starts) == 4 and len(students) == 3
    for other in students[1:]:
        assert all(torch.equal(students[0][name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("method", "teacher", "student"), [*TAUGHT, ("baseline", None, "cnn"), ("baseline", None, "vit")]
)
def test_a_stopped_run_goes_on_to_the_same_bits(method, teacher, student, tmp_path, make_spec):
    spec = make_spec(student, method, teacher)
    whole = RunStore(tmp_path / "whole", device="cpu", quiet=True).get(spec)
    stop = at_each_checkpoint(tmp_path / "parts")
    stopping = RunStore(tmp_path / "parts", device="cpu", quiet=True, should_stop=stop)
    for _ in spec.lineage():
        with pytest.raises(Stopped, match="after epoch 1"):
            stopping.get(spec)
        assert stopping.load(spec) is None
    resumed = stopping.get(spec)
    assert same_weights(whole, resumed)
    assert whole.history.equals(resumed.history)
    assert not list((tmp_path / "parts").glob("*.checkpoint*"))


def test_a_killed_process_goes_on_to_the_same_bits(tmp_path, make_spec):
    """SIGKILL between two checkpoints, while this process waits for the run."""
    training = dataclasses.replace(RECIPES["vit"], epochs=12, batch_size=8)
    spec = make_spec("vit", training=training)
    script = (
        "import pickle, sys\n"
        "from kdlib.study.runs import RunStore\n"
        "RunStore(sys.argv[1], device='cpu').get(pickle.loads(bytes.fromhex(sys.argv[2])))\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "killed"), pickle.dumps(spec).hex()]
    killed = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("*.checkpoint.npz")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGSTOP)
    assert not list((tmp_path / "killed").glob("*/spec.json"))
    threading.Timer(1, killed.kill).start()
    again, whole = (
        RunStore(tmp_path / name, device="cpu", quiet=True).get(spec) for name in ("killed", "whole")
    )
    assert same_weights(again, whole)
    assert again.history.equals(whole.history)


def test_a_damaged_checkpoint_starts_training_anew(tmp_path, make_spec):
    spec = make_spec("cnn")
    stopping = RunStore(tmp_path, device="cpu", quiet=True, should_stop=at_each_checkpoint(tmp_path))
    with pytest.raises(Stopped):
        stopping.get(spec)
    checkpoint = next(tmp_path.glob("*.checkpoint.npz"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.warns(UserWarning, match="checkpoint.npz is damaged .*: made again"):
        run = RunStore(tmp_path, device="cpu", quiet=True).get(spec)
    assert len(run.history) == 2


def test_a_checkpoint_of_other_networks_starts_training_anew(tmp_path, make_spec):
    """As it is left when the file of a method changes between a kill and the next start."""
    spec = make_spec("cnn")
    store = RunStore(tmp_path, device="cpu", quiet=True)
    weights = {"student.backbone.fc.weight": torch.zeros(3, 3)}
    Progress([{"epoch": 1, "loss": 1.0}], [{"epoch": 1}], weights).write(store.beside(spec, "checkpoint"))
    with pytest.warns(UserWarning, match="seed 0: .* is of other networks: training starts over"):
        run = store.get(spec)
    assert len(run.history) == 2 and not store.beside(spec, "checkpoint").exists()


def test_a_diverged_run_is_kept_answers_nothing_and_teaches_nobody(store, make_spec, shapes, monkeypatch):
    def broken(self, batch, student, teacher):
        return {"label": student.logits.sum() * float("inf")}

    monkeypatch.setattr(METHODS["baseline"], "forward", broken)
    run = store.get(make_spec("cnn"))
    assert run.diverged
    assert store.load(make_spec("cnn")).record["status"] == "diverged"
    clean = stimuli("clean", shapes.test.images, shapes.test.labels)
    answers = store.predictions(run, {"clean": clean})["clean"]["predicted"]
    assert (answers == -1).all() and np.isnan(accuracy(answers[None], clean.labels.numpy())).all()
    told = "its teacher, baseline: resnet18, seed 0, diverged in epoch 1: train"
    with pytest.raises(RuntimeError, match=told):
        store.get(make_spec("vit", "lm", "cnn"))


def test_finished_runs_are_read_where_no_lock_can_be_written(store, make_spec, shapes, monkeypatch):
    """Root can write anywhere, so here the lock refuses."""
    spec, clean = make_spec("cnn"), {"clean": stimuli("clean", shapes.test.images, shapes.test.labels)}
    run = store.get(spec)
    answers = store.predictions(run, clean)["clean"]["predicted"]

    def refuse(*more, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(disk, "FileLock", refuse)
    monkeypatch.setattr(status, "FileLock", refuse)
    monkeypatch.setattr(store, "_train", None)
    (again,) = store.get_all([spec])
    assert np.array_equal(store.predictions(again, clean)["clean"]["predicted"], answers)
    part = {"run": spec.id, "direction": "", "role": "", "seed": 0, "epochs": 2, "kind": ""}
    (row,) = status.states(store.root, {"probes": ["clean"], "runs": [part]})
    assert (row["state"], row["answers"]) == ("done", "1/1")
    with pytest.raises(PermissionError):  # before time is spent
        store.get(make_spec("vit"))


def test_a_full_disk_is_told_and_loses_nothing(store, make_spec, monkeypatch):
    finished = store.get(make_spec("cnn"))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(specs, "save", full)
    with pytest.raises(OSError, match="the disk is full: .* no finished run is lost; free some space"):
        store.get(make_spec("vit"))
    assert store.load(make_spec("cnn")).path == finished.path
    monkeypatch.undo()
    assert not store.get(make_spec("vit")).diverged


def test_a_full_disk_at_any_moment_loses_nothing(small_disk, tmp_path, make_spec):
    """A real one: too small for the checkpoint, then for the run, then for neither."""
    first, second = make_spec("cnn"), make_spec("vit")
    whole = RunStore(tmp_path / "whole", device="cpu", quiet=True).get(second)
    store = RunStore(small_disk / "runs", device="cpu", quiet=True)
    finished = store.get(first)
    filler = small_disk / "filler"
    failures = 0
    for free in range(0, 800, 40):
        filler.write_bytes(bytes(max(0, _free(small_disk) + _size(filler) - 1024 * free)))
        try:
            resumed = store.get(second)
            break
        except DiskFull as error:
            failures += 1
            assert re.match("the disk is full: .* no finished run is lost; free some space", str(error))
        assert not list(store.root.rglob("*.partial*"))
        assert same_weights(store.load(first), finished)
    assert failures > 1 and same_weights(resumed, whole)


def _free(place) -> int:
    return shutil.disk_usage(place).free


def _size(path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_failing_run_is_passed_over_and_told(store, make_spec, monkeypatch):
    def broken(self, batch, student, teacher):
        raise ValueError("no such\nthing")

    specs = [make_spec("vit", "crd", "cnn"), make_spec("vit", "lm", "cnn"), make_spec("vit")]
    monkeypatch.setattr(METHODS["crd"], "forward", broken)
    told = "1 of 4 runs failed: crd: vit_tiny_patch16_224 from resnet18, seed 0: ValueError: no such thing$"
    with pytest.raises(RunsFailed, match=told):
        list(store.get_all(specs))
    assert store.load(specs[1]) and store.load(specs[2]) and not store.load(specs[0])
    assert failure(store.root, specs[0].id) == "ValueError: no such thing"
    assert "in broken" in store.beside(specs[0], "failed").read_text()
    monkeypatch.undo()
    assert len(list(store.get_all(specs))) == 4
    assert failure(store.root, specs[0].id) is None


def test_students_of_a_failed_teacher_are_left_out(store, make_spec, monkeypatch):
    monkeypatch.setattr(METHODS["baseline"], "forward", None)
    specs = [make_spec("vit", "lm", "cnn"), make_spec("vit", "crd", "cnn")]
    with pytest.raises(
        RunsFailed, match="1 of 3 runs failed: baseline: resnet18.*; 2 left out, as their teacher failed$"
    ):
        list(store.get_all(specs))
    assert [path.name for path in store.root.glob("*.failed.txt")] == [f"{specs[0].teacher.id}.failed.txt"]


def test_work_stops_between_runs_and_between_answers(tmp_path, make_spec, shapes):
    asked = iter([False, True, False, True])
    store = RunStore(tmp_path, device="cpu", quiet=True, should_stop=lambda: next(asked, True))
    specs = [make_spec("cnn", training=dataclasses.replace(RECIPES["cnn"], epochs=1)), make_spec("vit")]
    with pytest.raises(Stopped, match="stopped before baseline: vit"):
        list(store.get_all(specs))
    run = store.load(specs[0])
    made = {name: stimuli(name, shapes.test.images, shapes.test.labels) for name in ("clean", "grey")}
    with pytest.raises(Stopped, match="stopped before grey-"):
        store.predictions(run, made)
    assert [path.name.partition("-")[0] for path in (run.path / "predictions").iterdir()] == ["clean"]


def test_runs_that_another_process_holds_come_last(store, make_spec):
    held, free = make_spec("cnn"), make_spec("vit")
    with FileLock(store.beside(held, "lock")):
        order = store.get_all([held, free])
        assert next(order).spec.id == free.id
    assert next(order).spec.id == held.id


# ---------------------------------------------------------------------------------------- predictions


def test_predictions_are_kept_and_equal_the_networks_answers(store, make_spec, shapes, monkeypatch):
    run = store.get(make_spec("cnn"))
    made = stimuli("gaussian_noise_5", shapes.test.images, shapes.test.labels)
    found = store.predictions(run, {"gaussian_noise": made})["gaussian_noise"]
    with torch.no_grad():
        share = run.network()(made.images).logits.softmax(1)
    assert np.array_equal(found["predicted"], share.argmax(1).numpy())
    expected = share.gather(1, made.labels[:, None])[:, 0].numpy()
    assert np.allclose(found["confidence_label"], expected, atol=1e-3)
    monkeypatch.setattr(runs, "_ask", None)
    again = store.predictions(run, {"gaussian_noise": made})["gaussian_noise"]
    assert np.array_equal(found["predicted"], again["predicted"])


@pytest.mark.skipif(os.name != "posix", reason="reads /proc")
def test_environment_names_the_processor():
    found = environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__ and found["device"]


def test_pretrained_weights_are_not_fetched_again_for_a_finished_run(store, make_spec):
    run = store.get(make_spec("cnn", training=RECIPES["cnn"]))
    pretrained = dataclasses.replace(run.spec.student, pretrained=True)
    spec = dataclasses.replace(run.spec, student=pretrained)
    assert same_weights(run, Run(spec, run.path))
