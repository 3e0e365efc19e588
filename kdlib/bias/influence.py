"""From answers to measures: every influence matrix D (seeds, images), by role, measure and probe.

A new measure is a line of MEASURES: its matrix, from the answers of a role to a probe, and where it applies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kdlib.bias import measures as m
from kdlib.bias.answers import Answers
from kdlib.messages import lookup
from kdlib.probes import PROBES, series

INSIDE = "inside"  # in place of a probe: measured inside the networks, on clean images
KEPT = 2048  # matrices; a table reads all roles' of one measure after the other


@dataclass(frozen=True)
class Measure:
    influence: Callable[[Answers, str, str], np.ndarray]  # (k, n); (k, 1) where images have no influence
    applies: Callable[[Answers, str], bool]
    share: bool = False  # lies in [0, 1]
    interval: bool = True


def _asked(a: Answers, probe: str) -> bool:
    return probe in a.stimuli


def _changed(a: Answers, probe: str) -> bool:
    return _asked(a, probe) and a.unchanged(probe) is not None


def _conflict(a: Answers, probe: str) -> bool:
    return _asked(a, probe) and a.two_cues(probe)


def _taught(a: Answers, probe: str) -> bool:
    return _asked(a, probe) and "teacher" in a.answers


def _retention(a: Answers, role: str, probe: str) -> np.ndarray:
    return m.retention(a.hits(role, probe), a.hits_before(role, probe), a.chance)


# fmt: off
MEASURES: dict[str, Measure] = {
    "accuracy": Measure(lambda a, r, p: a.hits(r, p), _asked, share=True),
    "retention": Measure(_retention, _changed),
    "raw_ratio": Measure(
        lambda a, r, p: m.raw_ratio(a.hits(r, p), a.hits_before(r, p))[:, None], _changed, interval=False),
    "excess": Measure(
        lambda a, r, p: _retention(a, r, p) - _retention(a, r, a.control(p)),
        lambda a, p: _changed(a, p) and a.control(p) not in (None, a.unchanged(p))),
    "invariance": Measure(
        lambda a, r, p: m.agreement_kappa(a.before(r, p), a.part(r, p)),
        lambda a, p: _changed(a, p) and PROBES[p].family == "scramble" and PROBES[p].level > 0),
    "shape_bias": Measure(lambda a, r, p: m.shape_bias(*a.cues(r, p), a.chance), _conflict, share=True),
    "cue_rate": Measure(lambda a, r, p: m.cue_rate(*a.cues(r, p)), _conflict, share=True),
    "shape_rate": Measure(
        lambda a, r, p: m.cue_decisions(*a.cues(r, p))[0], _conflict, share=True),
    "texture_rate": Measure(
        lambda a, r, p: m.cue_decisions(*a.cues(r, p))[1], _conflict, share=True),
    "shape_sensitivity": Measure(
        lambda a, r, p: m.cue_sensitivity(
            m.cue_decisions(*a.cues(r, p))[0], a.hits(r, "no_conflict"), a.chance),
        lambda a, p: _conflict(a, p) and p in PROBES and "no_conflict" in a.stimuli),
    "error_consistency": Measure(
        lambda a, r, p: m.error_consistency(a.hits(r, p), a.hits("teacher", p)),
        _taught),
    "agreement": Measure(
        lambda a, r, p: m.agreement(a.part(r, p), a.part("teacher", p)),
        _taught, share=True),
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
            name: [level for level in levels if _asked(answers, level)] for name, levels in series().items()
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
