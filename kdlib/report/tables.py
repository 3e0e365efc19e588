"""Tidy tables of one direction: every measure of every network with its interval, and every movement."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdlib.bias.influence import INSIDE, MEASURES, Answers, Measures
from kdlib.bias.measures import SMALLEST_EFFECTS
from kdlib.bias.statistics import Interval, crossed_interval, with_interval
from kdlib.bias.transfer import profile_slopes, transfer
from kdlib.study.controls import CONTROLS, WITHOUT_IT, direction_title, roles

GAINS = {"accuracy": "accuracy", "error_consistency": "error consistency with the teacher"}
SPANS = [f"{name}{end}" for name in ("movement", "gap", "toward") for end in ("", "_low", "_high")]
NUMBERS = [*SPANS, "narrow_low", "narrow_high", "p", "ratio"]
MOVED = ["direction", "method", "measure", "probe", *NUMBERS, "seeds", "established", "reason", "beyond"]


def span(found: Interval, name: str = "estimate", ends: str = "") -> dict[str, float]:
    """An interval as three columns of a table."""
    return {name: found.estimate, f"{ends}low": found.low, f"{ends}high": found.high}


def interval(row, form: str = "+.2f", of: str = "estimate", ends: str = "") -> str:
    """The estimate of a table's row with its interval, in a format."""
    return with_interval(getattr(row, of), getattr(row, f"{ends}low"), getattr(row, f"{ends}high"), form)


def in_order(table: pd.DataFrame, column: str, order: Sequence[str]) -> pd.DataFrame:
    """The rows by their place in an order of a column's values, otherwise as they stand."""
    place = {name: row for row, name in enumerate(order)}
    return table.sort_values(column, key=lambda names: names.map(place), kind="stable", ignore_index=True)


def measure_table(measures: Measures) -> pd.DataFrame:
    """One row for each role, measure and probe: estimate, low, high, seeds, images, and the value per seed.

    ``heading`` tells the rows that figures show, a series as its mean, from those of its single levels.
    ``raw_ratio``, the original study's measure, has no interval. With one seed, or a run for which a measure
    is not defined, low and high are NaN.
    """
    rows = []
    for measure, probe in measures.questions:  # one after the other, so that few matrices are held at a time
        for role in measures.roles:
            influence, kind = measures[role, measure, probe], MEASURES[measure]
            found, per_seed = crossed_interval(influence), influence.mean(axis=1)
            low, high = (found.low, found.high) if kind.interval else (np.nan, np.nan)
            if kind.share:  # what lies outside [0, 1] is impossible: no coverage is lost
                low, high = np.clip([low, high], 0, 1)
            row = {"direction": measures.direction, "role": role, "measure": measure, "probe": probe}
            row |= {"heading": probe in (*measures.headings, INSIDE)}
            row |= {"estimate": per_seed.mean(), "low": low, "high": high}
            row |= {"seeds": influence.shape[0], "images": influence.shape[1]}
            rows.append(row | {"per_seed": " ".join(f"{value:.4f}" for value in per_seed)})
    return in_order(pd.DataFrame(rows), "role", measures.roles)


def transfer_table(measures: Measures) -> pd.DataFrame:
    """One row for each student, measure and probe: movement, gap, and movement toward the teacher.

    For the measures that have a smallest effect of interest, on the headings. ``narrow_low`` and
    ``narrow_high`` are the movement's 90% interval, for equivalence. ``beyond`` compares a method with each
    control without the other architecture's teacher: the lowest end of the intervals of how much farther it
    moved toward the teacher. Above 0, it moved significantly farther than all of them. Where nothing can be
    computed (one seed, or a run that did not learn), the numbers are NaN and ``reason`` says why.
    """
    rows = []
    for measure, probe in measures.questions:
        if measure in SMALLEST_EFFECTS and probe in (*measures.headings, INSIDE):
            found = {role: measures[role, measure, probe] for role in measures.roles}
            for method in measures.students:
                row = {"direction": measures.direction, "method": method, "measure": measure, "probe": probe}
                row |= _movement(*(found[role] for role in (method, "baseline", "teacher")), measure)
                rows.append(row | {"beyond": _beyond(found, method, np.sign(row["gap"]))})
    table = pd.DataFrame(rows, columns=MOVED).astype(
        dict.fromkeys([*NUMBERS, "beyond"], float) | {"established": bool}
    )
    return in_order(table, "method", measures.students)


def _beyond(found: dict[str, np.ndarray], method: str, way: float) -> float:
    """NaN for a control, or if there is no control to compare with."""
    controls = [] if method in CONTROLS else [role for role in found if role in WITHOUT_IT]
    ends = [crossed_interval(way * found[method] - way * found[role]).low for role in controls]
    return min((end for end in ends if np.isfinite(end)), default=np.nan)


def sides(table: pd.DataFrame) -> pd.Series:
    """Which way each row of a :func:`transfer_table` tells that the student moved.

    "toward" the teacher or "away" from it: the gap is established and the movement's interval lies on that
    side; "neither": it lies on both. "teacher not different" where the gap is not established.
    """
    said = {
        "not testable": table.movement.isna(),
        "teacher not different": ~table.established,
        "toward": table.toward_low > 0,
        "away": table.toward_high < 0,
    }
    return pd.Series(np.select(list(said.values()), list(said), "neither"), table.index, dtype=object)


def _movement(student: np.ndarray, baseline: np.ndarray, teacher: np.ndarray, measure: str) -> dict:
    found = transfer(student, baseline, teacher, SMALLEST_EFFECTS[measure])
    row = {"seeds": len(student), "established": found.established, "ratio": found.ratio, "reason": ""}
    if np.isnan(found.movement.low) or np.isnan(found.gap.low):
        return row | {"gap": np.nan, "reason": found.reason}
    for name in ("movement", "gap", "toward"):
        row |= span(getattr(found, name), name, f"{name}_")
    moved = found.movement
    return row | {"narrow_low": moved.narrow_low, "narrow_high": moved.narrow_high, "p": moved.p}


def schedule_table(measures: Measures) -> pd.DataFrame:
    """Retentions beside clean accuracy, means over seeds, and what accuracy alone doesn't explain.

    Columns: direction, role, probe, clean, retention, schedule (the baseline at some number of epochs), and
    residual, low, high: retention above the straight line through those of the same seed, and its interval
    over seeds. "Effective robustness" in the sense of Taori et al. (2020). NaN with fewer than three of them.
    """
    schedules = ["baseline", *(role for role in measures.students if roles()[role].epochs != 1)]
    clean = {role: measures[role, "accuracy", "clean"].mean(axis=1) for role in measures.roles}
    rows = []
    for probe in measures.retained:
        kept = {role: measures[role, "retention", probe].mean(axis=1) for role in measures.roles}
        for role in measures.roles:
            residual = kept[role] - _line(clean, kept, schedules, clean[role])
            row = {"direction": measures.direction, "role": role, "probe": probe}
            row |= {"clean": clean[role].mean(), "retention": kept[role].mean()}
            row |= {"schedule": role in schedules}
            rows.append(row | span(crossed_interval(residual[:, None]), "residual"))
    columns = ["direction", "role", "probe", "clean", "retention", "schedule", "residual", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"schedule": bool})


def _line(clean: dict, kept: dict, schedules: list[str], at: np.ndarray) -> np.ndarray:
    """For each seed, the line through the schedules' points, read at that seed's accuracy."""
    points = np.array([[clean[role], kept[role]] for role in schedules])  # (schedules, 2, seeds)
    if len(schedules) < 3 or not np.isfinite(points).all():
        return np.full(len(at), np.nan)
    fits = [np.polyfit(points[:, 0, seed], points[:, 1, seed], 1) for seed in range(len(at))]
    return np.array([np.polyval(fit, value) for fit, value in zip(fits, at, strict=True)])


def gain_table(measures: Measures, cost: pd.DataFrame) -> pd.DataFrame:
    """What each student gains over the baseline and what its training costs.

    Columns: direction, role, gain, cost (of a whole run, in runs of the baseline), estimate, low, high. The
    gains are differences on clean images.
    """
    seconds = (cost.epoch * cost.epochs).groupby(cost.role).mean()
    rows = []
    for role in measures.students:
        for measure, gain in GAINS.items():
            difference = measures[role, measure, "clean"] - measures["baseline", measure, "clean"]
            row = {"direction": measures.direction, "role": role, "gain": gain}
            row |= {"cost": seconds[role] / seconds["baseline"]}
            rows.append(row | span(crossed_interval(difference)))
    return pd.DataFrame(rows, columns=["direction", "role", "gain", "cost", "estimate", "low", "high"])


def slopes(measures: Measures, role: str) -> np.ndarray:
    """Of a student's movements on the teacher's gaps, over all retentions, (k, 1).

    NaN where no probe has a retention in every run.
    """
    profiles = measures.profiles(role, "baseline", "teacher")
    return profile_slopes(*profiles)[:, None] if profiles[0] else np.array([[np.nan]])


def slope_table(measures: Measures) -> pd.DataFrame:
    """Each student's :func:`slopes` with their interval: direction, role, slope, low, high."""
    rows = [
        {"direction": measures.direction, "role": role}
        | span(crossed_interval(slopes(measures, role)), "slope")
        for role in measures.students
    ]
    return pd.DataFrame(rows, columns=["direction", "role", "slope", "low", "high"])


def severity_table(references: dict[str, Answers]) -> pd.DataFrame:
    """The baselines' accuracy at each level of a series: series, level, network, value."""
    rows = []
    for direction, answers in references.items():
        network = "Baseline " + direction_title(direction).rpartition(" ")[2]
        for name, levels in Measures(answers).series.items():
            for level, probe in enumerate(levels, start=1):
                accuracy = answers.hits("baseline", probe).mean()
                rows.append({"series": name, "level": level, "network": network, "value": accuracy})
    return pd.DataFrame(rows, columns=["series", "level", "network", "value"])
