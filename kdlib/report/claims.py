"""The original study's claims, and the verdict that this study's records give on each.

Hypotheses, comparisons and rules are data, fixed before the runs: see claims.yml. The engine here makes a
claim's comparisons from the measures and reads its rules. A claim is "not testable", with the reason, where
something is absent, a probe isn't accepted (see :mod:`kdlib.bias.acceptance`), one seed gives no interval,
the teacher isn't established to differ, or the rules rest on a network that has not learned.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from kdlib.bias.influence import INSIDE, Measures
from kdlib.bias.measures import SMALLEST_EFFECTS, learned
from kdlib.bias.statistics import crossed_interval, holm
from kdlib.bias.transfer import Transfer, transfer
from kdlib.report.tables import interval, slopes
from kdlib.study.controls import direction_title, title_of
from kdlib.study.internals import inside_table
from kdlib.study.tables import cost_table

CLAIMS: dict[str, dict] = yaml.safe_load(Path(__file__).with_name("claims.yml").read_text(encoding="utf-8"))
WORDS = ["supported", "contradicted", "learns slowly"]  # that a claim may have a rule for, in this order
LEARNED = 0.9  # of the baseline's accuracy on clean images; no verdict rests on a student with less
LOCAL = ("measure == 'attention'", "measure == 'rms' and place == 1")  # smaller where a network is more local
OR, AND = r",? or (?=every|some)", r" and (?=every|some)"  # between the clauses of a rule
LIMITS = {"the smallest effect": "smallest", "twice chance": "twice_chance"}  # that a rule names: a column
UNTOLD = ["family", "gap", "failed", *LIMITS.values(), "df", "error"]  # columns of comparisons


@dataclass(frozen=True)
class Records:
    """What claims are judged on, by direction."""

    evidence: dict[str, Measures]
    cost: dict[str, pd.DataFrame]  # kdlib.study.tables.cost_table
    inside: dict[str, pd.DataFrame]  # kdlib.study.internals.inside_table
    accepted: set[str]  # probes


def records_of(study, accepted: set[str]) -> Records:
    """A study's; trains what is missing. See :class:`kdlib.study.study.Study`."""
    return Records(
        {name: study.evidence(name) for name in study.directions},
        {name: cost_table(study, name) for name in study.directions},
        {name: inside_table(study, name) for name in study.directions},
        accepted,
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
    return {name: _judge(claim, records) for name, claim in CLAIMS.items()}


def claims_table(verdicts: dict[str, Verdict]) -> pd.DataFrame:
    """Each claim: the original's sentence and its own numbers beside this study's verdict and reason."""
    columns = {"the original": "original", "its own numbers": "numbers", "tested here": "hypothesis"}
    return verdict_table("claim", CLAIMS, columns, verdicts)


def verdict_table(
    kind: str, known: dict[str, dict], columns: dict[str, str], verdicts: dict[str, Verdict]
) -> pd.DataFrame:
    """A row for each claim or hypothesis: what is known of it in the columns, its verdict, and why."""
    return pd.DataFrame(
        {kind: name}
        | {column: known[name].get(key, "") for column, key in columns.items()}
        | {"verdict": verdict.word, "because": verdict.because}
        for name, verdict in verdicts.items()
    )


def _judge(claim: dict, records: Records) -> Verdict:
    try:
        table = _compare(claim, records)
    except NotTestable as reason:
        return Verdict("not testable", str(reason))
    shown, told = table.drop(columns=UNTOLD), _tell(claim, table)
    word = next((word for word in WORDS if word in claim and _holds(claim[word], table)), "inconclusive")
    if gaps := " and ".join(table.gap[table.gap != ""].unique()):
        return Verdict("not testable", f"the teacher's difference is not established ({gaps}); {told}", shown)
    if word == "inconclusive" and not table.learned.all():
        failed = ", ".join(table.failed[~table.learned].unique())
        told = f"did not learn (below {LEARNED} of the baseline's accuracy): {failed}; {told}"
        return Verdict("not testable", told, shown)
    if word == "inconclusive":
        lacking = [clause for clause in re.split(AND, claim["supported"]) if not _holds(clause, table)]
        for clause in lacking:
            first, *more = re.split(OR, clause)
            told += f"; neither {' nor '.join((first, *more))}" if more else f"; not {first}"
    return Verdict(word, told, shown)


def _tell(claim: dict, table: pd.DataFrame) -> str:
    """The comparisons with their intervals, first the one that reaches farthest against the claim."""
    rows = table[table.group.isin(claim.get("tells", table.group))]
    below = "below" in claim["supported"]
    rows = rows.sort_values("high" if below else "low", ascending=not below).itertuples()
    form = claim.get("form", "+.3f")
    return "; ".join(f"{row.comparison} {interval(row, form)}" for row in rows)


def _check(asked: "list[Comparison]", directions: list[str], records: Records) -> None:
    """Raises NotTestable where something is absent, a probe isn't accepted, or there is one seed."""
    used = dict.fromkeys(role for one in asked for role in (one.role, one.other) if role)
    probes = {one.probe for one in asked if one.probe}
    for direction in directions:
        if direction not in records.evidence:
            raise NotTestable(f"this study has no {direction_title(direction)}")
        measures = records.evidence[direction]
        absent = [title_of(role) for role in used if role not in measures.roles]
        absent += [_plain(probe) for probe in sorted(probes - {probe for _, probe in measures.questions})]
        if absent:
            raise NotTestable(f"this study lacks {' and '.join(absent)}")  # titles have commas
        levels = {level for probe in probes for level in measures.series.get(probe, [probe])}
        if refused := levels - records.accepted - {INSIDE}:
            raise NotTestable(f"probe not accepted on these images: {', '.join(sorted(refused))}")
        for role in ("teacher", "baseline"):
            hits = measures[role, "accuracy", "clean"]
            if len(hits) < 2:
                raise NotTestable("one seed gives no interval")
            if not learned(hits, measures.chance).all():
                raise NotTestable(f"{title_of(role)} did not learn in every seed")


def _check_teachers(parts: list[Measures], most: float) -> None:
    """Raises NotTestable if the accuracies of two directions' teachers differ by more."""
    first, second = (measures["teacher", "accuracy", "clean"] for measures in parts)
    apart = crossed_interval(first - second)
    if abs(apart.estimate) > most:
        raise NotTestable(
            f"the teachers' accuracies differ by {apart}, more than {most}: a better teacher cannot be "
            "distinguished from a more accurate network"
        )


@dataclass(frozen=True)
class Comparison:
    """A role beside another, by one measure; its methods are the statistics of claims.yml."""

    records: Records
    directions: list[str]  # of two, the second's difference is subtracted
    role: str
    other: str | None
    measure: str
    probe: str | None = None  # None: over all of them
    times: float = 1.0  # of the other

    @property
    def parts(self) -> list[Measures]:
        return [self.records.evidence[direction] for direction in self.directions]

    def failed(self) -> str:
        """Students that have not learned, with their accuracy as a share of the baseline's."""
        found = []
        for measures in self.parts:
            baseline = measures["baseline", "accuracy", "clean"].mean()
            for role in filter(None, (self.role, self.other)):
                share = measures[role, "accuracy", "clean"].mean() / baseline
                told = "diverged" if np.isnan(share) else f"{share:.2f}"
                found += [] if share >= LEARNED else [f"{title_of(role)} {told}"]
        return ", ".join(found)

    def difference(self) -> dict:
        found = []
        for measures in self.parts:
            other = self.times * self._matrix(measures, self.other) if self.other else 0
            found.append(self._matrix(measures, self.role) - other)
        return vars(crossed_interval(found[0] - found[1] if len(found) > 1 else found[0]))

    def _transfer(self) -> tuple[Transfer, dict]:
        """And where the teacher isn't established to differ, its "gap" in words."""
        matrices = [self._matrix(self.parts[0], role) for role in (self.role, "baseline", "teacher")]
        found = transfer(*matrices, SMALLEST_EFFECTS[self.measure])
        told = f"{_plain(self.measure)} under {_plain(self.probe)}: {found.gap}"
        return found, {"gap": "" if found.established else told}

    def toward(self) -> dict:
        """Movement toward the teacher."""
        found, gap = self._transfer()
        return vars(found.toward) | gap

    def share(self) -> dict:
        """Share of the teacher's gap; "within" reads the movement's own 90% interval."""
        found, gap = self._transfer()
        ratio = {"estimate": found.ratio, "low": found.low, "high": found.high, "p": np.nan}
        return vars(found.movement) | ratio | gap | {"local": self._more_local()}

    def _more_local(self) -> bool:
        """Whether attention reaches less far, or the first stage sees less, than in the baseline."""
        inside = self.records.inside[self.directions[0]]
        for sign in LOCAL:
            each = inside.query(sign).groupby(["role", "seed", "place"])["value"].mean()
            values = each.groupby(["role", "seed"]).mean()
            difference = (values.get(self.role) - values.get("baseline")).to_numpy()
            if crossed_interval(difference[:, None]).high < 0:
                return True
        return False

    def largest(self) -> dict:
        """Of the changes from the baseline under all probes, the one whose 90% interval reaches farthest."""
        ours, baseline = self.parts[0].profiles(self.role, "baseline")
        if not ours:
            raise NotTestable("no probe has a retention in every seed")
        changes = [crossed_interval(kept - before) for kept, before in zip(ours, baseline, strict=True)]
        return vars(max(changes, key=lambda change: max(-change.narrow_low, change.narrow_high)))

    def cost(self) -> dict:
        """Ratio of the seconds of an epoch, paired by seed; its interval is that of the logarithm."""
        cost = self.records.cost[self.directions[0]]
        seconds = cost.pivot(index="seed", columns="role", values="epoch")[[self.role, self.other]].dropna()
        row = vars(crossed_interval(np.log(seconds[self.role] / seconds[self.other]).to_numpy()[:, None]))
        return row | {name: np.exp(row[name]) for name in row if name not in ("p", "df", "error")}

    def _matrix(self, measures: Measures, role: str) -> np.ndarray:
        """D (seeds, images), (seeds, 1) for the slope; NotTestable where a seed has no such measure."""
        if self.measure == "slope":
            found = slopes(measures, role)
        elif self.probe is None:  # the mean over probes whose images are the test images one for one
            whole = measures["teacher", "accuracy", "clean"].shape
            names = [
                name for name in measures.headings if measures["teacher", "accuracy", name].shape == whole
            ]
            found = np.mean([measures[role, self.measure, name] for name in names], axis=0)
        else:
            found = measures[role, self.measure, self.probe]
        if not np.isfinite(found).all():
            told = f"{_plain(self.measure)} under {_plain(self.probe or 'all probes')}"
            raise NotTestable(f"{told} is not defined for {title_of(role)} in every seed")
        return found


def _asked(claim: dict, records: Records) -> Iterator[tuple[str, dict, Comparison]]:
    """Every comparison of a claim, with its group and what claims.yml says of that."""
    for group, family in claim["comparisons"].items():
        for role, others in family["roles"].items():
            for measured in family["measures"]:
                for other in others or [None]:
                    asked = (records, claim["directions"], role, other, *measured)
                    yield group, family, Comparison(*asked, times=family.get("times", 1.0))


def _compare(claim: dict, records: Records) -> pd.DataFrame:
    """A row a comparison: group, comparison, learned, estimate, low, high, narrow_low, ..., p, holm."""
    comparisons, rows = list(_asked(claim, records)), []
    _check([one for *_, one in comparisons], claim["directions"], records)
    if "teachers_within" in claim:
        _check_teachers(comparisons[0][2].parts, claim["teachers_within"])
    for group, family, asked in comparisons:
        names = {"role": title_of(asked.role), "other": title_of(asked.other or "teacher")}
        names |= {"measure": _plain(asked.measure), "probe": _plain(asked.probe or "")}
        failed = "" if asked.role in claim.get("may_fail", ()) else asked.failed()
        row = {"group": group, "comparison": family["name"].format(**names)}
        row |= {"family": family.get("family", group), "failed": failed, "learned": not failed, "gap": ""}
        row |= {"smallest": SMALLEST_EFFECTS.get(asked.measure), "twice_chance": 2 * asked.parts[0].chance}
        rows.append(row | getattr(asked, family.get("statistic", "difference"))())
    table = pd.DataFrame(rows)
    return table.assign(holm=table.groupby("family").p.transform(holm))


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _holds(rule: str, table: pd.DataFrame) -> bool:
    """Whether a rule of claims.yml is met: parts joined by "or", each of clauses joined by "and"."""
    parts = (re.split(AND, part) for part in re.split(OR, rule))
    return any(all(_met(clause, table) for clause in clauses) for clauses in parts)


def _met(clause: str, table: pd.DataFrame) -> bool:
    quantifier, group, said = re.fullmatch(r"(every|some) (\w+) is (.+)", clause).groups()
    rows = table[(table.group == group) | (group == "comparison")]
    return {"every": all, "some": any}[quantifier](
        row.learned and holds_for(said, row) for _, row in rows.iterrows()
    )


def holds_for(said: str, row: pd.Series) -> bool:
    """Whether one comparison is what a clause says, like "below 0.25 or within the smallest effect".

    A row has estimate, low and high, narrow_low and narrow_high (the 90% interval), and p after Holm's
    correction: for the limit in "significantly above 0.25" as "holm at 0.25", otherwise as "holm".
    """
    for word, joined in ((" or ", any), (" and ", all)):
        if word in said:
            return joined(holds_for(part, row) for part in said.split(word))
    if said == "local":
        return bool(row.local)
    test, named = re.fullmatch(r"(.*(?:above|below|within)) (.+)", said).groups()
    limit = row[LIMITS[named]] if named in LIMITS else float(named)
    significant = row.get(f"holm at {named}", row.get("holm", np.nan)) < 0.05
    return {
        "above": row.low > limit,
        "below": row.high < limit,
        "within": -limit < row.narrow_low and row.narrow_high < limit,
        "significantly above": row.estimate > limit and significant,
        "significantly below": row.estimate < limit and significant,
    }[test]
