"""A run is a value: ask for it, and it is loaded, or trained and kept.

    spec = RunSpec(data, student, "crd", teacher=teacher_spec, training=training, seed=0)
    run = RunStore("runs").get(spec)

``runs/<id>/`` is written beside its place and renamed, so a directory that exists is complete:

    spec.json  record.json (status, classes, environment)  history.csv  timing.csv  weights.safetensors
    manifest.json (sha256 of the files above)  predictions/<probe>-<images' sha256>.npz  inside/<what>.npz

Beside it lie its lock, a checkpoint while it is unfinished, and the error, if its last attempt ended in one.
"""

import hashlib
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kdlib import disk
from kdlib.data import Dataset, DataSpec, load
from kdlib.disk import Arrays
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec, Network
from kdlib.names import check_kinds, one_line
from kdlib.probes import Stimuli
from kdlib.study.environment import environment
from kdlib.study.interrupt import Stopped
from kdlib.train import Progress, Training, fit, predict_logits

WEIGHTS, KEPT = "weights.safetensors", "kept.npz"
FILES = ("spec.json", "record.json", "history.csv", "timing.csv", WEIGHTS)  # those in every manifest
SMALL = 16_000_000  # bytes, at most, of all of these but the weights
RECORD = {  # record.json
    "status": Literal["finished", "diverged"],
    "classes": list[str],
    "source": str,
    "student_parameters": int,
    "method_parameters": int,
    "environment": dict,
}


class RunsFailed(RuntimeError):
    """Some runs ended in errors; the others are complete."""


@dataclass(frozen=True)
class RunSpec:
    """What a run is. Two equal specs are the same run, wherever and whenever it is asked for.

    Raises:
        UnknownName: for a method or a hyper-parameter that doesn't exist.
        ValueError: if a method that reads a teacher has none, or the reverse.
    """

    data: DataSpec
    student: ModelSpec
    method: str = "independent"
    hyper: dict = field(default_factory=dict)  # overrides; all of the method's hyper-parameters once made
    teacher: "RunSpec | None" = None
    training: Training = field(default_factory=Training)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyper", hyperparameters(self.method, self.hyper))
        uses_teacher = METHODS[self.method].uses_teacher
        if uses_teacher and self.teacher is None:
            raise ValueError(f"method {self.method} learns from a teacher; give it one")
        if self.teacher and not uses_teacher:
            raise ValueError(f"method {self.method} has no use for a teacher; leave it out")

    def as_json(self) -> str:
        """Canonical: equal specs give equal texts."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.as_json().encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """For progress bars and logs."""
        source = f" from {self.teacher.student.name}" if self.teacher else ""
        return f"{self.method}: {self.student.name}{source}, seed {self.seed}"

    def lineage(self) -> "list[RunSpec]":
        """The runs that this one needs, teachers first, and itself."""
        return [*(self.teacher.lineage() if self.teacher else []), self]


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    spec: RunSpec
    path: Path

    @cached_property
    def record(self) -> dict:
        return json.loads(small_text(self.path / "record.json"))

    @property
    def diverged(self) -> bool:
        return self.record["status"] == "diverged"

    @cached_property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(StringIO(small_text(self.path / "history.csv")))

    @cached_property
    def timing(self) -> pd.DataFrame:
        return pd.read_csv(StringIO(small_text(self.path / "timing.csv")))

    @cached_property
    def packed(self) -> dict[str, Arrays]:
        """The arrays of a published run, by "<folder>/<name>"."""
        found: dict[str, Arrays] = {}
        for key, array in (disk.read_arrays(self.path / KEPT) or {}).items():
            place, _, name = key.rpartition("/")
            found.setdefault(place, {})[name] = array
        return found

    def everything_kept(self) -> dict[str, Arrays]:
        """Answers and looks inside, by "<folder>/<name>"."""
        files = [path for folder in ("predictions", "inside") for path in (self.path / folder).glob("*.npz")]
        loose = {f"{path.parent.name}/{path.stem}": disk.read_arrays(path) for path in sorted(files)}
        return self.packed | {place: arrays for place, arrays in loose.items() if arrays}

    def network(self, device: torch.device | str = "cpu") -> Network:
        """The trained student in evaluation mode.

        Raises:
            RuntimeError: if the run came without its weights, or they don't fit the network.
        """
        if not (self.path / WEIGHTS).exists():
            raise RuntimeError(
                f"run {self.spec.id} came without weights, so nothing new can be asked of it; import it with "
                f"weights, or delete {self.path} to train it here"
            )
        # The weights hold the normalisation too.
        spec = replace(self.spec.student, pretrained=False)
        heads = METHODS[self.spec.method].heads
        network = Network(spec, len(self.record["classes"]), torch.zeros(3), torch.ones(3), heads=heads)
        try:
            network.load_state_dict(load_file(self.path / WEIGHTS))
        except (SafetensorError, RuntimeError) as error:
            raise RuntimeError(
                f"the weights of run {self.spec.id} don't fit its network ({one_line(error)}); delete "
                f"{self.path} to train it again"
            ) from error
        return network.to(device).eval()


class RunStore:
    """The runs under one directory.

    Args:
        root: the directory; made if it isn't there.
        data_root: where data sets lie, as for :func:`kdlib.data.load`.
        device: where to train; CUDA if there is a GPU.
        should_stop: asked after every epoch, and between runs and answers; if it says yes, work stops with
            :class:`kdlib.study.interrupt.Stopped`.
        quiet: no progress bars.
    """

    def __init__(
        self,
        root: str | Path,
        data_root: str | Path | None = None,
        device: str | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        quiet: bool = False,
    ):
        self.root = Path(root)
        self.data_root = data_root
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.should_stop = should_stop
        self.quiet = quiet
        self._datasets: dict[str, Dataset] = {}

    def dataset(self, spec: DataSpec) -> Dataset:
        """Load a data set once."""
        key = json.dumps(asdict(spec), sort_keys=True)
        if key not in self._datasets:
            data = load(spec, self.data_root)
            named = json.dumps(asdict(data.spec), sort_keys=True)  # the same, with its fingerprint
            self._datasets[key] = self._datasets[named] = data
        return self._datasets[key]

    def path(self, spec: RunSpec) -> Path:
        return self.root / spec.id

    def beside(self, spec: RunSpec, kind: str) -> Path:
        """What lies beside a run: its "lock", its "checkpoint", or of what its last attempt "failed"."""
        suffix = {"lock": "lock", "checkpoint": "checkpoint.safetensors", "failed": "failed.txt"}[kind]
        return self.root / f"{spec.id}.{suffix}"

    def failure(self, spec: RunSpec) -> str | None:
        """The error that the run's last attempt ended in, if it did: a line."""
        path = self.beside(spec, "failed")
        return path.read_text(errors="replace").partition("\n")[0] if path.exists() else None

    def stop_if_asked(self, where: str) -> None:
        """Raise :class:`kdlib.study.interrupt.Stopped` if asked to; all that is done is kept."""
        if self.should_stop():
            raise Stopped(f"stopped {where}")

    def load(self, spec: RunSpec) -> Run | None:
        """The finished run, or None; a damaged directory is set aside with a warning, and counts as none."""
        path = self.path(spec)
        if not path.is_dir():
            return None
        run = Run(spec, path)
        problem = damage(run)
        if problem:
            aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            path.rename(aside)
            warnings.warn(f"run {path} is damaged ({problem}): set aside as {aside.name}", stacklevel=2)
            return None
        return run

    def get(self, spec: RunSpec) -> Run:
        """Load the run, or train it and its teachers. Waits while another process trains it.

        Raises:
            Stopped: if ``should_stop`` said so; what is done is kept in a checkpoint.
            DiskFull: if the disk is full; finished runs and the last checkpoint stay as they were.
        """
        with self.lock(spec.id), self._failure_kept(spec):
            return self.load(spec) or self._train(spec)

    def get_all(
        self, specs: Iterable[RunSpec], then: Callable[[Run], None] = lambda run: None
    ) -> Iterator[Run]:
        """All runs, teachers first, in the order in which they are ready.

        Runs that another process is training are left to it, so that several processes share one list. A run
        that fails, here or there, is passed over, and so are its students.

        Args:
            then: called with each run while no other process can have it, e.g. to ask it something.

        Raises:
            RunsFailed: at the end, if some failed.
            Stopped, DiskFull: at once, as for :meth:`get`.
        """
        waiting = {spec.id: spec for member in specs for spec in member.lineage()}
        count, start, lost = len(waiting), time.time(), {}
        while waiting:
            busy = True
            for key, spec in list(waiting.items()):
                teacher = spec.teacher.id if spec.teacher else None
                if teacher in waiting:
                    continue
                try:
                    run = None if teacher in lost else self._get_now(spec, then, start)
                except Timeout:
                    continue
                busy = False
                del waiting[key]
                if run:
                    yield run
                else:
                    lost[key] = spec
            if busy:
                self.stop_if_asked("while other processes train")
                time.sleep(1)
        if lost:
            raise RunsFailed(self._told(lost, count))

    def _told(self, lost: dict[str, RunSpec], count: int) -> str:
        """Which of ``count`` runs failed: each error once, with the first of its runs."""
        failed = [spec for spec in lost.values() if not spec.teacher or spec.teacher.id not in lost]
        labels: dict[str | None, list[str]] = {}
        for spec in failed:
            labels.setdefault(self.failure(spec), []).append(spec.label)
        told = [
            f"{found[0]}{f' and {len(found) - 1} more' if found[1:] else ''}: {error}"
            for error, found in labels.items()
        ]
        if len(lost) > len(failed):
            told.append(f"{len(lost) - len(failed)} left out, as their teacher failed")
        return f"{len(failed)} of {count} runs failed: {'; '.join(told)}"

    def _get_now(self, spec: RunSpec, then: Callable[[Run], None], start: float) -> Run | None:
        """The run, or None if it fails, or another process has failed at it since the start.

        Raises:
            Timeout: if another process has it.
        """
        with self.lock(spec.id, timeout=0):
            failed = self.beside(spec, "failed")
            if failed.exists() and failed.stat().st_mtime > start:
                return None
            try:
                with self._failure_kept(spec):
                    run = self.load(spec)
                    if not run:
                        self.stop_if_asked(f"before {spec.label}")
                        run = self._train(spec)
                    then(run)
                    return run
            except (Stopped, disk.DiskFull):
                raise
            except Exception:  # one run's error, which is kept
                return None

    def lock(self, run_id: str, timeout: float = -1):
        """Held, nobody else writes in the run's directory or beside it; who has it may take it again."""
        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / f"{run_id}.lock", is_singleton=True).acquire(timeout=timeout)

    def get_each(self, specs: Iterable[RunSpec]) -> list[Run]:
        """The runs of these specs, in their order."""
        specs = list(specs)
        ready = {run.spec.id: run for run in self.get_all(specs)}
        return [ready[spec.id] for spec in specs]

    @contextmanager
    def _failure_kept(self, spec: RunSpec) -> Iterator[None]:
        """Keep beside the run the error that an attempt ends in: its line, and where it came from."""
        path = self.beside(spec, "failed")
        try:
            with disk.room_for(self.path(spec)):
                yield
        except (Stopped, disk.DiskFull):
            raise
        except Exception as error:
            line = " ".join(traceback.format_exception_only(error)[-1].split())
            with disk.written(path) as partial:
                partial.write_text(f"{line}\n\n{traceback.format_exc()}")
            raise
        path.unlink(missing_ok=True)

    def _train(self, spec: RunSpec) -> Run:
        teacher_run = self.get(spec.teacher) if spec.teacher else None
        data = self.dataset(spec.data)
        # The global generator is seeded, and restored, for what the method draws when it is built.
        with torch.random.fork_rng():
            method = METHODS[spec.method](**spec.hyper)
            student = Network(
                spec.student, len(data.classes), *data.statistics, seed=spec.seed, heads=method.heads
            )
            teacher = teacher_run.network(self.device).requires_grad_(False) if teacher_run else None
            torch.manual_seed(spec.seed)
            method.build(student, teacher, data.train)
            checkpoint = self.beside(spec, "checkpoint")

            def after_epoch(progress: Progress) -> None:
                unfinished = len(progress.history) < spec.training.epochs and not progress.diverged
                if unfinished:
                    progress.write(checkpoint)
                    self.stop_if_asked(f"{spec.label} after epoch {len(progress.history)}")

            progress = fit(
                student.to(self.device),
                teacher,
                method.to(self.device),
                data,
                spec.training,
                spec.seed,
                resume=Progress.read(checkpoint),
                after_epoch=after_epoch,
                label=spec.label,
                quiet=self.quiet,
            )
        self._write(spec, student, method, progress, data)
        checkpoint.unlink(missing_ok=True)
        return Run(spec, self.path(spec))

    def _write(self, spec: RunSpec, student: Network, method, progress: Progress, data: Dataset) -> None:
        record = {
            "status": "diverged" if progress.diverged else "finished",
            "classes": list(data.classes),
            "source": data.source,
            "student_parameters": sum(p.numel() for p in student.parameters()),
            "method_parameters": sum(p.numel() for p in method.parameters()),
            "environment": environment(self.device),
        }
        with disk.written(self.path(spec)) as folder:
            folder.mkdir()
            (folder / "spec.json").write_text(json.dumps(asdict(spec), indent=1, sort_keys=True))
            (folder / "record.json").write_text(json.dumps(record, indent=1))
            pd.DataFrame(progress.history).to_csv(folder / "history.csv", index=False)
            pd.DataFrame(progress.timing).to_csv(folder / "timing.csv", index=False)
            save_file(disk.on_host(student.state_dict()), folder / WEIGHTS)
            disk.seal(folder)

    def adopt(self, spec: RunSpec, source: Path) -> str:
        """Move a whole run from a directory on the same disk to its place, or what it lacks to one there.

        Returns:
            "new"; "completed", if the run was there and lacked files; "left", if it lacked none, is of
            another training, or another process has it.
        """
        try:
            with self.lock(spec.id, timeout=0):
                run = self.load(spec)
                if run is None:
                    source.rename(self.path(spec))
                    self.beside(spec, "checkpoint").unlink(missing_ok=True)
                    return "new"
                ours, theirs = (json.loads(small_text(path / disk.MANIFEST)) for path in (run.path, source))
                same = all(ours[name] == theirs[name] or None in (ours[name], theirs[name]) for name in FILES)
                found = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
                lacking = [path for path in found if not (run.path / path).exists()]
                if not same or not lacking:
                    return "left"
                if Path(WEIGHTS) in lacking:  # then their manifest, last: until then ours is right
                    lacking.append(Path(disk.MANIFEST))
                for path in lacking:
                    (run.path / path.parent).mkdir(exist_ok=True)
                    (source / path).replace(run.path / path)
                return "completed"
        except Timeout:
            return "left"

    def predictions(self, run: Run, stimuli: dict[str, Stimuli]) -> dict[str, Arrays]:
        """What the student says of each probe's images, from the disk or by asking it.

        Returns:
            For each probe ``predicted`` (N,) int64, and float32 (N,) confidences: ``confidence`` of the
            predicted class, ``confidence_label`` of the right one, ``confidence_texture`` of the second cue's
            where there are two, and ``squares``, the sum of the squares of all.
        """
        answers, network = {}, cache(lambda: run.network(self.device))  # built once, and only if needed
        for probe, made in stimuli.items():
            found = self.kept(
                run,
                f"{probe}-{made.sha256[:12]}",
                lambda made=made: _ask(network(), made),
                "predictions",
                lambda found, made=made: _is_answer(found, made, len(run.record["classes"])),
            )
            answers[probe] = {
                name: array.astype(np.int64 if name == "predicted" else np.float32)
                for name, array in found.items()
            }
        return answers

    def kept(
        self,
        run: Run,
        name: str,
        compute: Callable[[], Arrays],
        folder: str = "inside",
        fits: Callable[[Arrays], bool] = lambda found: True,
    ) -> Arrays:
        """Arrays that belong to a run, from ``<run>/<folder>/<name>.npz``, or computed and kept there.

        Args:
            fits: whether what a file holds can be what ``compute`` makes.

        Raises:
            Stopped: if ``should_stop`` said so before anything had to be computed.
        """
        path = run.path / folder / f"{name}.npz"
        with self.lock(run.spec.id):
            found = disk.read_arrays(path, fits) or run.packed.get(f"{folder}/{name}")
            if found is None:
                self.stop_if_asked(f"before {name} of {run.spec.label}")
                found = compute()
                disk.write_arrays(path, found)
        return found


def damage(run: Run) -> str | None:
    """What is wrong with a run's directory, in one line, or None."""
    try:
        manifest = json.loads(small_text(run.path / disk.MANIFEST))
        if not {*FILES} <= set(manifest) <= {*FILES, KEPT}:
            return f"{disk.MANIFEST} doesn't list {', '.join(FILES)}"
        left_out = [name for name, digest in manifest.items() if digest is None]
        if left_out not in ([], [WEIGHTS]):
            return f"it lacks {', '.join(left_out)}"
        if problem := disk.damage(run.path):
            return problem
        if json.loads(small_text(run.path / "spec.json")) != json.loads(run.spec.as_json()):
            return "spec.json is of another run"
        check_kinds(run.record, RECORD, "record.json", needed=RECORD)
        check_kinds(run.record["environment"], {"device": str}, "record.json's environment", ["device"])
        for name, table, needed in (
            ("history.csv", run.history, {"epoch", "loss", "train_accuracy", "test_accuracy"}),
            ("timing.csv", run.timing, {"epoch", "evaluation"}),
        ):
            numbers = table.select_dtypes("number")
            if list(numbers) != list(table) or not needed <= set(table):
                return f"{name} isn't numbers, with the columns {', '.join(sorted(needed))}"
            if list(table["epoch"]) != list(range(1, len(table) + 1)) or not len(table):
                return f"{name} hasn't a row for each epoch"
    except Exception as error:  # whatever damaged files make their readers raise
        return one_line(error)
    return None


def small_text(path: Path) -> str:
    """A small file's text; no device or pipe, and nothing that would fill the memory."""
    if not path.is_file() or path.stat().st_size > SMALL:
        raise ValueError(f"{path.name} is missing, or larger than {SMALL // 10**6} MB")
    return path.read_text(encoding="utf-8")


def _is_answer(found: Arrays, made: Stimuli, classes: int) -> bool:
    names = ["predicted", "confidence", "confidence_label", "squares"]
    names += ["confidence_texture"] if made.texture_labels is not None else []
    return (
        all(name in found and found[name].shape == made.labels.shape for name in names)
        and all(found[name].dtype.kind in "iuf" for name in names)
        and bool(((found["predicted"] >= 0) & (found["predicted"] < classes)).all())
    )


def _ask(network: Network, stimuli: Stimuli) -> Arrays:
    share = predict_logits(network, stimuli.images).softmax(1).cpu()
    confidence, predicted = share.max(1)
    columns = {"confidence_label": stimuli.labels}
    if stimuli.texture_labels is not None:
        columns["confidence_texture"] = stimuli.texture_labels
    found = {name: share.gather(1, label[:, None])[:, 0] for name, label in columns.items()}
    found |= {"confidence": confidence, "squares": share.square().sum(1)}
    found = {name: array.half().numpy() for name, array in found.items()}
    return {"predicted": predicted.to(torch.int16).numpy(), **found}
