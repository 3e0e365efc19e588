"""A run is a value: ask for it, and it is loaded, or trained and kept.

    spec = RunSpec(data, student, "crd", teacher=teacher_spec, training=training, seed=0)
    run = RunStore("runs").get(spec)

``runs/<id>/`` is written beside its place and renamed, so a directory that exists is complete:

    spec.json  record.json (status, classes, environment)  history.csv  timing.csv  weights.safetensors
    manifest.json (sha256 of the files above)  predictions/<probe>-<images' sha256>.npz  inside/<what>.npz

A run that came without its weights (:mod:`kdlib.archive`) says so in its manifest: null in place of a sha256.
"""

import errno
import hashlib
import json
import platform
import shutil
import time
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
import timm
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from kdlib import __version__, arrays
from kdlib.arrays import Arrays
from kdlib.data import Dataset, DataSpec, load
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec, Network
from kdlib.names import check_kinds, one_line
from kdlib.probes import Stimuli
from kdlib.train import OtherState, Progress, Training, fit, predict_logits

WEIGHTS = "weights.safetensors"
FILES = ("spec.json", "record.json", "history.csv", "timing.csv", WEIGHTS)  # those in the manifest
SMALL = 16_000_000  # bytes, at most, of all of these but the weights
LARGEST_KEPT = 256_000_000  # bytes, at most, of the arrays in one file
RECORD = {  # record.json
    "status": Literal["finished", "diverged"],
    "classes": list[str],
    "source": str,
    "student_parameters": int,
    "method_parameters": int,
    "environment": dict,
}


class Stopped(RuntimeError):
    """Training stopped at a checkpoint, as asked; the same call goes on from there."""


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
        return json.loads(_text(self.path / "record.json"))

    @property
    def diverged(self) -> bool:
        return self.record["status"] == "diverged"

    @cached_property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(StringIO(_text(self.path / "history.csv")))

    @cached_property
    def timing(self) -> pd.DataFrame:
        return pd.read_csv(StringIO(_text(self.path / "timing.csv")))

    def network(self, device: torch.device | str = "cpu") -> Network:
        """The trained student in evaluation mode.

        Raises:
            RuntimeError: if the run came without its weights, or they don't fit the network.
        """
        if not (self.path / WEIGHTS).exists():
            raise RuntimeError(
                f"run {self.spec.id} was imported without weights; export it again with weights, or delete "
                f"{self.path} to train it here"
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
        should_stop: asked after every epoch; if it says yes, training stops with :class:`Stopped`.
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

    def _checkpoint(self, spec: RunSpec) -> Path:
        return self.root / f"{spec.id}.checkpoint.safetensors"

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
            OSError: if the disk is full; finished runs and the last checkpoint stay as they were.
        """
        with self._lock(spec):
            return self.load(spec) or self._train(spec)

    def get_all(
        self, specs: Iterable[RunSpec], then: Callable[[Run], None] = lambda run: None
    ) -> Iterator[Run]:
        """All runs, teachers first, in the order in which they are ready.

        Runs that another process is training are left to it, so that several processes share one list.

        Args:
            then: called with each run while no other process can have it, e.g. to ask it something.
        """
        waiting = {spec.id: spec for member in specs for spec in member.lineage()}
        while waiting:
            busy = True
            for key, spec in list(waiting.items()):
                if spec.teacher and spec.teacher.id in waiting:
                    continue
                try:
                    with self._lock(spec, timeout=0):
                        run = self.load(spec) or self._train(spec)
                        then(run)
                except Timeout:
                    continue
                busy = False
                del waiting[key]
                yield run
            if busy:
                time.sleep(1)

    @contextmanager
    def _lock(self, spec: RunSpec, timeout: float = -1):
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f"{spec.id}.lock", timeout=timeout):
            yield

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
            checkpoint = self._checkpoint(spec)

            def after_epoch(progress: Progress) -> None:
                unfinished = len(progress.history) < spec.training.epochs and not progress.diverged
                if unfinished:
                    with _complain_if_full(checkpoint):
                        _write_checkpoint(checkpoint, progress)
                    if self.should_stop():
                        raise Stopped(f"stopped {spec.label} after epoch {len(progress.history)}")

            try:
                progress = fit(
                    student.to(self.device),
                    teacher,
                    method.to(self.device),
                    data,
                    spec.training,
                    spec.seed,
                    resume=_read_checkpoint(checkpoint),
                    after_epoch=after_epoch,
                    label=spec.label,
                    quiet=self.quiet,
                )
            except OtherState as error:
                warnings.warn(f"checkpoint {checkpoint} {error}: training starts anew", stacklevel=2)
                checkpoint.unlink()
                return self._train(spec)
        with _complain_if_full(self.path(spec)):
            self._write(spec, student, method, progress, data)
        checkpoint.unlink(missing_ok=True)
        return Run(spec, self.path(spec))

    def _write(self, spec: RunSpec, student: Network, method, progress: Progress, data: Dataset) -> None:
        partial = self.path(spec).with_name(f"{spec.id}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        record = {
            "status": "diverged" if progress.diverged else "finished",
            "classes": list(data.classes),
            "source": data.source,
            "student_parameters": sum(p.numel() for p in student.parameters()),
            "method_parameters": sum(p.numel() for p in method.parameters()),
            "environment": environment(self.device),
        }
        (partial / "spec.json").write_text(json.dumps(asdict(spec), indent=1, sort_keys=True))
        (partial / "record.json").write_text(json.dumps(record, indent=1))
        pd.DataFrame(progress.history).to_csv(partial / "history.csv", index=False)
        pd.DataFrame(progress.timing).to_csv(partial / "timing.csv", index=False)
        save_file(_on_host(student.state_dict()), partial / "weights.safetensors")
        manifest = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        partial.rename(self.path(spec))

    def adopt(self, spec: RunSpec, source: Path) -> str:
        """Move a whole run from a directory on the same disk to its place, or what it lacks to one there.

        Returns:
            "new"; "completed", if the run was there and lacked files; "left", if it lacked none, is of
            another training, or another process has it.
        """
        try:
            with self._lock(spec, timeout=0):
                run = self.load(spec)
                if run is None:
                    source.rename(self.path(spec))
                    self._checkpoint(spec).unlink(missing_ok=True)
                    return "new"
                ours, theirs = (json.loads(_text(path / "manifest.json")) for path in (run.path, source))
                same = all(ours[name] == theirs[name] or None in (ours[name], theirs[name]) for name in FILES)
                found = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
                lacking = [path for path in found if not (run.path / path).exists()]
                if not same or not lacking:
                    return "left"
                if Path(WEIGHTS) in lacking:
                    lacking.append(
                        Path("manifest.json")
                    )  # which names them; last, since until then it is right
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
                lambda found, made=made: _is_answer(found, made, len(run.record["classes"])),
                "predictions",
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
        fits: Callable[[Arrays], bool],
        folder: str = "inside",
    ) -> Arrays:
        """Arrays that belong to a run, from ``<run>/<folder>/<name>.npz``, or computed and kept there.

        Args:
            fits: whether what the file holds can be what ``compute`` makes.
        """
        path = run.path / folder / f"{name}.npz"
        if path.exists():
            try:
                found = arrays.read(path, LARGEST_KEPT)
                if fits(found):
                    return found
                problem = "it holds something else"
            except Exception as error:  # whatever a damaged file makes its readers raise
                problem = one_line(error)
            warnings.warn(f"{path} is damaged ({problem}): made again", stacklevel=2)
        found = compute()
        with _complain_if_full(path):
            arrays.write(path, found)
        return found


def _is_answer(found: Arrays, made: Stimuli, classes: int) -> bool:
    names = ["predicted", "confidence", "confidence_label", "squares"]
    names += ["confidence_texture"] if made.texture_labels is not None else []
    return (
        arrays.shaped(found, dict.fromkeys(names, made.labels.shape))
        and found["predicted"].dtype.kind in "iu"
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


def environment(device: torch.device) -> dict[str, str | int]:
    """What a number depends on beside its spec."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "kdlib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "device": gpu or _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _on_host(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _write_checkpoint(path: Path, progress: Progress) -> None:
    rows = {"history": json.dumps(progress.history), "timing": json.dumps(progress.timing)}
    partial, tensors = path.with_suffix(".partial"), _on_host(progress.tensors)
    save_file(tensors, partial, metadata=rows | {"sha256": _digest(tensors, rows)})
    partial.replace(path)


def _read_checkpoint(path: Path) -> Progress | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            rows = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if rows.pop("sha256") != _digest(tensors, rows):
            raise ValueError("its content has changed")
        progress = Progress(json.loads(rows["history"]), json.loads(rows["timing"]), tensors)
        for table, needed in ((progress.history, {"epoch", "loss"}), (progress.timing, {"epoch"})):
            for number, row in enumerate(table, 1):
                kinds = {type(value) for value in row.values()}
                if row["epoch"] != number or not kinds <= {int, float} or not needed <= row.keys():
                    raise ValueError("its history isn't one")
        return progress
    except Exception as error:  # whatever a damaged file makes its readers raise
        warnings.warn(f"checkpoint {path} is damaged ({one_line(error)}): training starts anew", stacklevel=2)
        return None


def _digest(tensors: dict[str, torch.Tensor], rows: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def damage(run: Run) -> str | None:
    """What is wrong with a run's directory, in one line, or None."""
    try:
        manifest = json.loads(_text(run.path / "manifest.json"))
        if set(manifest) != set(FILES):
            return f"manifest.json doesn't list {', '.join(FILES)}"
        for name, digest in manifest.items():
            left_out = name == WEIGHTS and digest is None
            if not left_out and sha256(run.path / name) != digest:
                return f"{name} has changed"
        if json.loads(_text(run.path / "spec.json")) != json.loads(run.spec.as_json()):
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


def _text(path: Path) -> str:
    """A small file's text; no device or pipe, and nothing that would fill the memory."""
    if not path.is_file() or path.stat().st_size > SMALL:
        raise ValueError(f"{path.name} is missing, or larger than {SMALL // 10**6} MB")
    return path.read_text(encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file.

    Raises:
        ValueError: if it is missing, or no plain file.
    """
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _complain_if_full(path: Path):
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: {path.name} could not be written under {path.parent}; no finished run is "
            "lost; free some space and give the same command again",
        ) from error
