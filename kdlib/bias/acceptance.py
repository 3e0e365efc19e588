"""Which probes a verdict may use: checked once per data set, on independent students.

A probe that no network reads says nothing about any of them; one that costs nothing, one whose severities are
out of order, or one that does no more than its control, does not measure what its name says.
"""

import numpy as np
import pandas as pd

from kdlib.bias.evidence import Case, Evidence
from kdlib.bias.measures import cue_decisions, wilson_lower
from kdlib.probes import PROBES, series

FLOOR_MARGIN = 0.05  # above chance, for the lower 99% bound of some network's accuracy
CEILING_LOSS = 0.02  # that the hardest level costs some network at least
DISORDER = 0.01  # by which a harder level may be easier, for the CNN
CLIPPED = 0.20  # largest share of values outside [0, 1]
SURE = 2.58  # standard errors of a paired difference, 99%


def acceptance_table(references: dict[str, Evidence]) -> pd.DataFrame:
    """One row a probe: what was measured for each check, ``accepted``, and ``reason`` where it isn't.

    Columns: probe, clipped, readable (the best lower 99% bound of an accuracy, or of the share of either
    cue), loss (the largest against the baseline, over the levels of a series), disorder (the largest gain of
    the CNN from one level to the next), beyond_control (the largest paired difference in standard errors).

    Args:
        references: independent students, by the direction that they belong to.
    """
    shared = next(iter(references.values()))
    levels = {probe: names for names in shared.series.values() for probe in names}
    rows = []
    for probe, made in shared.stimuli.items():
        cases = [Case(evidence, "independent", probe) for evidence in references.values()]
        rows.append(
            {
                "probe": probe,
                "clipped": made.meta.get("clipped", 0.0),
                "readable": max(_readable(case) for case in cases),
                "loss": max(_loss(case.on(name)) for case in cases for name in levels.get(probe, [probe])),
                "disorder": max(_disorder(case, levels.get(probe, [])) for case in cases),
                "beyond_control": max(map(_beyond_control, cases)),
            }
        )
    table = pd.DataFrame(rows)
    reasons = [_reason(row, shared.chance) for row in table.itertuples()]
    return table.assign(accepted=[not reason for reason in reasons], reason=reasons)


def mark(table: pd.DataFrame, acceptance: pd.DataFrame) -> pd.DataFrame:
    """Add ``accepted``: whether a row's probe, or every level of its series, is. Figures show others grey."""
    refused = set(acceptance.probe[~acceptance.accepted])
    refused |= {name for name, levels in series().items() if refused & set(levels)}
    return table.assign(accepted=~table.probe.isin(refused))


def _readable(case: Case) -> float:
    """Where an image has two cues, a network reads it that names either: one that goes by texture never names
    the shape."""
    named = cue_decisions(*case.cues) if case.two_cues else [case.hits]
    return max(wilson_lower(hits, 0.98).max() for hits in named)


def _loss(case: Case) -> float:
    """Infinite where there is nothing to lose against: the clean images, and images by others."""
    if case.baseline is None:
        return np.inf
    return (case.hits_before.mean(axis=1) - case.hits.mean(axis=1)).max()


def _disorder(case: Case, levels: list[str]) -> float:
    ordered = PROBES[levels[0]].family != "frequency" if levels else False  # a finer band isn't a harder one
    if not ordered or not case.evidence.direction.endswith("cnn") or len(levels) < 3:
        return 0.0
    return np.diff([case.on(name).hits.mean() for name in levels]).max()


def _beyond_control(case: Case) -> float:
    """Infinite where the probe has no control."""
    if case.control is None:
        return np.inf
    difference = case.hits - case.on(case.control).hits
    error = difference.std(axis=1) / np.sqrt(difference.shape[1])
    return (np.abs(difference.mean(axis=1)) / np.maximum(error, 1e-12)).max()


def _reason(row, chance: float) -> str:
    reasons = {
        f"more than {CLIPPED:.0%} of the values are clipped": row.clipped > CLIPPED,
        "no network reads this probe": row.readable <= chance + FLOOR_MARGIN,
        "it costs no network anything": row.loss < CEILING_LOSS and not _is_control(row.probe),
        "a harder level is easier for the CNN": row.disorder > DISORDER,
        "it does no more than its control": row.beyond_control < SURE,
    }
    return "; ".join(reason for reason, true in reasons.items() if true)


def _is_control(probe: str) -> bool:
    return any(probe in (other.control, other.baseline) for other in PROBES.values())
