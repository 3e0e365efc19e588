"""The predictions of one direction's networks, and the images behind them: the data that measures read."""

from dataclasses import dataclass

import numpy as np

from kdlib.bias import measures as m
from kdlib.probes import PROBES, Stimuli


def stack(runs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One row a run."""
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of every network of a direction to every probe; in all matrices a row is a seed.

    A role is "teacher", "baseline", or the name of another student.
    """

    direction: str
    stimuli: dict[str, Stimuli]
    answers: dict[str, dict[str, dict[str, np.ndarray]]]  # role -> probe -> RunStore.predictions' (k, n)
    inside: dict[str, dict[str, np.ndarray]]  # role -> name in kdlib.study.internals.traits -> (k, m)
    chance: float

    def part(self, role: str, probe: str, name: str = "predicted") -> np.ndarray:
        """Predicted classes (k, n), or another of the arrays that are kept of each answer."""
        return self.answers[role][probe][name]

    def labels(self, probe: str) -> np.ndarray:
        return self.stimuli[probe].labels.numpy()

    def hits(self, role: str, probe: str) -> np.ndarray:
        return m.accuracy(self.part(role, probe), self.labels(probe))

    def unchanged(self, probe: str) -> str | None:
        """The probe that shows the same images without the change, if it was asked."""
        name = PROBES[probe].reference if probe in PROBES else None
        return name if name != probe and name in self.stimuli else None

    def control(self, probe: str) -> str | None:
        """The probe that a specific effect must beat, if it was asked of the same images."""
        name = PROBES[probe].control if probe in PROBES else None
        alike = name in self.stimuli and self.stimuli[name].ids.equal(self.stimuli[probe].ids)
        return name if alike else None

    def before(self, role: str, probe: str) -> np.ndarray:
        """Predicted classes (k, n) for the same images, in the same order, without the change."""
        name = self.unchanged(probe)
        ids, wanted = self.stimuli[name].ids.numpy(), self.stimuli[probe].ids.numpy()
        order = np.argsort(ids)
        return self.part(role, name)[:, order[np.searchsorted(ids, wanted, sorter=order)]]

    def hits_before(self, role: str, probe: str) -> np.ndarray:
        return m.accuracy(self.before(role, probe), self.labels(probe))

    def two_cues(self, probe: str) -> bool:
        """Whether shape and texture of its images are of two classes."""
        return self.stimuli[probe].texture_labels is not None

    def cues(self, role: str, probe: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What :func:`kdlib.bias.measures.cue_decisions` takes."""
        return self.part(role, probe), self.labels(probe), self.stimuli[probe].texture_labels.numpy()
