"""Published records: what all figures and tables need, without weights and without images.

    <folder>/study.json   the profile's overrides; of every data set its source, fingerprint and probes
             labels.npz   labels of those images, and which test image each was made of
             runs/<id>/   every run's files but its weights; kept.npz: its answers, and looks inside it

A study that is given such a folder takes its runs over, and makes every table and figure anew from them. All
is found by what the records say: no image is made or hashed for it.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib import disk
from kdlib.data import PROJECT, DataError, Dataset, DataSpec, Split, load
from kdlib.probes import PROBES, Stimuli, stimuli
from kdlib.study.internals import inside_table, likeness_table
from kdlib.study.known_bias import asked_of_yardsticks, yardstick_table
from kdlib.study.profile import read_overrides
from kdlib.study.runs import RunStore
from kdlib.study.specs import FILES, KEPT, WEIGHTS, Run, RunSpec

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
        # By fingerprint: the study's data set, and those of the networks with known biases.
        sets = [self.about, *self.about["yardsticks"]]
        self._sets = {about["data"]["fingerprint"]: about for about in reversed(sets)}

    def overrides(self, profile: str) -> dict:
        """Those that the study was made with.

        Raises:
            DataError: the records are of another profile.
        """
        if self.folder.name != profile:
            raise DataError(
                f"the records in {self.folder} are of the profile {self.folder.name}, not {profile}; give "
                "the folder of that one, or None to train"
            )
        return self.about["overrides"]

    @cached_property
    def _labels(self) -> dict[str, Tensor]:
        with np.load(self.folder / "labels.npz", allow_pickle=False) as stored:
            return {name: torch.from_numpy(stored[name].astype(np.int64)) for name in stored.files}

    def _label(self, fingerprint: str, name: str) -> Tensor | None:
        own = fingerprint == self.about["data"]["fingerprint"]
        return self._labels.get(name if own else f"{fingerprint}/{name}")

    def dataset(self, wanted: DataSpec) -> Dataset:
        """A data set with labels and without pixels: images are (N, 3, 0, 0).

        Raises:
            DataError: no run saw these data.
        """
        for fingerprint, about in self._sets.items():
            spec = DataSpec(**about["data"])
            if wanted in (spec, replace(spec, fingerprint="")):
                splits = (self._label(fingerprint, f"{split} labels") for split in ("train", "test"))
                return Dataset(spec, about["source"], tuple(about["classes"]), *map(_without_images, splits))
        raise DataError(
            f"the records in {self.folder} are of other data than {asdict(wanted)}; set results to None to "
            "train, or undo what was changed"
        )

    def stimuli(self, data: Dataset, name: str) -> Stimuli:
        """What is known of a probe's images.

        Raises:
            DataError: the probe was not asked.
        """
        fingerprint = data.spec.fingerprint
        about = self._sets[fingerprint]["stimuli"].get(name)
        if about is None:
            raise DataError(f"the records in {self.folder} have no answers to {name}; leave the probe out")
        labels, ids, textures = (
            self._label(fingerprint, f"{name} {what}") for what in ("labels", "ids", "textures")
        )
        return Stimuli(_without_images(labels).images, labels, ids, textures, about["meta"], about["sha256"])

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


class RecordStore(RunStore):
    """Published runs: copied under the root, loaded, and never trained."""

    def __init__(self, records: Records, *options, **more):
        super().__init__(*options, **more)
        self.records = records
        for source in sorted((records.folder / "runs").iterdir()):
            with self.lock(source.name):
                target = self.root / source.name
                if not target.is_dir():
                    with disk.written(target) as partial:
                        shutil.copytree(source, partial)

    def dataset(self, spec: DataSpec) -> Dataset:
        return self.records.dataset(spec)

    def stimuli(self, data: Dataset, probe: str, make: Callable[[], Stimuli]) -> Stimuli:
        return self.records.stimuli(data, probe)

    def digest(self, images: Split) -> str:
        return self.records.digest(len(images))

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
    if study.directions:
        yardstick_table(study.store, study.yardstick_images)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "runs").mkdir(parents=True)
    asked = {name: made for name, made in study.stimuli.items() if name in PROBES}
    own, labels = _about(study.dataset, asked)
    yardsticks = asked_of_yardsticks(study.store, study.yardstick_images) if study.directions else []
    others = [_about(*one) for one in yardsticks]
    about = {
        "overrides": read_overrides(study.parameters["overrides"]),
        **own,
        "digests": {len(part): study.store.digest(part) for part in (study.few, study.test)},
        "yardsticks": [other for other, _ in others],
    }
    (folder / "study.json").write_text(json.dumps(about, indent=1) + "\n")
    for other, more in others:
        labels |= {f"{other['data']['fingerprint']}/{name}": part for name, part in more.items()}
    np.savez_compressed(folder / "labels.npz", **labels)
    for run in study.finished():
        _pack(run, folder / "runs" / run.spec.id, asked)
    return folder


def _about(data: Dataset, asked: dict[str, Stimuli]) -> tuple[dict, dict[str, np.ndarray]]:
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
    return about, {name: _narrow(part) for name, part in labels.items()}


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
        sure = sure and not place.startswith("read/")
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
