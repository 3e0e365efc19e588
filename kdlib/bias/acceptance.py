"""Which probes a verdict may use: checked once per data set, on baselines.

A probe that no network reads says nothing about any of them. One that costs nothing, whose severities are out
of order, or that does no more than its control, does not measure what its name says.
"""

import numpy as np
import pandas as pd

from kdlib.bias.answers import Answers
from kdlib.bias.measures import cue_decisions, wilson_lower
from kdlib.probes import PROBES, series

FLOOR_MARGIN = 0.05  # above chance, for the lower 99% bound of some network's accuracy
CEILING_LOSS = 0.02  # that the hardest level costs some network at least
DISORDER = 0.01  # by which a harder level may be easier, for the CNN
CLIPPED = 0.20  # largest share of values outside [0, 1]
SURE = 2.58  # standard errors of a paired difference, 99%
COLUMNS = ["probe", "clipped", "readable", "loss", "disorder", "beyond_control", "accepted", "reason"]


def acceptance_table(references: dict[str, Answers]) -> pd.DataFrame:
    """One row a probe: what was measured for each check, ``accepted``, and ``reason`` where it isn't.

    Columns: probe, clipped, readable (the best lower 99% bound of an accuracy, or of the share of either
    cue), loss (the largest against unchanged images, over the levels of a series), disorder (the largest gain
    of the CNN from one level to the next), beyond_control (the largest paired difference in standard errors).
    ``references`` are the baselines' answers, by direction.
    """
    if not references:
        return pd.DataFrame(columns=COLUMNS).astype({"accepted": bool})
    shared = next(iter(references.values()))
    asked = [[probe for probe in names if probe in shared.stimuli] for names in series().values()]
    rows = []
    for probe, made in shared.stimuli.items():
        ordered = next((names for names in asked if probe in names), [probe])
        found = {
            "probe": probe,
            "clipped": made.meta.get("clipped", 0.0),
            "readable": max(_readable(answers, probe) for answers in references.values()),
            "loss": max(_loss(answers, name) for answers in references.values() for name in ordered),
            "disorder": max(_disorder(answers, ordered) for answers in references.values()),
            "beyond_control": max(_beyond_control(answers, probe) for answers in references.values()),
        }
        reason = _reason(found, shared.chance)
        rows.append(found | {"accepted": not reason, "reason": reason})
    return pd.DataFrame(rows, columns=COLUMNS)


def mark(table: pd.DataFrame, acceptance: pd.DataFrame) -> pd.DataFrame:
    """Add ``accepted``: whether a row's probe, or every level of its series, is. Figures show others grey."""
    refused = set(acceptance.probe[~acceptance.accepted])
    refused |= {name for name, levels in series().items() if refused & set(levels)}
    return table.assign(accepted=~table.probe.isin(refused))


def _hits(answers: Answers, probe: str) -> np.ndarray:
    """A baseline that diverged reads nothing."""
    return np.nan_to_num(answers.hits("baseline", probe))


def _readable(answers: Answers, probe: str) -> float:
    """Naming either of two cues is reading: a network that goes by texture never names the shape."""
    cues = answers.two_cues(probe)
    named = cue_decisions(*answers.cues("baseline", probe)) if cues else [_hits(answers, probe)]
    return max(wilson_lower(np.nan_to_num(hits), 0.98).max() for hits in named)


def _loss(answers: Answers, probe: str) -> float:
    """Infinite where there is nothing to lose against: the clean images, and images by others."""
    if answers.unchanged(probe) is None:
        return np.inf
    before, hits = np.nan_to_num(answers.hits_before("baseline", probe)), _hits(answers, probe)
    return (before.mean(axis=1) - hits.mean(axis=1)).max()


def _disorder(answers: Answers, levels: list[str]) -> float:
    if len(levels) < 3 or not answers.direction.endswith("cnn"):
        return 0.0
    return np.diff([_hits(answers, level).mean() for level in levels]).max()


def _beyond_control(answers: Answers, probe: str) -> float:
    """Infinite where the probe has no control."""
    control = answers.control(probe)
    if control is None:
        return np.inf
    difference = _hits(answers, probe) - _hits(answers, control)
    error = difference.std(axis=1) / np.sqrt(difference.shape[1])
    return (np.abs(difference.mean(axis=1)) / np.maximum(error, 1e-12)).max()


def _reason(found: dict, chance: float) -> str:
    controls = {name for probe in PROBES.values() for name in (probe.control, probe.reference)}
    reasons = {
        f"more than {CLIPPED:.0%} of the values are clipped": found["clipped"] > CLIPPED,
        "no network reads this probe": found["readable"] <= chance + FLOOR_MARGIN,
        "it costs no network anything": found["loss"] < CEILING_LOSS and found["probe"] not in controls,
        "a harder level is easier for the CNN": found["disorder"] > DISORDER,
        "it does no more than its control": found["beyond_control"] < SURE,
    }
    return "; ".join(reason for reason, true in reasons.items() if true)
