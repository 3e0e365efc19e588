"""Published records: what all figures and tables need, without weights and without images.

    <folder>/study.json   the profile's overrides, the data's source and fingerprint, digests of all images
             labels.npz   labels and sources of those images, probe by probe
             runs/<id>/   every run's files but its weights; kept.npz: its answers, and looks inside it

A study that is given such a folder takes its runs over, and makes every table and figure anew from them.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib import disk
from kdlib.data import PROJECT, DataError, Dataset, DataSpec, Split, load
from kdlib.probes import PROBES, Stimuli, stimuli
from kdlib.study.internals import inside_table, likeness_table
from kdlib.study.known_bias import yardstick_table
from kdlib.study.profile import read_overrides
from kdlib.study.runs import FILES, KEPT, WEIGHTS, Run, RunSpec, RunStore

PICTURED = DataSpec("shape_texture", train_images=200, options={"test_images": 200})


class Records:
    """The records in a folder.

    Args:
        folder: relative to the working directory, or else to the project.

    Raises:
        DataError: the folder holds no records.
    """

    def __init__(self, folder: str | Path):
        places = (Path(folder), PROJECT / folder)
        self.folder = next((place for place in places if (place / "study.json").is_file()), None)
        if self.folder is None:
            raise DataError(f"{folder} holds no published records: expected study.json, labels.npz and runs/")
        self.about = json.loads((self.folder / "study.json").read_text())

    def of(self, profile: str) -> dict:
        """What is said of the study in study.json.

        Raises:
            DataError: the records are of another profile.
        """
        if self.folder.name != profile:
            raise DataError(
                f"the records in {self.folder} are of the profile {self.folder.name}, not {profile}; give "
                "the folder of that one, or None to train"
            )
        return self.about

    @cached_property
    def _labels(self) -> dict[str, Tensor]:
        with np.load(self.folder / "labels.npz", allow_pickle=False) as stored:
            return {name: torch.from_numpy(stored[name].astype(np.int64)) for name in stored.files}

    @cached_property
    def dataset(self) -> Dataset:
        """The data set with labels and without pixels: images are (N, 3, 0, 0)."""
        splits = (_without_images(self._labels[f"{split} labels"]) for split in ("train", "test"))
        spec, classes = DataSpec(**self.about["data"]), tuple(self.about["classes"])
        return Dataset(spec, self.about["source"], classes, *splits)

    def stimuli(self, name: str, count: int) -> Stimuli:
        """What is known of a probe's images, made of the first ``count`` test images.

        Raises:
            DataError: the probe was not asked, or of another number of images.
        """
        self.digest(count)
        if name not in self.about["stimuli"]:
            raise DataError(f"the records in {self.folder} have no answers to {name}; leave the probe out")
        split, about = _without_images(self._labels[f"{name} labels"]), self.about["stimuli"][name]
        textures = self._labels.get(f"{name} textures")
        return Stimuli(
            split.images, split.labels, self._labels[f"{name} ids"], textures, about["meta"], about["sha256"]
        )

    def digest(self, count: int) -> str:
        """That of the first ``count`` test images.

        Raises:
            DataError: networks were asked about another number of images.
        """
        known = self.about["digests"]
        if str(count) not in known:
            raise DataError(f"the records in {self.folder} are of {' and '.join(known)} images, not {count}")
        return known[str(count)]

    def pictures(self, probes: list[str], cache: Path) -> tuple[Dataset, dict[str, Stimuli]]:
        """The procedural set and probes made of it, to show what no record holds a picture of."""
        data = load(PICTURED)
        images, labels = data.test.images, data.test.labels
        return data, {name: stimuli(name, images, labels, cache=cache) for name in probes}

    def place(self, store: RunStore) -> None:
        """Copy the runs that the store doesn't have into it."""
        for source in sorted((self.folder / "runs").iterdir()):
            with store.lock(source.name):
                target = store.root / source.name
                if not target.is_dir():
                    with disk.written(target) as partial:
                        shutil.copytree(source, partial)


class RecordStore(RunStore):
    """Runs that were published: loaded, and never trained."""

    def get_all(self, specs: Iterable[RunSpec], then: Callable[[Run], None] | None = None) -> Iterator[Run]:
        """All runs, teachers first.

        Raises:
            DataError: some weren't published.
        """
        wanted = {spec.id: spec for member in specs for spec in member.lineage()}
        found = {key: self.load(spec) for key, spec in wanted.items()}
        missing = [spec.label for key, spec in wanted.items() if not found[key]]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(wanted)} runs are not in the published records, the first: "
                f"{missing[0]}; set results to None to train what is missing, or undo what was changed"
            )
        yield from found.values()

    def get(self, spec: RunSpec) -> Run:
        return self.get_each([spec])[0]


def _without_images(labels: Tensor) -> Split:
    return Split(torch.empty(len(labels), 3, 0, 0, dtype=torch.uint8), labels)


def publish(study, folder: str | Path) -> Path:
    """Write the records of a finished study; what was in the folder before is replaced."""
    folder = Path(folder)
    for part in filter(None, (study, study.longer)):  # whatever isn't kept yet
        for direction in part.directions:
            part.evidence(direction)
            inside_table(part, direction)
            likeness_table(part, direction)
    yardstick_table(study.store, study.yardstick_images)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "runs").mkdir(parents=True)
    asked = {name: made for name, made in study.stimuli.items() if name in PROBES}
    about = {
        "overrides": read_overrides(study.parameters["overrides"]),
        "data": asdict(study.dataset.spec),
        "source": study.dataset.source,
        "classes": study.dataset.classes,
        "digests": {len(study.few): study.few_digest, len(study.test): study.test_digest},
        "stimuli": {name: {"sha256": made.sha256, "meta": made.meta} for name, made in asked.items()},
    }
    (folder / "study.json").write_text(json.dumps(about, indent=1) + "\n")
    labels = {"train labels": study.dataset.train.labels, "test labels": study.dataset.test.labels}
    for name, made in asked.items():
        labels |= {f"{name} labels": made.labels, f"{name} ids": made.ids}
        if made.texture_labels is not None:
            labels[f"{name} textures"] = made.texture_labels
    np.savez_compressed(folder / "labels.npz", **{name: _narrow(part) for name, part in labels.items()})
    for run in study.finished():
        _pack(run, folder / "runs" / run.spec.id, asked)
    return folder


def _narrow(labels: Tensor) -> np.ndarray:
    """The smallest integers that hold the labels."""
    return labels.numpy().astype(np.min_scalar_type(int(labels.max())))


def _pack(run: Run, target: Path, asked: dict[str, Stimuli]) -> None:
    """A run's files without its weights; confidences only where a measure uses them."""
    target.mkdir()
    for name in set(FILES) - {WEIGHTS}:
        shutil.copy(run.path / name, target / name)
    current = {f"predictions/{name}-{made.sha256[:12]}": made for name, made in asked.items()}
    arrays = {}
    for place, kept in run.everything_kept().items():
        made = current.get(place)
        sure = made is None or made.texture_labels is not None or place.startswith("predictions/clean-")
        for name, values in kept.items():
            if sure or name == "predicted":
                arrays[f"{place}/{name}"] = _compact(values)
    disk.write_arrays(target / KEPT, arrays)
    disk.seal(target, left_out=[WEIGHTS])


def _compact(values: np.ndarray) -> np.ndarray:
    """Classes in a byte where they fit, nothing in double precision."""
    if values.dtype == np.float64:
        return values.astype(np.float32)
    small = values.dtype.kind == "i" and values.size and values.min() >= 0 and values.max() < 256
    return values.astype(np.uint8) if small else values
