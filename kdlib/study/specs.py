"""What a run is, and what is read from one that is finished. ``runs/<id>/`` holds

    spec.json  record.json (status, classes, environment)  history.csv  timing.csv  weights.safetensors
    map.safetensors (of methods that translate the student's embedding into the teacher's)
    manifest.json (sha256 of the files above)  predictions/<probe>-<images' sha256>.npz  inside/<what>.npz
    read/<probe>-<images' sha256>.npz (what the teacher's head says of the translated embedding)

Published runs have no weights, and kept.npz in place of the three folders.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kdlib import disk
from kdlib.data import DataSpec
from kdlib.data.properties import Treatment
from kdlib.disk import Arrays
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec, Network
from kdlib.names import one_line
from kdlib.train import Training

WEIGHTS, MAP, KEPT = "weights.safetensors", "map.safetensors", "kept.npz"
FOLDERS = ("predictions", "read", "inside")
TEACHER_SEEDS = (
    500  # added to a study's: teachers start from other weights, also where they are the same network
)
FILES = ("spec.json", "record.json", "history.csv", "timing.csv", WEIGHTS)  # those in every manifest


@dataclass(frozen=True)
class RunSpec:
    """What a run is. Two equal specs are the same run, wherever and whenever it is asked for.

    Raises:
        UnknownName: for a method or a hyper-parameter that doesn't exist.
        ValueError: if a method that reads a teacher has none, or the reverse.
    """

    data: DataSpec
    student: ModelSpec
    method: str = "baseline"
    hyper: dict = field(default_factory=dict)  # overrides; all of the method's hyper-parameters once made
    teacher: "RunSpec | None" = None
    training: Training = field(default_factory=Training)
    seed: int = 0
    treatment: Treatment | None = (
        None  # of the training images, to make a property; None: ordinary ones alone
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyper", hyperparameters(self.method, self.hyper))
        uses_teacher = METHODS[self.method].uses_teacher
        if uses_teacher and self.teacher is None:
            raise ValueError(f"method {self.method} learns from a teacher; give it one")
        if self.teacher and not uses_teacher:
            raise ValueError(f"method {self.method} has no use for a teacher; leave it out")

    def as_dict(self) -> dict:
        """All that the run depends on; a treatment only where there is one."""
        told = asdict(self) | {"teacher": self.teacher.as_dict() if self.teacher else None}
        return told if self.treatment else {key: told[key] for key in told if key != "treatment"}

    def as_json(self) -> str:
        """Canonical: equal specs give equal texts."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))

    def as_text(self) -> str:
        """The same for people: spec.json."""
        return json.dumps(self.as_dict(), indent=1, sort_keys=True)

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.as_json().encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """For progress bars and logs."""
        source = f" from {self.teacher.network_label}" if self.teacher else ""
        return f"{self.method}: {self.network_label}{source}, seed {self.seed}"

    @property
    def network_label(self) -> str:
        """The network, and the property that its images make."""
        return self.student.name + (f" ({self.treatment.property} made)" if self.treatment else "")

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
        return json.loads((self.path / "record.json").read_text())

    @property
    def diverged(self) -> bool:
        return self.record["status"] == "diverged"

    @cached_property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def timing(self) -> pd.DataFrame:
        return pd.read_csv(self.path / "timing.csv")

    def damage(self) -> str | None:
        """What is wrong with the run's files, in one line, or None; only the weights may be left out."""
        problem = disk.damage(self.path, needed=FILES)
        if problem:
            return problem
        if (self.path / "spec.json").read_text() != self.spec.as_text():
            return "spec.json is of another run"
        return None

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
        files = [path for folder in FOLDERS for path in (self.path / folder).glob("*.npz")]
        loose = {f"{path.parent.name}/{path.stem}": disk.read_arrays(path) for path in sorted(files)}
        return self.packed | {place: arrays for place, arrays in loose.items() if arrays}

    def network(self, device: torch.device | str = "cpu") -> Network:
        """The trained student in evaluation mode.

        Raises:
            RuntimeError: if the run came without its weights, or they don't fit the network.
        """
        if not (self.path / WEIGHTS).exists():
            raise RuntimeError(
                f"run {self.spec.id} came without weights, so nothing new can be asked of it; copy its "
                f"folder with weights, or delete {self.path} to train it here"
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
