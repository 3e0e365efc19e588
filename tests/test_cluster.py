"""On one machine: a cluster of two processes, one of which is killed; for all else, workers in threads."""

import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import nullcontext
from threading import Thread
from types import SimpleNamespace

import dask
import pytest
from distributed import Client, LocalCluster, Scheduler, SpecCluster, Worker
from distributed.utils import get_mp_context

from kdlib.__main__ import main
from kdlib.study import Study, cluster
from kdlib.study.interrupt import Stopped
from kdlib.study.runs import RunSpec
from kdlib.study.status import states

CNN = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "output_stride": 8}
VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2}
SMALL = {
    "data": {"name": "shape_texture", "train_images": 120, "options": {"test_images": 40}},
    **{"seeds": [0], "probes": ["clean"], "test_images": 40, "inside_images": 2, "yardstick_images": 64},
    **{
        "made": None,
        "external": [],
        "hyper": {"crd": {"negatives": 32}},
        "training": {"epochs": 2, "batch_size": 16},
    },
    "teachers": {"cnn": {"model": {"name": "resnet18", "options": CNN}, "training": {"epochs": 12}}},
    "students": {"vit": {"model": {"name": "vit_tiny_patch16_224", "options": VIT}}},
    "directions": {"cnn_to_vit": {"teacher": "cnn", "student": "vit", "methods": ["lm", "crd"]}},
}


def small(folder, scheduler: str = "", changes: dict | None = None, **more) -> Study:
    return Study("quick", folder, folder, SMALL | (changes or {}), scheduler=scheduler, quiet=True, **more)


def train(study: Study) -> None:
    """All but the yardsticks."""
    for _ in study.store.get_all([member.spec for member in study.members()], study.ask_all):
        pass


def kept(study: Study) -> dict[str, bytes]:
    root = study.store.root
    patterns = ("spec.json", "history.csv", "weights.safetensors", "predictions/*.npz", "inside/*.npz")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for pattern in patterns
        for path in root.glob(f"*/{pattern}")
    }


@pytest.fixture
def threads():
    """Starts a worker in this process, with some number of threads; returns the scheduler's address."""
    started = []

    def start(count: int = 1) -> str:
        options = {"processes": False, "dashboard_address": None}
        started.append(LocalCluster(n_workers=1, threads_per_worker=count, **options))
        return started[0].scheduler_address

    yield start
    started[0].close()


def kill(scheduler: str, study: Study, spec: RunSpec, finished: list) -> None:
    """SIGKILL the worker that trains a run, after its first checkpoint; note whether the run was finished."""
    with Client(scheduler, set_as_default=False) as client:
        processes = client.run(os.getpid)
        while not (study.store.root / f"{spec.id}.checkpoint.safetensors").exists():
            time.sleep(0.01)
        (worker,) = [name for name, keys in client.processing().items() if spec.id in str(keys)]
        os.kill(processes[worker], signal.SIGKILL)
    finished.append(study.store.path(spec).exists())


def test_a_study_whose_worker_is_killed_ends_with_the_same_bits(tmp_path):
    alone = small(tmp_path / "alone")
    train(alone)
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context()
        # Torch and all are imported once, and the workers are forks.
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["kdlib.study.study", "kdlib.study.cluster"]
        )
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as local:
            study, finished = small(tmp_path / "shared", local.scheduler_address), []
            arguments = (local.scheduler_address, study, study.members()[0].spec, finished)
            killer = Thread(target=kill, args=arguments, daemon=True)
            killer.start()
            train(study)
            killer.join()
    assert finished == [False]
    assert len(kept(alone)) == 4 * (3 + 1 + 3)
    assert kept(study) == kept(alone)
    assert {path.suffix for path in study.store.root.iterdir() if path.is_file()} <= {".lock"}


def test_a_stopped_study_cancels_the_queue_and_leaves_a_checkpoint(tmp_path, threads):
    def begun() -> bool:
        return any(tmp_path.glob("runs/*.checkpoint.safetensors"))

    endless = {"teachers.cnn.training.epochs": 100_000}
    study = small(tmp_path, threads(), endless, should_stop=begun)
    with pytest.raises(Stopped, match="stopped with 4 of 4 runs to do"):
        study.runs("cnn_to_vit")
    teacher = study.members()[0].spec
    with study.store.lock(teacher.id, timeout=60):  # the worker has let go of it
        assert begun() and study.store.load(teacher) is None
    assert "done" not in {row["state"] for row in states(study.store.root, study.plan())}


def test_where_workers_declare_runs_others_are_left_alone(tmp_path):
    """The other one has four threads, and would refuse."""
    kinds = {"runs": {"nthreads": 1, "resources": {"run": 1}}, "other": {"nthreads": 4}}
    nodes = {name: {"cls": Worker, "options": options} for name, options in kinds.items()}
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "protocol": "inproc://"}}
    with SpecCluster(workers=nodes, scheduler=scheduler) as mixed:
        study = small(tmp_path, mixed.scheduler_address, {"teachers.cnn.training.epochs": 1})
        found = study.runs("cnn_to_vit")
    assert list(found) == ["teacher", "baseline", "lm", "crd"]


@pytest.mark.parametrize(
    ("count", "folder", "problem"),
    [
        (2, None, "runs in threads would share a random generator; start it with --nthreads 1"),
        (1, "/elsewhere/runs", "/elsewhere/runs isn't the client's; give an --output that both can see"),
    ],
)
def test_a_failure_names_run_worker_and_remedy(count, folder, problem, tmp_path, threads, monkeypatch):
    if folder:
        seen = nullcontext(SimpleNamespace(name=f"{folder}/client-1"))
        monkeypatch.setattr(cluster, "NamedTemporaryFile", lambda **_: seen)
    study = small(tmp_path, threads(count))
    with pytest.raises(RuntimeError, match="4 of 4 runs failed; the first: .*: worker inproc://.*: ") as told:
        study.runs("cnn_to_vit")
    assert str(told.value).endswith(problem)


def command(tmp_path) -> list[str]:
    settings = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    return ["train", "--scheduler=tcp://127.0.0.1:1", f"--output={tmp_path}", f"--data={tmp_path}", *settings]


def test_a_scheduler_that_does_not_answer_is_told_in_one_line(tmp_path, capsys):
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        assert main(command(tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.startswith("kdlib: no Dask scheduler answers at tcp://127.0.0.1:1 (")
    assert "start one with `dask scheduler`, or leave the address out" in error and error.count("\n") == 1


def test_without_dask_the_remedy_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "kdlib.study.cluster")
    assert main(command(tmp_path)) == 1
    error = "kdlib: a scheduler's address was given, but Dask isn't installed: pip install distributed\n"
    assert capsys.readouterr().err == error
