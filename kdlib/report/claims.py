"""The original study's claims, and the verdict that this study's records give on each.

Hypotheses, comparisons and rules are data, fixed before the runs: see claims.yml. The engine here makes a
claim's comparisons from the measures and reads its rules. A claim is "not testable", with the reason, if a
precondition fails: its methods and controls are there, its probes are accepted (see
:mod:`kdlib.bias.acceptance`), every run learned, and there are two seeds or more.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from kdlib.bias.influence import INSIDE, Measures
from kdlib.bias.measures import SMALLEST_EFFECTS, learned
from kdlib.bias.statistics import Interval, holm, interval_of, with_interval
from kdlib.bias.transfer import Transfer, profile_slopes, transfer
from kdlib.probes import series
from kdlib.report.original import CORRECTED, original_table
from kdlib.study.controls import direction_title, title_of
from kdlib.study.internals import inside_table

CLAIMS = Path(__file__).with_name("claims.yml")
TEXTS = ["claim", "original", "hypothesis", "statistic", "supported", "contradicted"]
LIMITS = ["the smallest effect", "twice chance"]  # of a rule, beside numbers
LOCAL = {"attention": None, "rms": 1}  # smaller where a network is more local: measure and place, if any one


@dataclass(frozen=True)
class Records:
    """What claims are judged on, by direction."""

    evidence: dict[str, Measures]
    cost: dict[str, pd.DataFrame]  # Study.cost_table
    inside: dict[str, pd.DataFrame]  # kdlib.study.internals.inside_table
    accepted: set[str]  # probes


def records_of(study, accepted: set[str]) -> Records:
    """A study's; trains what is missing. See :class:`kdlib.study.study.Study`."""
    return Records(
        evidence={direction: study.evidence(direction) for direction in study.directions},
        cost={direction: study.cost_table(direction) for direction in study.directions},
        inside={direction: inside_table(study, direction) for direction in study.directions},
        accepted=accepted,
    )


@dataclass(frozen=True)
class Verdict:
    word: str  # supported, contradicted, inconclusive, not testable, or learns slowly
    because: str
    comparisons: pd.DataFrame | None = None


class NotTestable(Exception):
    """A precondition of a verdict fails; the text says which."""


def judge(records: Records) -> dict[str, Verdict]:
    """The verdict on every claim, by its name."""
    return {name: _judge(claim, records) for name, claim in _claims().items()}


def read_claims() -> pd.DataFrame:
    """The claims, fixed before the runs, in words: the columns TEXTS."""
    return pd.DataFrame([{"claim": name, **claim} for name, claim in _claims().items()])[TEXTS]


def claims_table(verdicts: dict[str, Verdict]) -> pd.DataFrame:
    """Each claim: the original's sentence and its own numbers beside this study's verdict and reason."""
    claims, original = read_claims(), original_table()
    return pd.DataFrame(
        {
            "claim": claims.claim,
            "the original": claims.original,
            "its own numbers": [CORRECTED[name](original) for name in claims.claim],
            "tested here": claims.hypothesis,
            "verdict": [verdicts[name].word for name in claims.claim],
            "because": [verdicts[name].because for name in claims.claim],
        }
    )


def _claims() -> dict[str, dict]:
    return yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))


def _judge(claim: dict, records: Records) -> Verdict:
    try:
        _check(claim, records)
        table = _compare(claim, records)
    except NotTestable as reason:
        return _mildest(claim, records, str(reason)) or Verdict("not testable", str(reason))
    rules = [word for word in ("supported", "contradicted", "learns slowly") if word in claim]
    word = next((word for word in rules if _holds(claim[word], table)), "inconclusive")
    return Verdict(word, _because(claim, table, word), table.drop(columns=["family", *LIMITS]))


def _mildest(claim: dict, records: Records, reason: str) -> Verdict | None:
    """Where not every level of a series can be used, a hint: what the mildest level alone would say."""
    if "mildest" not in claim:
        return None
    mildest = series()[claim["mildest"]][0]
    alone = yaml.safe_load(yaml.safe_dump(claim).replace(claim["mildest"], mildest))
    found = _judge({key: value for key, value in alone.items() if key != "mildest"}, records)
    if found.word == "not testable":
        return None
    told = f"{reason}. With {_plain(mildest)} alone it would be {found.word}: {found.because}"
    return Verdict("not testable", told, found.comparisons)


# --------------------------------------------------------------------------------------- preconditions


def _check(claim: dict, records: Records) -> None:
    """Raises NotTestable where something is absent, a probe isn't accepted, or a run did not learn."""
    families = claim["comparisons"].values()
    used = [(role, *others) for family in families for role, others in family["roles"].items()]
    roles = dict.fromkeys(["independent", "teacher", *(role for group in used for role in group)])
    probes = {probe for family in families for _, *probes in family["measures"] for probe in probes}
    for direction in claim["directions"]:
        if direction not in records.evidence:
            raise NotTestable(f"this study has no {direction_title(direction)}")
        _check_direction(records.evidence[direction], roles, probes, records.accepted, claim)
    if "teachers_within" in claim:
        accuracies = [records.evidence[name]["teacher", "accuracy", "clean"] for name in claim["directions"]]
        apart, most = interval_of(accuracies[0] - accuracies[1]), claim["teachers_within"]
        if abs(apart.estimate) > most:
            raise NotTestable(
                f"the teachers' accuracies differ by {apart}, more than {most}: a better teacher can't be "
                "told from a better network"
            )


def _check_direction(measures: Measures, roles, probes: set[str], accepted: set[str], claim: dict) -> None:
    asked = {probe for _, probe in measures.questions}
    absent = [title_of(role) for role in roles if role not in measures.roles]
    absent += [_plain(probe) for probe in sorted(probes - asked)]
    if absent:
        raise NotTestable(f"this study lacks {', '.join(absent)}")
    levels = {level for probe in probes for level in measures.series.get(probe, [probe])}
    if refused := levels - accepted - {INSIDE}:
        raise NotTestable(f"not accepted as a probe on these images: {', '.join(sorted(refused))}")
    for role in roles:
        hits = measures[role, "accuracy", "clean"]
        if len(hits) < 2:
            raise NotTestable("one seed gives no interval")
        if role not in claim.get("may_fail", ()) and not learned(hits, measures.chance).all():
            raise NotTestable(f"{title_of(role)} did not learn in every seed")


# ----------------------------------------------------------------------------------------- comparisons


@dataclass(frozen=True)
class Comparison:
    """One row: a role beside another, by one measure."""

    records: Records
    directions: list[str]  # of two, the second's difference is subtracted
    role: str
    other: str | None
    measure: str
    probe: str | None = None  # None: over all of them
    times: float = 1.0  # of the other

    @property
    def evidence(self) -> Measures:
        return self.records.evidence[self.directions[0]]

    @property
    def smallest(self) -> float:
        return SMALLEST_EFFECTS.get(self.measure, np.nan)

    def difference(self) -> Interval:
        parts = []
        for measures in (self.records.evidence[direction] for direction in self.directions):
            matrix = _matrix(measures, self.role, self.measure, self.probe)
            if self.other:
                matrix = matrix - self.times * _matrix(measures, self.other, self.measure, self.probe)
            parts.append(matrix)
        return interval_of(parts[0] - parts[1] if len(parts) > 1 else parts[0])

    def transfer(self) -> Transfer:
        roles = (self.role, "independent", "teacher")
        matrices = [_matrix(self.evidence, role, self.measure, self.probe) for role in roles]
        return transfer(*matrices, self.smallest)


def _matrix(measures: Measures, role: str, measure: str, probe: str | None) -> np.ndarray:
    """D (seeds, images), or (seeds, 1) for the slope. Raises NotTestable where a seed has no such measure."""
    if measure == "slope":
        profiles = measures.profiles(role, "independent", "teacher")
        found = profile_slopes(*profiles)[:, None] if profiles[0] else np.array([[np.nan]])
        told = f"{direction_title(measures.direction)}: the slope over retentions"
    elif probe is None:  # the mean over probes whose images are the test images one for one
        whole = measures["teacher", "accuracy", "clean"].shape
        asked = [name for name in measures.headings if measures["teacher", "accuracy", name].shape == whole]
        found = np.mean([measures[role, measure, name] for name in asked], axis=0)
        told = f"{_plain(measure)} over all probes"
    else:
        found = measures[role, measure, probe]
        told = f"{_plain(measure)} under {_plain(probe)}"
    if not np.isfinite(found).all():
        raise NotTestable(f"{told} is not defined for {title_of(role)} in every seed")
    return found


def _row(interval: Interval, **changed) -> dict:
    low, high = interval.ends(0.90)
    row = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return row | {"narrow_low": low, "narrow_high": high, "p": interval.p} | changed


def _difference(asked: Comparison) -> dict:
    return _row(asked.difference())


def _toward(asked: Comparison) -> dict:
    """Movement toward the teacher."""
    found = asked.transfer()
    return _row(found.toward, established=found.established, unestablished=not found.established)


def _share(asked: Comparison) -> dict:
    """Share of the teacher's gap, with the movement's own 90% interval for "within"."""
    found = asked.transfer()
    if not found.established:
        raise NotTestable(
            f"on {_plain(asked.measure)} the teacher is not established to differ from the baseline: "
            f"{found.gap}"
        )
    span = {"estimate": found.ratio, "low": found.ratio_low, "high": found.ratio_high, "p": np.nan}
    return _row(found.movement, local=_more_local(asked), **span)


def _more_local(asked: Comparison) -> bool:
    """Whether attention reaches less far, or the first stage sees less, than in the baseline."""
    inside = asked.records.inside[asked.directions[0]]
    for measure, place in LOCAL.items():
        part = inside[(inside.measure == measure) & ((inside.place == place) | (place is None))]
        values = part.groupby(["role", "seed", "place"])["value"].mean().groupby(["role", "seed"]).mean()
        difference = (values[asked.role] - values["independent"]).to_numpy()
        if interval_of(difference[:, None]).high < 0:
            return True
    return False


def _largest(asked: Comparison) -> dict:
    """Of the differences from the baseline under all probes, the largest."""
    ours, baseline = asked.evidence.profiles(asked.role, "independent")
    if not ours:
        raise NotTestable("no probe has a retention in every seed")
    changes = [interval_of(kept - before) for kept, before in zip(ours, baseline, strict=True)]
    return _row(max(changes, key=lambda found: abs(found.estimate)))


def _cost(asked: Comparison) -> dict:
    """Ratio of the seconds of an epoch, paired by seed; its interval is that of the logarithm."""
    cost = asked.records.cost[asked.directions[0]]
    seconds = cost.pivot(index="seed", columns="role", values="epoch")[[asked.role, asked.other]].dropna()
    row = _row(interval_of(np.log(seconds[asked.role] / seconds[asked.other]).to_numpy()[:, None]))
    return {name: value if name == "p" else np.exp(value) for name, value in row.items()}


STATISTICS = {
    "difference": _difference,
    "toward": _toward,
    "share": _share,
    "largest": _largest,
    "cost": _cost,
}


def _compare(claim: dict, records: Records) -> pd.DataFrame:
    """A row a comparison: group, comparison, estimate, low, high, narrow_low, narrow_high (90%), p, holm."""
    rows = []
    for group, family in claim["comparisons"].items():
        made = [
            Comparison(records, claim["directions"], role, other, *measured, times=family.get("times", 1.0))
            for role, others in family["roles"].items()
            for measured in family["measures"]
            for other in others or [None]
        ]
        for asked in made:
            row = {"group": group, "family": family.get("family", group), "comparison": _name(family, asked)}
            row |= dict(zip(LIMITS, (asked.smallest, 2 * asked.evidence.chance), strict=True))
            rows.append(row | STATISTICS[family.get("statistic", "difference")](asked))
    table = pd.DataFrame(rows)
    return table.assign(holm=table.groupby("family").p.transform(holm))


def _name(family: dict, asked: Comparison) -> str:
    words = {"measure": _plain(asked.measure), "probe": _plain(asked.probe or "")}
    return family["name"].format(role=title_of(asked.role), other=title_of(asked.other or "teacher"), **words)


def _plain(name: str) -> str:
    return name.replace("_", " ")


# ----------------------------------------------------------------------------------------------- rules


def _holds(rule: str, table: pd.DataFrame) -> bool:
    """Whether a rule of claims.yml is met: parts joined by "or", each of clauses joined by "and"."""
    parts = re.split(r",? or (?=every|some)", rule)
    return any(all(_met(clause, table) for clause in _clauses(part)) for part in parts)


def _clauses(part: str) -> list[str]:
    return re.split(r" and (?=every|some)", part)


def _met(clause: str, table: pd.DataFrame) -> bool:
    quantifier, group, said = re.fullmatch(r"(every|some) (\w+) is (.+)", clause).groups()
    rows = table[(table.group == group) | (group == "comparison")]
    return {"every": all, "some": any}[quantifier](_is(said, row) for _, row in rows.iterrows())


def _is(said: str, row: pd.Series) -> bool:
    """Whether one comparison is what a clause says, like "below 0.25 or within the smallest effect"."""
    for word, joined in ((" or ", any), (" and ", all)):
        if word in said:
            return joined(_is(part, row) for part in said.split(word))
    if said in row:  # established, local
        return bool(row[said])
    test, limit = re.fullmatch(r"(.*(?:above|below|within)) (.+)", said).groups()
    limit = row[limit] if limit in row else float(limit)
    return {
        "above": row.low > limit,
        "below": row.high < limit,
        "within": -limit < row.narrow_low and row.narrow_high < limit,
        "significantly above": row.estimate > limit and row.holm < 0.05,
        "significantly below": row.estimate < limit and row.holm < 0.05,
        "estimated above": row.estimate > limit,
        "estimated within": abs(row.estimate) < limit,
    }[test]


def _because(claim: dict, table: pd.DataFrame, word: str) -> str:
    """The comparisons with intervals, the least favourable first, and what is missing for "supported"."""
    rows = table[table.group.isin(claim.get("tells", table.group))]
    rows = rows.sort_values("estimate", ascending="below" not in claim["supported"])
    form = claim.get("form", "+.3f")
    told = [
        f"{row.comparison} {with_interval(row.estimate, row.low, row.high, form)}"
        for row in rows.itertuples()
    ]
    if word == "inconclusive":
        told += [f"not {clause}" for clause in _clauses(claim["supported"]) if not _holds(clause, table)]
    return "; ".join(told)
