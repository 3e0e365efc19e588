"""Tidy tables of one direction: every measure of every model with its interval, and every movement.

A model's role is "teacher" or one of :func:`kdlib.roles.roles`; rows of the predictions are seeds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from kdlib.bias.measures import (
    SMALLEST_EFFECTS,
    accuracy,
    cue_decisions,
    cue_rate,
    raw_ratio,
    retention,
    shape_bias,
    transfer,
)
from kdlib.bias.statistics import crossed_interval
from kdlib.probes import PROBES, Stimuli
from kdlib.roles import REFERENCES

SHARES = ("accuracy", "shape_bias", "cue_rate", "shape_share", "texture_share")  # lie in [0, 1]


@dataclass(frozen=True)
class Evidence:
    """What the models of one direction answered, and what they were asked."""

    direction: str
    stimuli: dict[str, Stimuli]
    predicted: dict[str, dict[str, np.ndarray]]  # role -> probe -> (seeds, images) classes
    chance: float

    @cached_property
    def methods(self) -> list[str]:
        return [role for role in self.predicted if role not in REFERENCES]

    @cached_property
    def questions(self) -> list[tuple[str, str]]:
        """All (measure, probe) pairs that have an influence matrix."""
        pairs = []
        for probe, stimuli in self.stimuli.items():
            pairs.append(("accuracy", probe))
            baseline = PROBES[probe].baseline
            if baseline in self.stimuli and baseline != probe:
                pairs.append(("retention", probe))
            if stimuli.texture_labels is not None:
                pairs += [
                    (name, probe) for name in ("shape_bias", "cue_rate", "shape_share", "texture_share")
                ]
        return pairs

    def hits(self, role: str, probe: str) -> np.ndarray:
        return accuracy(self.predicted[role][probe], self.stimuli[probe].labels.numpy())

    def baseline_hits(self, role: str, probe: str) -> np.ndarray:
        """Hits on the same images as the probe's, without its change."""
        stimuli, baseline = self.stimuli[probe], self.stimuli[PROBES[probe].baseline]
        place = {image: column for column, image in enumerate(baseline.ids.tolist())}
        columns = [place[image] for image in stimuli.ids.tolist()]
        return self.hits(role, PROBES[probe].baseline)[:, columns]

    def influence(self, role: str, measure: str, probe: str) -> np.ndarray:
        """The measure's matrix D (seeds, images); a NaN row is a run for which it isn't defined."""
        if measure == "accuracy":
            return self.hits(role, probe)
        if measure == "retention":
            return retention(self.hits(role, probe), self.baseline_hits(role, probe), self.chance)
        stimuli = self.stimuli[probe]
        cues = self.predicted[role][probe], stimuli.labels.numpy(), stimuli.texture_labels.numpy()
        if measure == "shape_bias":
            return shape_bias(*cues)
        if measure == "cue_rate":
            return cue_rate(*cues)
        return cue_decisions(*cues)[measure == "texture_share"].astype(np.float64)


def measure_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each role, measure and probe: estimate, low, high, seeds, images, and the value per seed.

    ``raw_ratio``, the original study's measure, has no interval. With one seed, or a run for which a measure
    is not defined, low and high are NaN.
    """
    rows = []
    for role in evidence.predicted:
        for measure, probe in evidence.questions:
            rows.append(_row(evidence, role, measure, probe, evidence.influence(role, measure, probe)))
            if measure == "retention":
                ratio = raw_ratio(evidence.hits(role, probe), evidence.baseline_hits(role, probe))
                rows.append(_row(evidence, role, "raw_ratio", probe, ratio[:, None]))
    return pd.DataFrame(rows)


def transfer_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each method, measure and probe: movement, gap, and movement toward the teacher.

    For the measures that have a smallest effect of interest. ``narrow_low`` and ``narrow_high`` are the
    movement's 90% interval, for equivalence. Where nothing can be computed (one seed, or a run that did not
    learn), the numbers are NaN and ``reason`` says why.
    """
    rows = []
    for method in evidence.methods:
        for measure, probe in evidence.questions:
            if measure in SMALLEST_EFFECTS:
                row = {"direction": evidence.direction, "method": method, "measure": measure, "probe": probe}
                rows.append(row | _movement(evidence, method, measure, probe))
    return pd.DataFrame(rows)


def side(row: pd.Series) -> str:
    """Which way a row of :func:`transfer_table` tells that the student moved.

    "toward" the teacher or "away" from it: the gap is established and the movement's interval lies on that
    side; "neither": it lies on both. "teacher not different" where the gap is not established.
    """
    if pd.isna(row.movement):
        return "not evaluable"
    if not row.established:
        return "teacher not different"
    return "toward" if row.toward_low > 0 else "away" if row.toward_high < 0 else "neither"


def _movement(evidence: Evidence, method: str, measure: str, probe: str) -> dict:
    spans = [f"{name}{end}" for name in ("movement", "gap", "toward") for end in ("", "_low", "_high")]
    empty = dict.fromkeys([*spans, "narrow_low", "narrow_high", "p", "ratio", "seeds_up"], np.nan)
    roles = (method, "independent", "teacher")
    student, independent, teacher = (evidence.influence(role, measure, probe) for role in roles)
    row = empty | {"seeds": len(student), "established": False, "reason": ""}
    try:
        found = transfer(student, independent, teacher, SMALLEST_EFFECTS[measure])
        narrow = crossed_interval(student - independent, level=0.90)
    except ValueError as error:
        return row | {"reason": str(error).partition(";")[0].partition(", an interval")[0]}
    for name in ("movement", "gap", "toward"):
        interval = getattr(found, name)
        row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row | {
        "narrow_low": narrow.low,
        "narrow_high": narrow.high,
        "p": found.movement.p,
        "ratio": found.ratio if found.established else np.nan,
        "seeds_up": int(((student - independent).mean(axis=1) > 0).sum()),
        "established": found.established,
    }


def _row(evidence: Evidence, role: str, measure: str, probe: str, influence: np.ndarray) -> dict:
    seeds = influence.mean(axis=1)
    row = {
        "direction": evidence.direction,
        "role": role,
        "measure": measure,
        "probe": probe,
        "estimate": seeds.mean(),
        "low": np.nan,
        "high": np.nan,
        "seeds": len(seeds),
        "images": influence.shape[1],
        "per_seed": " ".join(f"{value:.4f}" for value in seeds),
    }
    if len(seeds) > 1 and influence.shape[1] > 1 and np.isfinite(influence).all():
        interval = crossed_interval(influence)
        low, high = interval.low, interval.high
        if measure in SHARES:  # what lies outside is impossible; cutting it off costs no coverage
            low, high = max(low, 0.0), min(high, 1.0)
        row |= {"low": low, "high": high}
    return row
