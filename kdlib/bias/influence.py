"""From answers to measures: every influence matrix D (seeds, images), by role, measure and probe.

A new measure is a line of MEASURES: its matrix, from the answers of a role to a probe, and where it applies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kdlib.bias import measures as m
from kdlib.messages import lookup
from kdlib.probes import PROBES, Stimuli, series

INSIDE = "inside"  # in place of a probe: measured inside the networks, on clean images
KEPT = 2048  # matrices; a table reads all roles' of one measure after the other


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

    def asked(self, probe: str) -> bool:
        return probe in self.stimuli

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

    def retention(self, role: str, probe: str) -> np.ndarray:
        return m.retention(self.hits(role, probe), self.hits_before(role, probe), self.chance)

    def two_cues(self, probe: str) -> bool:
        """Whether shape and texture of its images are of two classes."""
        return self.asked(probe) and self.stimuli[probe].texture_labels is not None

    def cues(self, role: str, probe: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What :func:`kdlib.bias.measures.cue_decisions` takes."""
        return self.part(role, probe), self.labels(probe), self.stimuli[probe].texture_labels.numpy()


@dataclass(frozen=True)
class Measure:
    influence: Callable[[Answers, str, str], np.ndarray]  # (k, n); (k, 1) where images have no influence
    applies: Callable[[Answers, str], object]  # true where every role has it
    share: bool = False  # lies in [0, 1]
    interval: bool = True


# fmt: off
MEASURES: dict[str, Measure] = {
    "accuracy": Measure(Answers.hits, Answers.asked, share=True),
    "retention": Measure(Answers.retention, Answers.unchanged),
    "raw_ratio": Measure(
        lambda a, r, p: m.raw_ratio(a.hits(r, p), a.hits_before(r, p))[:, None],
        Answers.unchanged, interval=False),
    "excess": Measure(
        lambda a, r, p: a.retention(r, p) - a.retention(r, a.control(p)),
        lambda a, p: a.unchanged(p) and a.control(p) not in (None, a.unchanged(p))),
    "invariance": Measure(
        lambda a, r, p: m.agreement_kappa(a.before(r, p), a.part(r, p)),
        lambda a, p: a.unchanged(p) and PROBES[p].family == "scramble" and PROBES[p].level > 0),
    "shape_bias": Measure(
        lambda a, r, p: m.shape_bias(*a.cues(r, p), a.chance), Answers.two_cues, share=True),
    "cue_rate": Measure(lambda a, r, p: m.cue_rate(*a.cues(r, p)), Answers.two_cues, share=True),
    "shape_rate": Measure(
        lambda a, r, p: m.cue_decisions(*a.cues(r, p))[0], Answers.two_cues, share=True),
    "texture_rate": Measure(
        lambda a, r, p: m.cue_decisions(*a.cues(r, p))[1], Answers.two_cues, share=True),
    "shape_sensitivity": Measure(
        lambda a, r, p: m.cue_sensitivity(
            m.cue_decisions(*a.cues(r, p))[0], a.hits(r, "no_conflict"), a.chance),
        lambda a, p: a.two_cues(p) and p in PROBES and "no_conflict" in a.stimuli),
    "error_consistency": Measure(
        lambda a, r, p: m.error_consistency(a.hits(r, p), a.hits("teacher", p)),
        lambda a, p: a.asked(p) and "teacher" in a.answers),
    "agreement": Measure(
        lambda a, r, p: m.agreement(a.part(r, p), a.part("teacher", p)),
        lambda a, p: a.asked(p) and "teacher" in a.answers, share=True),
    "nll": Measure(
        lambda a, r, p: m.negative_log_likelihood(a.part(r, p, "confidence_label")),
        lambda a, p: p == "clean"),
    "brier": Measure(
        lambda a, r, p: a.part(r, p, "squares") - 2 * a.part(r, p, "confidence_label") + 1,
        lambda a, p: p == "clean"),
    "ece": Measure(
        lambda a, r, p: m.expected_calibration_error(a.part(r, p, "confidence"), a.hits(r, p))[:, None],
        lambda a, p: p == "clean", share=True),
    "embedding_invariance": Measure(
        lambda a, r, p: a.inside[r][f"invariance {p}"],
        lambda a, p: all(f"invariance {p}" in a.inside.get(role, {}) for role in a.answers)),
    "far_near": Measure(
        lambda a, r, p: m.ratio(a.inside[r]["far"], a.inside[r]["near"]),
        lambda a, p: p == INSIDE and all(a.inside.get(role) for role in a.answers)),
}
# fmt: on


class Measures:
    """D (seeds, images) as ``measures[role, measure, probe]``, computed when it is first read.

    A NaN row is a run for which the measure isn't defined, or that did not learn: of a network at chance
    nothing but its accuracy means anything. The name of a series stands for the mean of its
    levels. Raises UnknownName for a measure that isn't in MEASURES, KeyError for another role or probe.

    Attributes:
        series: the series of which two or more levels were asked, and those levels.
        headings: what figures and transfer are about: each series, and all probes outside of one.
        questions: all (measure, probe) that every role has.
        retained: the headings that have a retention: over them runs the profile of a network.
        students: all roles but the teacher and the baseline.
    """

    def __init__(self, answers: Answers) -> None:
        self.direction, self.chance, self.roles = answers.direction, answers.chance, list(answers.answers)
        asked = {
            name: [level for level in levels if answers.asked(level)] for name, levels in series().items()
        }
        self.series = {name: levels for name, levels in asked.items() if len(levels) > 1}
        place = {probe: name for name, levels in self.series.items() for probe in levels}
        self.headings = list(dict.fromkeys(place.get(probe, probe) for probe in answers.stimuli))
        self.questions = [
            (name, probe)
            for name, measure in MEASURES.items()
            for probe in (*answers.stimuli, *self.series, INSIDE)
            if measure.interval or probe not in self.series
            if all(measure.applies(answers, level) for level in self.series.get(probe, [probe]))
        ]
        retained = [probe for measure, probe in self.questions if measure == "retention"]
        self.retained = [probe for probe in retained if probe in self.headings]
        self.students = [role for role in self.roles if role not in ("teacher", "baseline")]
        self._answers = answers
        self._read = lru_cache(KEPT)(self._compute)

    def __getitem__(self, key: tuple[str, str, str]) -> np.ndarray:
        return self._read(*key)

    def _compute(self, role: str, measure: str, probe: str) -> np.ndarray:
        if probe in self.series:
            return np.mean([self[role, measure, level] for level in self.series[probe]], axis=0)
        influence = lookup("measure", measure, MEASURES).influence(self._answers, role, probe)
        if measure != "accuracy" and "clean" in self._answers.stimuli:
            for name in (role, "teacher") if measure == "error_consistency" else (role,):
                there = m.learned(self._answers.hits(name, "clean"), self.chance)
                influence = np.where(there[:, None], influence, np.nan)
        made = self._answers.stimuli.get(probe)
        return influence if made is None else _by_source(influence, made.ids.numpy())

    def profiles(self, *roles: str) -> list[list[np.ndarray]]:
        """Retentions of each role, a matrix for each of ``retained`` that all of them have in every seed.

        A network that hardly reads the unchanged images has no retention.
        """
        kept = [[self[role, "retention", probe] for role in roles] for probe in self.retained]
        whole = [matrices for matrices in kept if all(np.isfinite(part).all() for part in matrices)]
        return [[matrices[place] for matrices in whole] for place in range(len(roles))]


def _by_source(influence: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Images made of one source are not independent: their columns become one, the grand mean stays."""
    sources, place = np.unique(ids, return_inverse=True)
    if influence.shape[1] != len(ids) or len(sources) == len(ids):
        return influence
    sums = np.stack([np.bincount(place, weights=row) for row in influence])
    return sums * len(sources) / len(ids)
