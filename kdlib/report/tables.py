"""Tidy tables of one direction: every measure of every model with its interval, and every movement."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from kdlib.bias import measures as m
from kdlib.bias.evidence import INSIDE, MEASURES, Case, Evidence
from kdlib.bias.measures import SMALLEST_EFFECTS
from kdlib.bias.statistics import interval_of, mean_interval
from kdlib.bias.transfer import profile_cosine, profile_slopes, transfer
from kdlib.study.controls import CONTROLS, WITHOUT_IT, direction_title, roles, title_of

GAINS = {"accuracy": "accuracy", "error_consistency": "error consistency with the teacher"}
NO_INTERVAL = {"low": np.nan, "high": np.nan}


def measure_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each role, measure and probe: estimate, low, high, seeds, images, and the value per seed.

    ``heading`` tells the rows that figures show, a series as its mean, from those of its single levels.
    ``raw_ratio``, the original study's measure, has no interval. With one seed, or a run for which a measure
    is not defined, low and high are NaN.
    """
    rows = []
    for role in evidence.answers:
        for measure, probe in evidence.questions:
            rows.append(_row(evidence, role, measure, probe, evidence.influence(role, measure, probe)))
            if measure == "retention" and probe not in evidence.series:
                case = Case(evidence, role, probe)
                ratio = m.raw_ratio(case.hits, case.hits_before)
                rows.append(_row(evidence, role, "raw_ratio", probe, ratio[:, None]) | NO_INTERVAL)
    return pd.DataFrame(rows)


def transfer_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each method, measure and probe: movement, gap, and movement toward the teacher.

    For the measures that have a smallest effect of interest, on the evidence's headings. ``narrow_low`` and
    ``narrow_high`` are the movement's 90% interval, for equivalence. ``beyond``: the lowest end of the
    intervals of a method's movement toward the teacher less that of each control without the other
    architecture's teacher: above 0, it moved surely farther than all of them. Where nothing can be computed
    (one seed, or a run that did not learn), the numbers are NaN and ``reason`` says why.
    """
    rows, influence = [], cache(evidence.influence)
    controls = [role for role in evidence.methods if role in WITHOUT_IT]
    for method in evidence.methods:
        for measure, probe in evidence.questions:
            if measure in SMALLEST_EFFECTS and probe in (*evidence.headings, INSIDE):
                row = {"direction": evidence.direction, "method": method, "measure": measure, "probe": probe}
                row |= _movement(influence, method, measure, probe)
                moved = np.sign(row["gap"]) * influence(method, measure, probe)
                others = [] if method in CONTROLS else controls
                differences = [
                    moved - np.sign(row["gap"]) * influence(role, measure, probe) for role in others
                ]
                rows.append(row | {"beyond": _lowest_end(differences)})
    return pd.DataFrame(rows)


def _lowest_end(differences: Sequence[np.ndarray]) -> float:
    """Of the intervals of these matrices, as far as they have one; NaN if none has."""
    defined = [part for part in differences if len(part) > 1 and np.isfinite(part).all()]
    return min((interval_of(part).low for part in defined), default=np.nan)


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


def _movement(influence: Callable[..., np.ndarray], method: str, measure: str, probe: str) -> dict:
    spans = [f"{name}{end}" for name in ("movement", "gap", "toward") for end in ("", "_low", "_high")]
    empty = dict.fromkeys([*spans, "narrow_low", "narrow_high", "p", "ratio", "seeds_up"], np.nan)
    compared = (method, "independent", "teacher")
    student, independent, teacher = (influence(role, measure, probe) for role in compared)
    row = empty | {"seeds": len(student), "established": False, "reason": ""}
    try:
        found = transfer(student, independent, teacher, SMALLEST_EFFECTS[measure])
        narrow = interval_of(student - independent, level=0.90)
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
        "heading": probe in (*evidence.headings, INSIDE),
        "estimate": seeds.mean(),
        "seeds": len(seeds),
        "images": influence.shape[1],
        "per_seed": " ".join(f"{value:.4f}" for value in seeds),
    }
    if len(seeds) < 2 or not np.isfinite(influence).all():
        return row | NO_INTERVAL
    interval = interval_of(influence)
    low, high = interval.low, interval.high
    if measure in MEASURES and MEASURES[measure].share:
        low, high = max(low, 0.0), min(high, 1.0)  # what lies outside is impossible: no coverage is lost
    return row | {"low": low, "high": high}


def class_table(evidence: Evidence, classes: Sequence[str]) -> pd.DataFrame:
    """Shape bias under cue conflict by the shape's class, over all seeds: role, class, shape_bias."""
    rows = []
    for role in evidence.answers:
        case = Case(evidence, role, "cue_conflict")
        shape, texture = m.cue_decisions(*case.cues)
        for label, name in enumerate(classes):
            chosen = case.labels == label
            named = shape[:, chosen].sum() + texture[:, chosen].sum()
            bias = shape[:, chosen].sum() / named if named else np.nan
            rows.append({"role": role, "class": name, "shape_bias": bias})
    return pd.DataFrame(rows)


def schedule_table(evidence: Evidence) -> pd.DataFrame:
    """Retentions beside clean accuracy, means over seeds, and what accuracy alone doesn't explain.

    Columns: role, probe, clean, retention, schedule (the independent student at some number of epochs), and
    residual, low, high: retention above the straight line through those of the same seed, with its interval
    over seeds. "Effective robustness" in the sense of Taori et al. (2020). NaN with fewer than three
    schedules or two seeds.
    """
    schedules = ["independent", *(role for role in evidence.methods if roles()[role].epochs != 1)]
    clean = {role: evidence.influence(role, "accuracy", "clean").mean(axis=1) for role in evidence.answers}
    rows = []
    for probe in evidence.retained:
        kept = {role: evidence.influence(role, "retention", probe).mean(axis=1) for role in evidence.answers}
        for role in evidence.answers:
            row = {"role": role, "probe": probe, "clean": clean[role].mean(), "retention": kept[role].mean()}
            row |= {"schedule": role in schedules, "residual": np.nan} | NO_INTERVAL
            residual = kept[role] - _line(clean, kept, schedules, clean[role])
            if np.isfinite(residual).all() and len(residual) > 1:
                interval = mean_interval(residual)
                row |= {"residual": interval.estimate, "low": interval.low, "high": interval.high}
            rows.append(row)
    return pd.DataFrame(rows)


def _line(clean: dict, kept: dict, schedules: list[str], at: np.ndarray) -> np.ndarray:
    """For each seed, the line through the schedules' points, read at that seed's accuracy."""
    points = np.array([[clean[role], kept[role]] for role in schedules])  # (schedules, 2, seeds)
    if len(schedules) < 3 or not np.isfinite(points).all():
        return np.full(len(at), np.nan)
    fits = [np.polyfit(points[:, 0, seed], points[:, 1, seed], 1) for seed in range(len(at))]
    return np.array([np.polyval(fit, value) for fit, value in zip(fits, at, strict=True)])


def gain_table(evidence: Evidence, cost: pd.DataFrame) -> pd.DataFrame:
    """What each student gains over the independent one and what its training costs.

    Columns: role, cost (of a whole run, in runs of the independent student), gain, estimate, low, high.
    The gains are differences on clean images.
    """
    seconds = (cost.epoch * cost.epochs).groupby(cost.role).mean()
    rows = []
    for role in evidence.methods:
        for measure, gain in GAINS.items():
            pair = [evidence.influence(name, measure, "clean") for name in (role, "independent")]
            difference = pair[0] - pair[1]
            row = {"role": role, "cost": seconds[role] / seconds["independent"], "gain": gain}
            row |= {"estimate": difference.mean()} | NO_INTERVAL
            if len(difference) > 1 and np.isfinite(difference).all():
                interval = interval_of(difference)
                row |= {"low": interval.low, "high": interval.high}
            rows.append(row)
    return pd.DataFrame(rows)


def slope_table(evidence: Evidence) -> pd.DataFrame:
    """Over all retentions: slope of each student's movements on the teacher's gaps, interval, and cosine.

    Columns: direction, role, slope, low, high, cosine; NaN as :func:`transfer_table`.
    """
    rows = []
    for role in evidence.methods:
        row = (
            {"direction": evidence.direction, "role": role, "slope": np.nan}
            | NO_INTERVAL
            | {"cosine": np.nan}
        )
        matrices = evidence.profiles(role, "independent", "teacher")
        try:
            slope = mean_interval(profile_slopes(*matrices))
            row |= {"slope": slope.estimate, "low": slope.low, "high": slope.high}
            row["cosine"] = profile_cosine(*matrices)
        except ValueError:  # one seed, or a run that did not learn
            pass
        rows.append(row)
    return pd.DataFrame(rows)


def consistency_table(evidence: Evidence) -> pd.DataFrame:
    """Errors like the teacher's on clean images, means over seeds, one row a role.

    Columns: role, consistency, largest (what the two accuracies allow), agreement, same_error. The first rows
    are for scale: two teachers, and two independent students, of different seeds.
    """
    rows = []
    for role in ("teacher", "independent"):
        hits = Case(evidence, role, "clean").hits
        rows.append(_consistency(f"two {role}s", hits, np.roll(hits, 1, axis=0)) if len(hits) > 1 else {})
    teacher = Case(evidence, "teacher", "clean")
    for role in ("independent", *evidence.methods):
        case = Case(evidence, role, "clean")
        row = _consistency(title_of(role), case.hits, teacher.hits)
        for measure in ("agreement", "same_error"):
            row[measure] = evidence.influence(role, measure, "clean").mean()
        rows.append(row)
    return pd.DataFrame([row for row in rows if row])


def _consistency(name: str, hits: np.ndarray, other: np.ndarray) -> dict:
    limit = m.error_consistency_limit(hits, other)
    return {"network": name, "consistency": m.error_consistency(hits, other).mean(), "largest": limit.mean()}


def severity_table(references: dict[str, Evidence]) -> pd.DataFrame:
    """The independent students' accuracy at each level of a series: series, level, network, accuracy."""
    rows = []
    for direction, evidence in references.items():
        network = "independent " + direction_title(direction).rpartition(" ")[2]
        for name, levels in evidence.series.items():
            for level, probe in enumerate(levels, start=1):
                accuracy = evidence.influence("independent", "accuracy", probe).mean()
                rows.append({"series": name, "level": level, "network": network, "accuracy": accuracy})
    return pd.DataFrame(rows, columns=["series", "level", "network", "accuracy"])
