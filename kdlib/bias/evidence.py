"""What the models of a direction answered, and every measure that can be taken of it.

A model's role is "teacher" or one of :func:`kdlib.study.controls.roles`; rows of all matrices are seeds.
A new measure is a line of MEASURES: how its influence matrix follows from a case, and to which it applies.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kdlib.bias import measures as m
from kdlib.names import lookup
from kdlib.probes import PROBES, Stimuli, series
from kdlib.study.controls import REFERENCES

INSIDE = "inside"  # in place of a probe: measured inside the networks, on clean images


@dataclass(frozen=True)
class Evidence:
    """Answers and what was seen inside the networks, beside what they were asked."""

    direction: str
    stimuli: dict[str, Stimuli]
    answers: dict[str, dict[str, dict[str, np.ndarray]]]  # role -> probe -> RunStore.predictions' (k, n)
    inside: dict[str, dict[str, np.ndarray]]  # role -> name in kdlib.study.internals.traits -> (k, m)
    chance: float

    @cached_property
    def methods(self) -> list[str]:
        return [role for role in self.answers if role not in REFERENCES]

    @cached_property
    def series(self) -> dict[str, list[str]]:
        """The series of which two or more levels were asked."""
        asked = {
            name: [probe for probe in levels if probe in self.stimuli] for name, levels in series().items()
        }
        return {name: levels for name, levels in asked.items() if len(levels) > 1}

    @cached_property
    def headings(self) -> list[str]:
        """What figures and transfer are about: each series as the mean of its levels, all other probes."""
        place = {probe: name for name, levels in self.series.items() for probe in levels}
        return list(dict.fromkeys(place.get(probe, probe) for probe in self.stimuli))

    @cached_property
    def questions(self) -> list[tuple[str, str]]:
        """All (measure, probe) pairs that have an influence matrix; a series' name stands for its mean."""
        asked = [*self.stimuli, *self.series, INSIDE]
        return [(name, probe) for name in MEASURES for probe in asked if self._applies(name, probe)]

    @cached_property
    def retained(self) -> list[str]:
        """The headings that have a retention: over them runs the profile of a network."""
        return [name for measure, name in self.questions if measure == "retention" and name in self.headings]

    def profiles(self, *roles: str) -> list[list[np.ndarray]]:
        """Retentions of each role, a matrix for each of ``retained`` that all of them have in every seed.

        A probe whose baseline a network hardly reads leaves it nothing to retain.
        """
        kept = [[self.influence(role, "retention", probe) for role in roles] for probe in self.retained]
        whole = [matrices for matrices in kept if all(np.isfinite(part).all() for part in matrices)]
        return [[matrices[place] for matrices in whole] for place in range(len(roles))]

    def _applies(self, measure: str, probe: str) -> bool:
        levels = self.series.get(probe, [probe])
        return all(
            MEASURES[measure].applies(Case(self, role, level)) for role in self.answers for level in levels
        )

    def influence(self, role: str, measure: str, probe: str) -> np.ndarray:
        """The measure's matrix D (seeds, images); a NaN row is a run for which it isn't defined."""
        compute = lookup("measure", measure, MEASURES).influence
        levels = self.series.get(probe, [probe])
        influence = np.mean([compute(Case(self, role, level)) for level in levels], axis=0)
        return _by_source(influence, self.stimuli[probe].ids.numpy()) if probe in self.stimuli else influence


def _by_source(influence: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Images made of one source are not independent: their columns become one, the grand mean stays."""
    sources, place = np.unique(ids, return_inverse=True)
    if influence.shape[1] != len(ids) or len(sources) == len(ids):
        return influence
    sums = np.stack([np.bincount(place, weights=row) for row in influence])
    return sums * len(sources) / len(ids)


@dataclass(frozen=True)
class Case:
    """The networks of one role, asked one probe."""

    evidence: Evidence
    role: str
    probe: str

    def on(self, probe: str) -> "Case":
        return replace(self, probe=probe)

    @property
    def teacher(self) -> "Case":
        return replace(self, role="teacher")

    @property
    def stimuli(self) -> Stimuli | None:
        return self.evidence.stimuli.get(self.probe)

    @property
    def baseline(self) -> str | None:
        """The probe that shows the same images without the change, if it was asked."""
        name = PROBES[self.probe].baseline if self.probe in PROBES else None
        return name if name != self.probe and name in self.evidence.stimuli else None

    @property
    def control(self) -> str | None:
        """The probe that a specific effect must beat, if it was asked of the same images."""
        name = PROBES[self.probe].control if self.probe in PROBES else None
        made = self.evidence.stimuli.get(name)
        return name if made is not None and made.ids.equal(self.stimuli.ids) else None

    @property
    def two_cues(self) -> bool:
        return self.stimuli is not None and self.stimuli.texture_labels is not None

    @property
    def predicted(self) -> np.ndarray:
        return self.part("predicted")

    def part(self, name: str) -> np.ndarray:
        return self.evidence.answers[self.role][self.probe][name]

    @property
    def labels(self) -> np.ndarray:
        return self.stimuli.labels.numpy()

    @property
    def hits(self) -> np.ndarray:
        return m.accuracy(self.predicted, self.labels)

    @property
    def before(self) -> np.ndarray:
        """Answers to the same images without the change."""
        place = {
            image: column for column, image in enumerate(self.evidence.stimuli[self.baseline].ids.tolist())
        }
        return self.on(self.baseline).predicted[:, [place[image] for image in self.stimuli.ids.tolist()]]

    @property
    def hits_before(self) -> np.ndarray:
        return m.accuracy(self.before, self.labels)

    @property
    def retention(self) -> np.ndarray:
        return m.retention(self.hits, self.hits_before, self.evidence.chance)

    @property
    def cues(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What :func:`kdlib.bias.measures.cue_decisions` takes."""
        return self.predicted, self.labels, self.stimuli.texture_labels.numpy()

    @property
    def inside(self) -> dict[str, np.ndarray]:
        return self.evidence.inside.get(self.role, {})

    @property
    def preference(self) -> np.ndarray:
        return m.two_way_shape(self.part("confidence_label"), self.part("confidence_texture"))

    def sensitivity(self, cue: int) -> np.ndarray:
        decisions = m.cue_decisions(*self.cues)[cue]
        return m.cue_sensitivity(decisions, self.on("no_conflict").hits, self.evidence.chance)


@dataclass(frozen=True)
class Measure:
    influence: Callable[[Case], np.ndarray]  # (k, n); (k, 1) where images have no influence of their own
    applies: Callable[[Case], bool]
    share: bool = False  # lies in [0, 1]


def _asked(case: Case) -> bool:
    return case.stimuli is not None


def _changed(case: Case) -> bool:
    return _asked(case) and case.baseline is not None


def _controlled(case: Case) -> bool:
    return _changed(case) and case.control not in (None, case.baseline)


def _scrambled(case: Case) -> bool:
    return _changed(case) and PROBES[case.probe].family == "scramble" and PROBES[case.probe].level > 0


def _finely_shuffled(case: Case) -> bool:
    """Order inside 4-px patches against the order of such patches, cut across a ViT's tokens."""
    return _changed(case) and case.probe == "pixel_shuffle_4" and "scramble_8_offset" in case.evidence.stimuli


def _conflict(case: Case) -> bool:
    return case.two_cues


def _with_ceiling(case: Case) -> bool:
    return _conflict(case) and case.probe in PROBES and "no_conflict" in case.evidence.stimuli


def _clean(case: Case) -> bool:
    return _asked(case) and case.probe == "clean"


def _compared(case: Case) -> bool:
    return f"invariance {case.probe}" in case.inside


def _seen_inside(case: Case) -> bool:
    return case.probe == INSIDE and bool(case.inside)


# fmt: off
MEASURES: dict[str, Measure] = {
    "accuracy": Measure(lambda c: c.hits, _asked, share=True),
    "retention": Measure(lambda c: c.retention, _changed),
    "excess": Measure(lambda c: c.retention - c.on(c.control).retention, _controlled),
    "order_index": Measure(lambda c: c.retention - c.on("scramble_8_offset").retention, _finely_shuffled),
    "invariance": Measure(lambda c: m.agreement_kappa(c.before, c.predicted), _scrambled),
    "shape_bias": Measure(lambda c: m.shape_bias(*c.cues), _conflict, share=True),
    "cue_rate": Measure(lambda c: m.cue_rate(*c.cues), _conflict, share=True),
    "shape_share": Measure(lambda c: m.cue_decisions(*c.cues)[0].astype(float), _conflict, share=True),
    "texture_share": Measure(lambda c: m.cue_decisions(*c.cues)[1].astype(float), _conflict, share=True),
    "shape_sensitivity": Measure(lambda c: c.sensitivity(0), _with_ceiling),
    "texture_sensitivity": Measure(lambda c: c.sensitivity(1), _with_ceiling),
    "shape_preference": Measure(lambda c: c.preference, _conflict, share=True),
    "error_consistency": Measure(lambda c: m.error_consistency(c.hits, c.teacher.hits), _asked),
    "agreement": Measure(lambda c: m.agreement(c.predicted, c.teacher.predicted), _asked, share=True),
    "same_error": Measure(
        lambda c: m.same_error(c.predicted, c.teacher.predicted, c.labels), _clean, share=True),
    "nll": Measure(lambda c: m.negative_log_likelihood(c.part("confidence_label")), _clean),
    "brier": Measure(lambda c: c.part("squares") - 2 * c.part("confidence_label") + 1, _clean),
    "ece": Measure(lambda c: m.expected_calibration_error(c.part("confidence"), c.hits)[:, None], _clean),
    "embedding_invariance": Measure(lambda c: c.inside[f"invariance {c.probe}"], _compared),
    "far_near": Measure(lambda c: m.ratio(c.inside["far"], c.inside["near"]), _seen_inside),
    "interaction_range": Measure(lambda c: m.ratio(c.inside["weighted"], c.inside["mass"]), _seen_inside),
}
# fmt: on
