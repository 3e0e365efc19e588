"""A run is a value: ask for it, and it is loaded, or trained and kept.

    spec = RunSpec(data, student, "crd", teacher=teacher_spec, training=training, seed=0)
    run = RunStore("runs").get(spec)

``runs/<id>/`` is written beside its place and renamed, so a directory that exists is complete. Beside it lie
its lock, a checkpoint while it is unfinished, and the error, if its last attempt ended in one. Any tool may
copy the folders: one that was damaged on the way is found when it is loaded, and trained again.
"""

import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from filelock import Timeout
from safetensors.torch import load_file
from torch import Tensor

from kdlib import disk
from kdlib.data import Dataset, DataSpec, Split, load
from kdlib.data.properties import maker
from kdlib.disk import Arrays
from kdlib.messages import grouped
from kdlib.methods import METHODS
from kdlib.methods.fitnet_last import read_by_teacher
from kdlib.models import Network
from kdlib.probes import Stimuli
from kdlib.probes.base import digest
from kdlib.study.interrupt import Stopped
from kdlib.study.specs import MAP, Run, RunSpec, write_run
from kdlib.study.status import beside, failure
from kdlib.train import Progress, fit, predict_logits


class RunsFailed(RuntimeError):
    """Some runs ended in errors; the others are complete."""


class RunStore:
    """The runs under one directory.

    Args:
        root: the directory.
        data_root: where data sets lie, as for :func:`kdlib.data.load`.
        device: where to train; CUDA if there is a GPU.
        should_stop: asked after every epoch, and between runs and answers; if true, work stops with Stopped.
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
        self.root, self.data_root = Path(root), data_root
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.should_stop, self.quiet = should_stop, quiet
        self._datasets: dict[str, Dataset] = {}

    def dataset(self, spec: DataSpec) -> Dataset:
        """A data set, loaded once."""
        if str(spec) not in self._datasets:
            data = load(spec, self.data_root)
            self._datasets[str(spec)] = self._datasets[str(data.spec)] = data  # the latter has a fingerprint
        return self._datasets[str(spec)]

    def stimuli(self, data: Dataset, probe: str, make: Callable[[], Stimuli]) -> Stimuli:
        """What networks are asked; a store of published runs knows it from its records."""
        self.stop_if_asked(f"before making {probe}")
        return make()

    def digest(self, images: Split) -> str:
        """12 digits that name test images, in whose name answers about them are kept."""
        return digest(images.images)[:12]

    def path(self, spec: RunSpec) -> Path:
        return self.root / spec.id

    def beside(self, spec: RunSpec, kind: str) -> Path:
        return beside(self.root, spec.id, kind)

    def stop_if_asked(self, where: str) -> None:
        """Raise :class:`kdlib.study.interrupt.Stopped` if asked to; all that is done is kept."""
        if self.should_stop():
            raise Stopped(f"stopped {where}")

    def load(self, spec: RunSpec) -> Run | None:
        """The finished run, or None; a damaged directory is set aside with a warning, and counts as none."""
        run = Run(spec, self.path(spec))
        if not run.path.is_dir():
            return None
        if problem := run.damage():
            aside = run.path.with_name(f"{run.path.name}.damaged-{time.time_ns()}")
            run.path.rename(aside)
            warnings.warn(f"run {run.path} is damaged ({problem}): set aside as {aside.name}", stacklevel=2)
            return None
        return run

    def get(self, spec: RunSpec) -> Run:
        """Load the run, or train it and its teachers; raises as :meth:`get_all`."""
        return self.get_each([spec])[0]

    def get_each(self, specs: Iterable[RunSpec]) -> list[Run]:
        """The runs of these specs, in their order."""
        specs = list(specs)
        ready = {run.spec.id: run for run in self.get_all(specs)}
        return [ready[spec.id] for spec in specs]

    def by_role(self, wanted: Iterable[tuple[str, RunSpec]]) -> dict[str, list[Run]]:
        """The runs of each role, in their order."""
        wanted, found = list(wanted), {}
        for (role, _), run in zip(wanted, self.get_each(spec for _, spec in wanted), strict=True):
            found.setdefault(role, []).append(run)
        return found

    def get_all(
        self, specs: Iterable[RunSpec], then: Callable[[Run], None] = lambda run: None
    ) -> Iterator[Run]:
        """All runs, teachers first, in the order in which they are ready.

        Runs that another process is training are left to it, so that several processes share one list. A run
        that fails, here or there, is passed over, and so are its students. ``then`` is called with each run
        while no other process can have it, e.g. to ask it something.

        Raises:
            RunsFailed: at the end, if some failed.
            Stopped: at once, if ``should_stop`` said so; what is done is kept in a checkpoint.
            DiskFull: at once, if the disk is full; finished runs and the last checkpoint stay as they were.
        """
        waiting = {spec.id: spec for member in specs for spec in member.lineage()}
        count, start, lost = len(waiting), time.time(), {}
        while waiting:
            before = len(waiting)
            for key, spec in list(waiting.items()):
                teacher = spec.teacher.id if spec.teacher else None
                if teacher in waiting:
                    continue
                try:
                    run = None if teacher in lost else self._get_now(spec, then, start)
                except Timeout:
                    continue
                del waiting[key]
                if run:
                    yield run
                else:
                    lost[key] = spec
            if len(waiting) == before:
                self.stop_if_asked("while other processes train")
                time.sleep(1)
        if lost:
            raise RunsFailed(self._told(lost, count))

    def _get_now(self, spec: RunSpec, then: Callable[[Run], None], start: float) -> Run | None:
        """The run, or None if it fails, here or elsewhere since the start; a Timeout if another has it.

        The error that it ends in is kept beside the run: its line, and its traceback.
        """
        failed = self.beside(spec, "failed")
        with disk.lock(self.beside(spec, "lock"), self.path(spec), timeout=0):
            if failed.exists() and failed.stat().st_mtime > start:
                return None
            if not self.path(spec).is_dir():
                self.stop_if_asked(f"before {spec.label}")
            try:
                run = self.load(spec) or self._train(spec)
                then(run)
            except (Stopped, disk.DiskFull):
                raise
            except Exception as error:
                line = " ".join(traceback.format_exception_only(error)[-1].split())
                with disk.written(failed) as partial:
                    partial.write_text(f"{line}\n\n{traceback.format_exc()}")
                return None
            if failed.exists():  # where nobody can write, there is none
                failed.unlink()
            return run

    def _told(self, lost: dict[str, RunSpec], count: int) -> str:
        """Which of ``count`` runs failed: each error once, with the first of its runs."""
        failed = [spec for spec in lost.values() if not spec.teacher or spec.teacher.id not in lost]
        told = grouped((spec.label, str(failure(self.root, spec.id))) for spec in failed)
        if len(lost) > len(failed):
            told += f"; {len(lost) - len(failed)} left out, as their teacher failed"
        return f"{len(failed)} of {count} runs failed: {told}"

    def _train(self, spec: RunSpec) -> Run:
        data, source = self.dataset(spec.data), self.load(spec.teacher) if spec.teacher else None
        if source and source.diverged:
            told = f"its teacher, {source.spec.label}, diverged in epoch {len(source.history)}"
            raise RuntimeError(f"{told}: train that one with a lower learning_rate or a smaller clip")
        checkpoint = self.beside(spec, "checkpoint")

        def after_epoch(progress: Progress) -> None:
            if len(progress.history) < spec.training.epochs and not progress.diverged:
                progress.write(checkpoint)
                self.stop_if_asked(f"{spec.label} after epoch {len(progress.history)}")

        # The global generator is seeded, and restored, for what the method draws when it is built.
        with torch.random.fork_rng():
            method = METHODS[spec.method](**spec.hyper)
            told = (spec.student, len(data.classes), *data.statistics)
            student = Network(*told, seed=spec.seed, heads=method.heads)
            teacher = source.network(self.device).requires_grad_(False) if source else None
            torch.manual_seed(spec.seed)
            method.build(student, teacher, data.train)
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
                make=maker(data, spec.treatment, spec.seed) if spec.treatment else None,
            )
        run = write_run(self.path(spec), spec, data, student, method, progress)
        checkpoint.unlink(missing_ok=True)
        return run

    def predictions(
        self, run: Run, stimuli: dict[str, Stimuli], by_teacher: bool = False
    ) -> dict[str, Arrays]:
        """What the student says of each probe's images, from the disk or by asking it.

        If ``by_teacher``, its embedding is read by the teacher's head, for a method with a map to it.

        Returns:
            For each probe ``predicted`` (N,) int64, -1 where logits aren't finite, and float32 (N,):
            ``confidence`` in the predicted class, ``confidence_label`` in the right one, and ``squares``, the
            sum of the squares of all.
        """
        folder = "read" if by_teacher else "predictions"
        answers, reader = {}, cache(lambda: self._reader(run, by_teacher))  # built once, only if needed
        for probe, made in stimuli.items():
            ask = partial(lambda made: _ask(reader(), made), made)
            found = self.kept(run, f"{folder}/{probe}-{made.sha256[:12]}", ask)
            answers[probe] = {
                name: array.astype(np.int64 if name == "predicted" else np.float32)
                for name, array in found.items()
            }
        return answers

    def _reader(self, run: Run, by_teacher: bool) -> Callable[[Tensor], Tensor]:
        """Images (N, 3, H, W) to logits (N, C)."""
        student = run.network(self.device)
        if not by_teacher:
            return partial(predict_logits, student)
        teacher, method = self.get(run.spec.teacher).network(self.device), METHODS[run.spec.method]
        method = method(**run.spec.hyper)
        method.build(student, teacher, self.dataset(run.spec.data).train)
        method.load_state_dict(load_file(run.path / MAP))
        return partial(read_by_teacher, method.to(self.device), student, teacher)

    def kept(self, run: Run, place: str, compute: Callable[[], Arrays]) -> Arrays:
        """Arrays that belong to a run, from ``<run>/<place>.npz``, or computed and kept there.

        A place is "predictions/...", "read/..." or "inside/...".
        """

        def make() -> Arrays:
            self.stop_if_asked(f"before {Path(place).name} of {run.spec.label}")
            return compute()

        return disk.kept(run.path / f"{place}.npz", make, self.beside(run.spec, "lock"))


def _ask(reader: Callable[[Tensor], Tensor], stimuli: Stimuli) -> Arrays:
    share = reader(stimuli.images).softmax(1).cpu()
    confidence, predicted = share.max(1)
    predicted = predicted.where(confidence.isfinite(), -1)  # of a run that diverged
    right = share.gather(1, stimuli.labels[:, None])[:, 0]
    found = {"confidence_label": right, "confidence": confidence, "squares": share.square().sum(1)}
    found = {name: array.half().numpy() for name, array in found.items()}
    return {"predicted": predicted.to(torch.int16).numpy(), **found}
