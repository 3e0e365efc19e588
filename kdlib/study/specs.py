"""What a run is, and what is read from one that is finished. ``runs/<id>/`` holds

    spec.json  record.json (status, classes, environment)  history.csv  timing.csv  weights.safetensors
    map.safetensors (of methods that translate the student's embedding into the teacher's)
    manifest.json (sha256 of the files above)  predictions/<probe>-<images' sha256>.npz  inside/<what>.npz
    read/<probe>-<images' sha256>.npz (what the teacher's head says of the translated embedding)

Published runs have no weights, and kept.npz in place of the three folders.
"""

import hashlib
import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from kdlib import __version__, disk
from kdlib.data import Dataset, DataSpec
from kdlib.data.properties import Treatment
from kdlib.disk import Arrays
from kdlib.messages import one_line
from kdlib.methods import METHODS, OWN, Method, hyperparameters
from kdlib.models import ModelSpec, Network
from kdlib.train import Progress, Training

WEIGHTS, MAP, KEPT = "weights.safetensors", "map.safetensors", "kept.npz"
TEACHER_SEEDS = 500  # added to a study's, so that teachers start from other weights than students
FILES = ("spec.json", "record.json", "history.csv", "timing.csv", WEIGHTS)  # those in every manifest


@dataclass(frozen=True)
class RunSpec:
    """What a run is. Two equal specs are the same run, wherever and whenever it is asked for."""

    data: DataSpec
    student: ModelSpec
    method: str = "baseline"
    hyper: dict = field(default_factory=dict)  # overrides; all of the method's hyper-parameters once made
    teacher: "RunSpec | None" = None
    training: Training = field(default_factory=Training)
    seed: int = 0
    treatment: Treatment | None = None  # of the training images, to make a property

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyper", hyperparameters(self.method, self.hyper))
        uses_teacher = METHODS[self.method].uses_teacher
        if uses_teacher and not self.teacher:
            raise ValueError(f"method {self.method} needs a teacher; give it one")
        if self.teacher and not uses_teacher:
            raise ValueError(f"method {self.method} uses no teacher; leave it out")

    def as_dict(self) -> dict:
        """All that the run depends on; a treatment, and the file of its method, only where there is one."""
        told = asdict(self) | {"teacher": self.teacher.as_dict() if self.teacher else None}
        told["methods_from"] = OWN.get(self.method)
        told["training"]["optimiser"] = told["training"].pop("optimizer")  # as in published runs' ids
        return {key: told[key] for key in told if told[key] or key not in ("treatment", "methods_from")}

    def as_json(self, **layout) -> str:
        """Canonical: equal specs give equal texts."""
        return json.dumps(self.as_dict(), sort_keys=True, **layout)

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.as_json(separators=(",", ":")).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """For progress bars and logs."""
        return f"{self.what}, seed {self.seed}"

    @property
    def what(self) -> str:
        """The method and its networks."""
        source = f" from {self.teacher.network_label}" if self.teacher else ""
        return f"{self.method}: {self.network_label}{source}"

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
        if not problem and (self.path / "spec.json").read_text() != self.spec.as_json(indent=1):
            return "spec.json is of another run"
        return problem

    @cached_property
    def packed(self) -> dict[str, Arrays]:
        """The arrays of a published run, by "<folder>/<name>"."""
        found: dict[str, Arrays] = {}
        for key, array in (disk.read_arrays(self.path / KEPT) or {}).items():
            place, _, name = key.rpartition("/")
            found.setdefault(place, {})[name] = array
        return found

    def network(self, device: torch.device | str = "cpu") -> Network:
        """The trained student in evaluation mode; a RuntimeError without weights that fit it."""
        if not (self.path / WEIGHTS).exists():
            told = f"run {self.spec.id} came without weights, so it cannot make new predictions"
            raise RuntimeError(f"{told}; set results to None to train it here")
        # The weights hold the normalisation too.
        spec = replace(self.spec.student, pretrained=False)
        heads = METHODS[self.spec.method].heads
        network = Network(spec, len(self.record["classes"]), torch.zeros(3), torch.ones(3), heads=heads)
        try:
            network.load_state_dict(load_file(self.path / WEIGHTS))
        except (SafetensorError, RuntimeError) as error:
            told = f"the weights of run {self.spec.id} don't fit its network ({one_line(error)})"
            raise RuntimeError(f"{told}; delete {self.path} to train it again") from error
        return network.to(device).eval()


def write_run(
    path: Path, spec: RunSpec, data: Dataset, student: Network, method: Method, progress: Progress
) -> Run:
    """Keep what training made of a run."""
    record = {
        "status": "diverged" if progress.diverged else "finished",
        "classes": list(data.classes),
        "source": data.source,
        "student_parameters": sum(p.numel() for p in student.parameters()),
        "method_parameters": sum(p.numel() for p in method.parameters()),
        "environment": environment(next(student.parameters()).device),
    }
    with disk.written(path) as folder:
        folder.mkdir()
        (folder / "spec.json").write_text(spec.as_json(indent=1))
        (folder / "record.json").write_text(json.dumps(record, indent=1))
        pd.DataFrame(progress.history).to_csv(folder / "history.csv", index=False)
        pd.DataFrame(progress.timing).to_csv(folder / "timing.csv", index=False)
        for name, part in {WEIGHTS: student, MAP: method}.items():
            if part is student or hasattr(method, "translate"):
                state = {key: value.cpu().contiguous() for key, value in part.state_dict().items()}
                (folder / name).write_bytes(save(state))
        disk.seal(folder)
    return Run(spec, path)


def environment(device: torch.device) -> dict[str, str | int]:
    """What a number depends on beside its spec: versions, the device that trains, and its threads."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "kdlib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": version("timm"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else name,
        "threads": torch.get_num_threads(),
    }
