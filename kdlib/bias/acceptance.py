"""Which probes a verdict may use: checked once per data set, on baselines.

A probe that no network reads says nothing about any of them. One that costs nothing, whose severities are out
of order, or that does no more than its control, does not measure what its name says.
"""

import numpy as np
import pandas as pd

from kdlib.bias.influence import Answers
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
    table = pd.concat(map(_checks, references.values())).groupby("probe", sort=False).max().reset_index()
    table["clipped"] = [shared.stimuli[probe].meta.get("clipped", 0.0) for probe in table.probe]
    table["reason"] = [_reason(row, shared.chance) for row in table.itertuples()]
    return table.assign(accepted=table.reason == "")[COLUMNS]


def mark(table: pd.DataFrame, acceptance: pd.DataFrame) -> pd.DataFrame:
    """Add ``accepted``: whether a row's probe, or every level of its series, is. Figures show others grey."""
    refused = set(acceptance.probe[~acceptance.accepted])
    refused |= {name for name, levels in series().items() if refused & set(levels)}
    return table.assign(accepted=~table.probe.isin(refused))


def _checks(answers: Answers) -> pd.DataFrame:
    """A row a probe, of one direction's baselines; a run that diverged reads nothing.

    Naming either of two cues is reading: a network that goes by texture never names the shape. Infinite where
    there is nothing to lose against, as for the clean images and images by others, or no control.
    """
    hits = {probe: np.nan_to_num(answers.hits("baseline", probe)) for probe in answers.stimuli}
    losses, rows = dict.fromkeys(hits, np.inf), []
    for probe in filter(answers.unchanged, hits):
        before = np.nan_to_num(answers.hits_before("baseline", probe))
        losses[probe] = (before.mean(axis=1) - hits[probe].mean(axis=1)).max()
    for probe in hits:
        named = cue_decisions(*answers.cues("baseline", probe)) if answers.two_cues(probe) else [hits[probe]]
        levels = next((names for names in series().values() if probe in names), [probe])
        levels = [level for level in levels if level in hits]
        row = {"probe": probe, "loss": max(losses[level] for level in levels)}
        row |= {"readable": max(wilson_lower(np.nan_to_num(cue), 0.98).max() for cue in named)}
        row |= {"disorder": 0.0, "beyond_control": np.inf}
        if len(levels) > 2 and answers.direction.endswith("cnn"):
            row["disorder"] = np.diff([hits[level].mean() for level in levels]).max()
        if control := answers.control(probe):
            difference = hits[probe] - hits[control]
            error = difference.std(axis=1) / np.sqrt(difference.shape[1])
            row["beyond_control"] = (np.abs(difference.mean(axis=1)) / np.maximum(error, 1e-12)).max()
        rows.append(row)
    return pd.DataFrame(rows)


def _reason(found, chance: float) -> str:
    """Why a probe is refused, of its row in the table; empty where it passes."""
    controls = {name for probe in PROBES.values() for name in (probe.control, probe.reference)}
    reasons = {
        f"more than {CLIPPED:.0%} of the values are clipped": found.clipped > CLIPPED,
        "no network reads this probe": found.readable <= chance + FLOOR_MARGIN,
        "it costs no network anything": found.loss < CEILING_LOSS and found.probe not in controls,
        "a harder level is easier for the CNN": found.disorder > DISORDER,
        "it does no more than its control": found.beyond_control < SURE,
    }
    return "; ".join(reason for reason, true in reasons.items() if true)
