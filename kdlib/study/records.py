"""Published records: what all figures and tables need, without weights and without images.

results/README.md lists the files of such a folder. A study of it remakes every table and figure. Everything
is looked up in the records: no image is made or hashed, and nothing is written there.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib import disk
from kdlib.data import DataError, Dataset, DataSpec, Split
from kdlib.disk import Arrays
from kdlib.messages import one_line
from kdlib.probes import PROBES, Stimuli
from kdlib.study.internals import inside_table, likeness_table
from kdlib.study.known_bias import asked_of_yardsticks, yardstick_table
from kdlib.study.profile import records_folder
from kdlib.study.runs import RunStore
from kdlib.study.specs import FILES, KEPT, WEIGHTS, Run, RunSpec


class RecordStore(RunStore):
    """Published runs: loaded, and never trained.

    Args:
        folder: of the records, relative to the working directory, or else to the project.
        profile: the name of the profile that they must be of.

    Raises ValueError if the folder holds no records, DataError if they are those of another profile.
    """

    def __init__(self, folder: str | Path, profile: str, *options, **more):
        self.folder = records_folder(folder)
        if self.folder.name != profile:
            raise DataError(
                f"the records of the profile {profile} must lie in a folder called {profile}, and "
                f"{self.folder} isn't; give that folder, or None to train"
            )
        super().__init__(self.folder / "runs", *options, **more)
        with _whole(self.folder / "study.json") as path:
            self.about = json.loads(path.read_text())
            # By fingerprint: the study's data set, and those of the networks with known biases.
            sets = [self.about, *self.about["yardsticks"]]
            self._sets = {about["data"]["fingerprint"]: about for about in reversed(sets)}

    @cached_property
    def _labels(self) -> dict[str, Tensor]:
        with _whole(self.folder / "labels.npz") as path, np.load(path, allow_pickle=False) as stored:
            return {name: torch.from_numpy(stored[name].astype(np.int64)) for name in stored.files}

    def _label(self, fingerprint: str, name: str) -> Tensor | None:
        own = fingerprint == self.about["data"]["fingerprint"]
        return self._labels.get(name if own else f"{fingerprint}/{name}")

    def dataset(self, wanted: DataSpec) -> Dataset:
        """A data set with labels and without pixels, (N, 3, 0, 0); a DataError if no run saw these data."""
        for fingerprint, about in self._sets.items():
            spec = DataSpec(**about["data"])
            if wanted in (spec, replace(spec, fingerprint="")):
                splits = [_blank(self._label(fingerprint, f"{split} labels")) for split in ("train", "test")]
                return Dataset(spec, about["source"], tuple(about["classes"]), *splits)
        raise DataError(
            f"the records in {self.folder} are of other data than {asdict(wanted)}; set results to None to "
            "train, or undo your changes"
        )

    def stimuli(self, data: Dataset, probe: str, make: Callable[[], Stimuli]) -> Stimuli:
        """What is known of a probe's images; a DataError if it was not asked."""
        fingerprint = data.spec.fingerprint
        about = self._sets[fingerprint]["stimuli"].get(probe)
        if about is None:
            raise DataError(f"the records in {self.folder} have no predictions on {probe}; leave it out")
        told = [self._label(fingerprint, f"{probe} {what}") for what in ("labels", "ids", "textures")]
        return Stimuli(_blank(told[0]).images, *told, about["meta"], about["sha256"])

    def digest(self, images: Split) -> str:
        """That of as many test images; a DataError if networks were asked about another number."""
        known, count = self.about["digests"], str(len(images))
        if count not in known:
            raise DataError(f"the records in {self.folder} are of {' and '.join(known)} images, not {count}")
        return known[count]

    def load(self, spec: RunSpec) -> Run | None:
        """The published run, or None; a DataError if it is damaged."""
        run = Run(spec, self.path(spec))
        if run.path.is_dir() and (problem := run.damage()):
            raise DataError(f"the record {run.path} is damaged ({problem}); download the records again")
        return run if run.path.is_dir() else None

    def get(self, spec: RunSpec) -> Run:
        return self.get_each([spec])[0]

    def get_all(self, specs: Iterable[RunSpec], then: Callable = lambda run: None) -> Iterator[Run]:
        """All runs, teachers first; a DataError if some weren't published."""
        wanted = {spec.id: spec for member in specs for spec in member.lineage()}
        found = {key: self.load(spec) for key, spec in wanted.items()}
        missing = [spec.label for key, spec in wanted.items() if not found[key]]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(wanted)} runs are not in the published records, the first: "
                f"{missing[0]}; set results to None to train what is missing, or undo your changes"
            )
        yield from found.values()

    def kept(self, run: Run, place: str, compute: Callable[[], Arrays]) -> Arrays:
        return run.packed[place] if place in run.packed else compute()  # which tells: there are no weights


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A DataError for what a damaged or missing file makes its readers raise."""
    try:
        yield path
    except Exception as error:
        told = f"the record {path} is damaged ({type(error).__name__}: {one_line(error)})"
        raise DataError(f"{told}; download the records again") from error


def _blank(labels: Tensor) -> Split:
    return Split(torch.empty(len(labels), 3, 0, 0, dtype=torch.uint8), labels)


def publish(study, folder: str | Path) -> Path:
    """Write the records of a finished study; what was in the folder before is replaced."""
    folder = Path(folder)
    for run in study.finished():  # one that was stopped before all its answers counts as finished
        study.ask_all(run)
    for part in filter(None, (study, study.longer)):  # whatever isn't kept yet
        for direction in part.directions:
            part.evidence(direction)
            inside_table(part, direction)
            likeness_table(part, direction)
    yardsticks = []
    if study.yardstick_images:
        yardstick_table(study.store, study.yardstick_images)
        yardsticks = asked_of_yardsticks(study.store, study.yardstick_images)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "runs").mkdir(parents=True)
    asked = {name: made for name, made in study.stimuli.items() if name in PROBES}
    own, labels = _about(study.dataset, asked)
    others = [_about(*one) for one in yardsticks]
    about = {
        "overrides": study.parameters["overrides"],
        **own,
        "digests": {len(part): study.store.digest(part) for part in (study.few, study.test)},
        "yardsticks": [other for other, _ in others],
    }
    (folder / "study.json").write_text(json.dumps(about, indent=1) + "\n")
    for other, more in others:
        labels |= {f"{other['data']['fingerprint']}/{name}": part for name, part in more.items()}
    np.savez_compressed(folder / "labels.npz", **labels)
    for run in study.finished():
        _pack(run, folder / "runs" / run.spec.id)
    return folder


def _about(data: Dataset, asked: dict[str, Stimuli]) -> tuple[dict, Arrays]:
    """What study.json says of a data set and the probes that were made of it, and the labels of all."""
    about = {
        "data": asdict(data.spec),
        "source": data.source,
        "classes": data.classes,
        "stimuli": {name: {"sha256": made.sha256, "meta": made.meta} for name, made in asked.items()},
    }
    labels = {"train labels": data.train.labels, "test labels": data.test.labels}
    for name, made in asked.items():
        labels |= {f"{name} labels": made.labels, f"{name} ids": made.ids}
        if made.texture_labels is not None:
            labels[f"{name} textures"] = made.texture_labels
    # The smallest integers that hold them.
    return about, {
        name: part.numpy().astype(np.min_scalar_type(int(part.max()))) for name, part in labels.items()
    }


def _pack(run: Run, target: Path) -> None:
    """A run's files without its weights; confidences on the clean images only, as measures use no others."""
    target.mkdir()
    for name in set(FILES) - {WEIGHTS}:
        shutil.copy(run.path / name, target / name)
    arrays = {}
    for path in sorted(run.path.glob("*/*.npz")):  # answers, and looks inside
        place = f"{path.parent.name}/{path.stem}"
        for name, values in (disk.read_arrays(path) or {}).items():
            if name == "predicted" or place.startswith(("inside/", "predictions/clean-")):
                arrays[f"{place}/{name}"] = _compact(values)
    disk.write_arrays(target / KEPT, arrays)
    disk.seal(target, left_out=[WEIGHTS])


def _compact(values: np.ndarray) -> np.ndarray:
    """Classes in a byte where they fit, nothing in double precision."""
    if values.dtype == np.float64:
        return values.astype(np.float32)
    small = values.dtype.kind == "i" and values.size and values.min() >= 0 and values.max() < 256
    return values.astype(np.uint8) if small else values
