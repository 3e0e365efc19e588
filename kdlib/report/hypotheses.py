"""Verdicts on the hypotheses about trained-in properties in hypotheses.yml, by the rules at its top."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from kdlib.bias.statistics import holm
from kdlib.bias.transfer import p_value, ratio_influence, share
from kdlib.report.claims import NotTestable, Verdict, holds_for, verdict_table
from kdlib.report.made import RULES, Change, aligned, changes, part_of, reasons, title_of_property
from kdlib.report.tables import in_order, interval
from kdlib.study.controls import direction_title, title_of
from kdlib.study.made import Made

KEYS = {"methods": title_of, "properties": title_of_property, "directions": direction_title}
CLAUSES = {"above": "significantly above", "below": "significantly below", "inside": "within"}
COLUMNS = ["comparison", "methods", "properties", "family"]
COLUMNS += ["estimate", "low", "high", "narrow_low", "narrow_high", "reason"]
Side = dict[str, list[str]]  # what a comparison's value is the mean over, by KEYS


@lru_cache(4)  # the answer's table and a notebook's
def judge(made: Made) -> dict[str, Verdict]:
    """The verdict on every hypothesis, by its name; trains what is missing."""
    return {name: _judge(hypothesis, made) for name, hypothesis in RULES["hypotheses"].items()}


def hypotheses_table(experiments: list[Made]) -> pd.DataFrame:
    """A row for each hypothesis and each experiment that can test it; if none can, what the first lacks."""
    columns = {"statement": "statement", "claim": "claim", "known": "known"}
    table = pd.concat(
        verdict_table("hypothesis", RULES["hypotheses"], columns, judge(one)).assign(experiment=_title(one))
        for one in experiments
    )
    testable = table.verdict != "not testable"
    lacking = ~table.hypothesis.isin(table.hypothesis[testable]) & ~table.hypothesis.duplicated()
    shown = in_order(table[testable | lacking], "hypothesis", list(RULES["hypotheses"]))
    return shown[["hypothesis", *columns, "experiment", "verdict", "because"]]


def comparison_table(experiments: list[Made]) -> pd.DataFrame:
    """Every comparison of every hypothesis, with its value, p at each threshold and what it says."""
    tables = [
        verdict.comparisons.assign(experiment=_title(one), hypothesis=name)
        for one in experiments
        for name, verdict in judge(one).items()
        if verdict.comparisons is not None
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def second_test(experiments: list[Made]) -> list[tuple[str, dict[str, Verdict]]]:
    """Title and verdicts of those experiments that can test a claim of the original study."""
    asked = [name for name, hypothesis in RULES["hypotheses"].items() if "claim" in hypothesis]
    return [
        (_title(one), judge(one))
        for one in experiments
        if any(judge(one)[name].word != "not testable" for name in asked)
    ]


def _title(experiment: Made) -> str:
    return experiment.study.profile["title"]


def _judge(hypothesis: dict, made: Made) -> Verdict:
    data, least = made.study.profile["data"]["name"], RULES["rules"]["seeds"]
    profile = made.study.folder.name
    if hypothesis.get("data", data) != data:
        return Verdict("not testable", f"this study's images are {data}")
    if hypothesis.get("profile", profile) != profile:
        return Verdict("not testable", f"its runs are those of the profile {hypothesis['profile']}")
    if len(made.study.seeds) < least:
        return Verdict("not testable", f"it needs {least} seeds; this study has {len(made.study.seeds)}")
    table = _compare(hypothesis, made)
    testable = table[table.reason == ""]
    if testable.empty:
        return Verdict("not testable", reasons(table), table)
    count, supports, contradicts = len(testable), testable.supports.sum(), testable.contradicts.sum()
    enough = count if hypothesis["agree"] == "all" else count // 2 + 1
    word = "inconclusive"
    if supports >= enough and not contradicts:
        word = "supported"
    elif contradicts >= enough and not supports:
        word = "contradicted"
    return Verdict(word, _told(hypothesis, table), table)


def _told(hypothesis: dict, table: pd.DataFrame) -> str:
    """How many comparisons say what, the least favourable one, and what could not be tested.

    If some methods or properties could not be tested at all, the others are named first.
    """
    testable = table[table.reason == ""]
    estimate = testable.estimate
    tested = [(testable[key].unique(), table[key].nunique()) for key in ("methods", "properties")]
    few = ", ".join(" and ".join(names) for names, asked in tested if len(names) < asked)
    favour = {"above": estimate, "below": -estimate, "inside": -estimate.abs()}
    row = testable.loc[favour[next(iter(hypothesis["supports"]))].idxmin()]
    told = f"for {few} alone: " if few else ""
    told += f"{testable.supports.sum()} of {len(testable)} comparisons support it and "
    told += f"{testable.contradicts.sum()} contradict it; least favourable: {row.comparison} "
    told += interval(row)
    left = len(table) - len(testable)
    return told + (f"; {left} not testable: {reasons(table)}" if left else "")


def _compare(hypothesis: dict, made: Made) -> pd.DataFrame:
    """A row a comparison: family, comparison, estimate, low, high, p at each threshold, what it says."""
    rules = [*hypothesis["supports"].items(), *hypothesis["contradicts"].items()]
    limits = dict.fromkeys(limit for word, limit in rules if word != "inside")
    rows = []
    for of, minus, place in _comparisons(hypothesis):
        row = {"comparison": _name(of, minus, place)}
        row |= {key: " and ".join(map(KEYS[key], of[key])) for key in ("methods", "properties")}
        row["family"] = str((of["directions"], of["properties"]))
        try:
            sides, apart = _taus(hypothesis, made, of, minus, place)
        except NotTestable as reason:
            rows.append(row | {"reason": str(reason)})
            continue
        moved = np.subtract(*sides) if minus else sides[0]
        wide, narrow = share(moved, apart), share(moved, apart, level=0.90)
        if minus and all(tau.low <= 0 <= tau.high for tau in (share(side, apart) for side in sides)):
            narrow = replace(narrow, low=np.nan, high=np.nan)  # two taus of 0 are trivially alike
        row |= {"estimate": wide.ratio, "low": wide.low, "high": wide.high, "reason": ""}
        row |= {"narrow_low": narrow.low, "narrow_high": narrow.high}
        rows.append(row | {f"p at {limit}": p_value(moved, apart, limit) for limit in limits})
    table = pd.DataFrame(rows, columns=[*COLUMNS, *(f"p at {limit}" for limit in limits)])
    for limit in limits:
        table[f"holm at {limit}"] = table.groupby("family", sort=False)[f"p at {limit}"].transform(holm)
    for said in ("supports", "contradicts"):
        rule = " or ".join(f"{CLAUSES[word]} {limit}" for word, limit in hypothesis[said].items())
        table[said] = [holds_for(rule, row) for _, row in table.iterrows()]
    return table.drop(columns="family")


def _comparisons(hypothesis: dict) -> Iterator[tuple[Side, Side | None, int]]:
    """What is compared with what (None: with nothing), by which of the property's measures."""
    of, minus = hypothesis["of"], hypothesis.get("minus")
    pairs = [zip(of[key], (minus or {}).get(key, of[key]), strict=True) for key in KEYS]
    for chosen in product(*pairs):
        ours, other = (
            {key: np.atleast_1d(name).tolist() for key, name in zip(KEYS, side, strict=True)}
            for side in zip(*chosen, strict=True)
        )
        first, *more = ours["properties"]
        measures = RULES["properties"].get(first, [""])
        for place in range(1 if more else len(measures)):
            yield ours, other if minus else None, place


def _taus(
    hypothesis: dict, made: Made, of: Side, minus: Side | None, place: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The tau of each side as a ratio of matrices (seeds, images), which `share` gives its interval.

    Students of the same teachers have one denominator. A tau that is a mean, or is compared with one from
    other teachers, is its influence, over 1.
    """
    taus = [_changed(hypothesis, made, side, place) for side in (of, minus) if side]
    denominators = [apart for side in taus for _, apart in side]
    shared = all(np.array_equal(apart, denominators[0]) for apart in denominators)
    parts = [[moved if shared else ratio_influence(moved, apart) for moved, apart in side] for side in taus]
    means = aligned([np.mean(aligned(side), axis=0) for side in parts])
    return means, denominators[0] if shared else np.ones_like(means[0])


def _changed(hypothesis: dict, made: Made, side: Side, place: int) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for role, name, direction in product(*(side[key] for key in KEYS)):
        if name not in made.properties:
            raise NotTestable(f"this study has no teachers with {title_of_property(name)}")
        if direction not in made.directions:
            raise NotTestable(f"this study has no {direction_title(direction)}")
        measure = RULES["properties"][name][place]
        change = other = _found(made, direction, name, role, measure)
        if hypothesis.get("quantity") == "class_part":
            other = _found(made, direction, name, "lm", measure)
            if not (part := part_of(change, other)).established:
                raise NotTestable(part.reason)
        pairs.append((change.moved, change.apart if other is change else other.moved))
    return pairs


def _found(made: Made, direction: str, name: str, role: str, measure: str) -> Change:
    found = changes(made)
    change = found.get((direction, name, role, measure))
    if change is None:
        asked = any(key[0] == direction and key[2] == role for key in found)
        raise NotTestable(f"this study does not have {measure if asked else title_of(role)}")
    if not change.found.established:
        raise NotTestable(change.found.reason)
    return change


def _name(of: Side, minus: Side | None, place: int) -> str:
    """Like "LM, shape bias (shape rate), CNN → ViT minus CNN → CNN"."""
    parts = []
    for key, title in KEYS.items():
        names = " and ".join(map(title, of[key]))
        if key == "properties" and len(of[key]) == 1 and of[key][0] in RULES["properties"]:
            names += f" ({RULES['properties'][of[key][0]][place]})"
        if minus and minus[key] != of[key]:
            names += " minus " + " and ".join(map(title, minus[key]))
        parts.append(names)
    return ", ".join(parts)
