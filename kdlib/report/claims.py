"""The original study's claims, and the verdict that this study's records give on each.

A verdict is a function of the records; hypotheses, statistics and rules stand in claims.yml, fixed before the
runs. It is "not evaluable", with the reason, if a precondition fails: the methods and controls are there, the
probes are accepted (see :mod:`kdlib.bias.acceptance`), every run learned, two seeds or more.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from kdlib.bias.evidence import INSIDE, Evidence
from kdlib.bias.measures import LARGE, SMALLEST_EFFECTS, learned
from kdlib.bias.statistics import holm, interval_of, with_interval
from kdlib.bias.transfer import profile_slopes, transfer
from kdlib.probes import series
from kdlib.report.original import CORRECTED, TO_CNN, TO_VIT, original_table
from kdlib.study.controls import direction_title, title_of
from kdlib.study.internals import inside_table

CLAIMS = Path(__file__).with_name("claims.yml")
CNN_METHODS = ("cskd", "lm", "crd", "vlfkd")  # the original's, CNN -> ViT
FAR = LARGE * SMALLEST_EFFECTS["retention"]  # what differs by less is not "far above"
MILD = 0.25  # share of the teacher's distance, below which a bias counts as not inherited
TEXTURE, NOISE, LAYOUT = "cue_conflict", "gaussian_noise", "scramble_gutter"


@dataclass(frozen=True)
class Records:
    """What claims are judged on: answers, costs and looks inside, by direction."""

    evidence: dict[str, Evidence]
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
    word: str  # supported, contradicted, inconclusive, not evaluable, or learns slowly
    because: str
    comparisons: pd.DataFrame | None = None


class NotEvaluable(Exception):
    """A precondition of a verdict fails; the text says which."""


def compare(differences: dict[str, np.ndarray]) -> pd.DataFrame:
    """One family: a row for each difference D (seeds, images) or (seeds, 1), with Holm's p.

    Columns: comparison, estimate, low, high, narrow_low, narrow_high (90%), p, holm.
    """
    rows = []
    for name, influence in differences.items():
        wide, narrow = interval_of(influence), interval_of(influence, level=0.90)
        rows.append(
            {
                "comparison": name,
                **{"estimate": wide.estimate, "low": wide.low, "high": wide.high},
                **{"narrow_low": narrow.low, "narrow_high": narrow.high, "p": wide.p},
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(holm=holm(table.p))


def _need(records: Records, direction: str, roles: Iterable[str], probes: Iterable[str] = ()) -> Evidence:
    """The direction's evidence.

    Raises:
        NotEvaluable: a direction, role or probe is not in the study, a probe isn't accepted, a run did not
            learn, or there is one seed only.
    """
    if direction not in records.evidence:
        raise NotEvaluable(f"this study has no {direction_title(direction)}")
    evidence = records.evidence[direction]
    absent = [title_of(role) for role in roles if role not in evidence.answers]
    known = (*evidence.headings, *evidence.stimuli, INSIDE)
    absent += [probe.replace("_", " ") for probe in probes if probe not in known]
    if INSIDE in probes and not evidence.inside:
        absent.append("looks inside the networks")
    if absent:
        raise NotEvaluable(f"this study lacks {', '.join(absent)}")
    for probe in probes:
        refused = [name for name in evidence.series.get(probe, [probe]) if name not in records.accepted]
        if probe != INSIDE and refused:
            raise NotEvaluable(f"not accepted as a probe on these images: {', '.join(refused)}")
    for role in (*roles, "independent"):
        runs = evidence.influence(role, "accuracy", "clean")
        if len(runs) < 2:
            raise NotEvaluable("one seed gives no interval")
        if not learned(runs, evidence.chance).all():
            raise NotEvaluable(f"{title_of(role)} did not learn in every seed")
    return evidence


def _influence(evidence: Evidence, role: str, measure: str, probe: str) -> np.ndarray:
    """Raises NotEvaluable where a seed has no such measure."""
    influence = evidence.influence(role, measure, probe)
    if not np.isfinite(influence).all():
        told = f"{measure.replace('_', ' ')} under {probe.replace('_', ' ')}"
        raise NotEvaluable(f"{told} is not defined for {title_of(role)} in every seed")
    return influence


def _difference(evidence: Evidence, role: str, other: str, measure: str, probe: str) -> np.ndarray:
    return _influence(evidence, role, measure, probe) - _influence(evidence, other, measure, probe)


def _movement(evidence: Evidence, role: str, measure: str, probe: str):
    roles = (role, "independent", "teacher")
    matrices = [_influence(evidence, name, measure, probe) for name in roles]
    return transfer(*matrices, SMALLEST_EFFECTS[measure])


def _tell(table: pd.DataFrame, form: str = "+.3f", lowest_first: bool = True) -> str:
    """Every comparison with its interval, the least favourable first."""
    rows = table.sort_values("estimate", ascending=lowest_first).itertuples()
    return "; ".join(
        f"{row.comparison} {with_interval(row.estimate, row.low, row.high, form)}" for row in rows
    )


def _sure(table: pd.DataFrame) -> pd.Series:
    return table.holm < 0.05


def _by_signs(table: pd.DataFrame) -> str:
    """Supported if every difference is surely positive, contradicted if one is surely negative."""
    if ((table.estimate > 0) & _sure(table)).all():
        return "supported"
    return "contradicted" if ((table.estimate < 0) & _sure(table)).any() else "inconclusive"


# ------------------------------------------------------------------------------------------------ C1


def cheapest(records: Records) -> Verdict:
    """C1a, on the logarithm of the ratio of costs: a ratio of paired times, seed by seed."""
    _need(records, TO_VIT, CNN_METHODS)
    cost = records.cost[TO_VIT]  # a teacher's seed is another
    cost = cost[cost.role.isin(CNN_METHODS)].pivot(index="seed", columns="role", values="epoch")
    ratios = {f"CSKD / {title_of(other)}": cost["cskd"] / cost[other] for other in CNN_METHODS[1:]}
    table = compare({name: np.log(ratio.to_numpy())[:, None] for name, ratio in ratios.items()})
    span = ["estimate", "low", "high", "narrow_low", "narrow_high"]
    ratio = table.assign(**np.exp(table[span]))
    told = _tell(ratio, ".2f", lowest_first=False)
    if (table.high < 0).all():
        return Verdict("supported", told, ratio)
    return Verdict("contradicted" if (table.low > 0).any() else "inconclusive", told, ratio)


def most_effective(records: Records) -> Verdict:
    """C1b: a family of 8."""
    evidence = _need(records, TO_VIT, CNN_METHODS, (TEXTURE, NOISE))
    others = (*CNN_METHODS[1:], "independent")
    table = compare(
        {
            f"{probe.replace('_', ' ')}: CSKD - {title_of(other)}": _difference(
                evidence, "cskd", other, "retention", probe
            )
            for probe in (TEXTURE, NOISE)
            for other in others
        }
    )
    alone = table[table.comparison.str.endswith(title_of("independent"))]
    smallest = SMALLEST_EFFECTS["retention"]
    same = ((alone.narrow_low > -smallest) & (alone.narrow_high < smallest)).all()
    word = _by_signs(table)
    return Verdict("contradicted" if same and word == "inconclusive" else word, _tell(table), table)


def by_transfer(records: Records) -> Verdict:
    """C1c: a family of 2."""
    evidence = _need(records, TO_VIT, ("cskd", "teacher"), (TEXTURE, NOISE))
    moves = {probe: _movement(evidence, "cskd", "retention", probe) for probe in (TEXTURE, NOISE)}
    table = _toward({f"toward the teacher, {probe.replace('_', ' ')}": move for probe, move in moves.items()})
    if not all(move.established for move in moves.values()):
        flat = [probe.replace("_", " ") for probe, move in moves.items() if not move.established]
        because = f"no transfer to speak of: the teacher is not established to differ on {', '.join(flat)}"
        return Verdict("contradicted", f"{because}; {_tell(table)}", table)
    return Verdict(_by_signs(table), _tell(table), table)


def _toward(moves: dict) -> pd.DataFrame:
    rows = [
        {
            "comparison": name,
            "estimate": move.toward.estimate,
            "low": move.toward.low,
            "high": move.toward.high,
        }
        | {"p": move.toward.p}
        for name, move in moves.items()
    ]
    table = pd.DataFrame(rows)
    return table.assign(holm=holm(table.p))


# ------------------------------------------------------------------------------------------------ C2


def locality(records: Records) -> Verdict:
    """C2, on the interaction range: far/near is the primary statistic."""
    evidence = _need(records, TO_VIT, (*CNN_METHODS, "teacher"), (INSIDE,))
    moves = {role: _movement(evidence, role, "far_near", INSIDE) for role in CNN_METHODS}
    gap = moves["cskd"].gap
    shown = f"the teacher's distance is {gap}"
    if not moves["cskd"].established:
        raise NotEvaluable(f"on far/near the teacher is not established to differ: {shown}")
    narrow = {
        role: interval_of(_difference(evidence, role, "independent", "far_near", INSIDE), level=0.90)
        for role in CNN_METHODS
    }
    smallest = SMALLEST_EFFECTS["far_near"]
    rows = [
        {"comparison": f"{title_of(role)}, share of the distance", "estimate": move.ratio}
        | {"low": move.ratio_low, "high": move.ratio_high}
        for role, move in moves.items()
    ]
    table = pd.DataFrame(rows)
    none = {
        role: move.ratio_high < MILD or (narrow[role].low > -smallest and narrow[role].high < smallest)
        for role, move in moves.items()
    }
    gains = []
    for role in CNN_METHODS:
        ours, alone = evidence.profiles(role, "independent")
        gains += [kept - before for kept, before in zip(ours, alone, strict=True)]
    if not gains:
        raise NotEvaluable("no probe has a retention in every seed")
    largest = max((interval_of(gain) for gain in gains), key=lambda found: abs(found.estimate))
    told = f"{shown}; {_tell(table)}; the largest change of any retention is {largest.estimate:+.3f}"
    if all(none.values()) and abs(largest.estimate) < FAR:
        return Verdict("supported", told, table)
    inherited = [role for role, move in moves.items() if move.ratio_low > MILD]
    nearer = [role for role in inherited if _more_local(records.inside[TO_VIT], role)]
    return Verdict("contradicted" if nearer else "inconclusive", told, table)


def _more_local(inside: pd.DataFrame, role: str) -> bool:
    """Whether attention reaches less far, or the first stage sees less, than the independent student's."""
    mean = inside.groupby(["role", "seed", "measure", "place"])["value"].mean()
    for measure, place in (("attention", None), ("rms", 1)):
        values = mean.unstack("measure")[measure].dropna()
        values = values.xs(place, level="place") if place else values.groupby(["role", "seed"]).mean()
        difference = (values[role] - values["independent"]).to_numpy()
        if interval_of(difference[:, None]).high < 0:
            return True
    return False


# ------------------------------------------------------------------------------------------------ C3


def instils(records: Records, measures: dict[str, str], rising: str | None = None) -> Verdict:
    """C3: CRD and SSKD against the independent CNN, toward the teacher, and beyond their controls.

    Args:
        measures: measure -> probe; all of them together are the family.
        rising: a measure that must not fall.
    """
    controls = {"crd": "crd_same_family", "sskd": "rotations"}
    roles = (*controls, *controls.values(), "label_smoothing", "teacher")
    evidence = _need(records, TO_CNN, roles, measures.values())
    differences, beyond, moves = {}, {}, []
    for role, control in controls.items():
        for measure, probe in measures.items():
            name = f"{title_of(role)}, {measure.replace('_', ' ')}"
            differences[name] = _difference(evidence, role, "independent", measure, probe)
            moves.append(_movement(evidence, role, measure, probe))
            for other in (control, "label_smoothing"):
                beyond[f"{name}, beyond {title_of(other)}"] = _difference(
                    evidence, role, other, measure, probe
                )
    table, above = compare(differences), compare(beyond)
    told = _tell(table) + _bought(evidence, controls)
    shown = pd.concat([table, above], ignore_index=True)
    up = ((table.estimate > 0) & _sure(table)).all()
    toward = all(move.established and move.toward.low > 0 for move in moves)
    if rising:
        up &= all(_difference(evidence, role, "independent", rising, TEXTURE).mean() > 0 for role in controls)
    if up and toward and (above.low > 0).all():
        size = "far above it" if (table.low > FAR).all() else "not shown to be far above it"
        return Verdict("supported", f"{told}; {size}", shown)
    smallest = np.array([SMALLEST_EFFECTS[measure] for _ in controls for measure in measures])
    no_more = (table.high < smallest).all() or ((table.estimate < 0) & _sure(table)).any()
    if no_more:
        return Verdict("contradicted", told, shown)
    why = [] if up else ["not every difference is sure"]
    why += [] if toward else ["not every movement is toward a teacher that differs"]
    why += [] if (above.low > 0).all() else ["a control may do as much"]
    return Verdict("inconclusive", f"{told}; {', '.join(why)}", shown)


def arrangement(records: Records) -> Verdict:
    """C3b; where the hardest level's intact images can't be read, what the mildest level alone would say."""
    try:
        return instils(records, {"retention": LAYOUT, "embedding_invariance": LAYOUT})
    except NotEvaluable as reason:
        try:
            mildest = series()[LAYOUT][0]
            alone = instils(records, {"retention": mildest, "embedding_invariance": mildest})
        except NotEvaluable:
            raise reason from None
        hint = f"{reason}, and {mildest.replace('_', ' ')} alone would say {alone.word}: {alone.because}"
        return Verdict("not evaluable", hint, alone.comparisons)


def _bought(evidence: Evidence, roles: Iterable[str]) -> str:
    """Which students lost more than a tenth of the independent one's clean accuracy."""
    clean = {role: evidence.influence(role, "accuracy", "clean").mean() for role in (*roles, "independent")}
    paid = [title_of(role) for role in roles if clean[role] < 0.9 * clean["independent"]]
    return f"; bought with accuracy: {', '.join(paid)}" if paid else ""


# ------------------------------------------------------------------------------------------- C4, C5


def convergence(records: Records) -> Verdict:
    """C4: clean accuracy of CAPD beside the independent student's."""
    if TO_CNN not in records.evidence or "capd" not in records.evidence[TO_CNN].answers:
        raise NotEvaluable("this study has no CAPD")
    evidence = records.evidence[TO_CNN]
    capd, alone = (evidence.influence(role, "accuracy", "clean") for role in ("capd", "independent"))
    if len(capd) < 2:
        raise NotEvaluable("one seed gives no interval")
    table = compare(
        {"CAPD": capd, "CAPD - Independent": capd - alone, "CAPD - Independent / 2": capd - alone / 2}
    )
    level, difference, half = (row for _, row in table.iterrows())
    told = f"{_tell(table[:2])} (accuracy on clean images; our implementation)"
    if level.high < 2 * evidence.chance or half.high < 0:
        return Verdict("supported", told, table)
    return Verdict("contradicted" if difference.low > -0.05 else "learns slowly", told, table)


def better_teachers(records: Records) -> Verdict:
    """C5: what LM and CRD carry over beyond their same-family control, ViT teachers minus CNN teachers."""
    roles = ("teacher", "lm", "crd", "lm_same_family", "crd_same_family")
    both = {direction: _need(records, direction, roles) for direction in (TO_CNN, TO_VIT)}
    clean = [both[direction].influence("teacher", "accuracy", "clean") for direction in both]
    apart = interval_of(clean[0] - clean[1])
    if abs(apart.estimate) > 0.02:
        raise NotEvaluable(
            f"the teachers' accuracies differ by {apart}, more than 2 points: a better teacher can't be told "
            "from a better network"
        )
    differences = {}
    for method in ("lm", "crd"):
        for name, statistic in (("slope", _slope), ("error consistency", _likeness)):
            ours = [
                statistic(part, method) - statistic(part, f"{method}_same_family") for part in both.values()
            ]
            differences[f"{title_of(method)}, {name}"] = ours[0] - ours[1]
    table = compare(differences)
    sizes = {name: _distance(part) for name, part in both.items()}
    told = _tell(table)
    if max(sizes.values()) > 2 * min(sizes.values()):
        apart = ", ".join(f"{direction_title(name)} {size:.2f}" for name, size in sizes.items())
        told += f"; the teachers' distances differ in size, and so does what there is to carry over ({apart})"
    return Verdict(_by_signs(table), told, table)


def _distance(evidence: Evidence) -> float:
    """Of the teacher from the independent student: root mean square over all retentions."""
    pairs = zip(*evidence.profiles("teacher", "independent"), strict=True)
    return float(np.sqrt(np.mean([(theirs - alone).mean() ** 2 for theirs, alone in pairs])))


def _paired_headings(evidence: Evidence) -> list[str]:
    """Headings whose images are the test images one for one."""
    whole = len(evidence.stimuli["clean"].labels)
    return [
        name
        for name in evidence.headings
        if evidence.influence("teacher", "accuracy", name).shape[1] == whole
    ]


def _likeness(evidence: Evidence, role: str) -> np.ndarray:
    """Error consistency with the teacher, mean over probes: D (seeds, images)."""
    found = [evidence.influence(role, "error_consistency", name) for name in _paired_headings(evidence)]
    return np.mean(found, axis=0)


def _slope(evidence: Evidence, role: str) -> np.ndarray:
    """Share of the teacher's distance over all retentions, with each seed's influence: (seeds, 1).

    Raises:
        NotEvaluable: the teacher's distances are no larger than their noise.
    """
    try:
        slopes = profile_slopes(*evidence.profiles(role, "independent", "teacher"))
    except ValueError as reason:
        raise NotEvaluable(str(reason)) from reason
    if not np.isfinite(slopes).all():
        raise NotEvaluable(f"{direction_title(evidence.direction)}: the teacher is nowhere surely different")
    return slopes[:, None]


# ------------------------------------------------------------------------------------------ the table


JUDGES: dict[str, Callable[[Records], Verdict]] = {
    "C1a": cheapest,
    "C1b": most_effective,
    "C1c": by_transfer,
    "C2": locality,
    "C3a": partial(instils, measures={"shape_bias": TEXTURE}, rising="shape_sensitivity"),
    "C3b": arrangement,
    "C4": convergence,
    "C5": better_teachers,
}


def read_claims() -> pd.DataFrame:
    """The claims, fixed before the runs: claim, original, hypothesis, statistic, supported, contradicted."""
    claims = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    return pd.DataFrame([{"claim": name, **claim} for name, claim in claims.items()])


def judge(records: Records) -> dict[str, Verdict]:
    """The verdict on every claim, by its name."""
    found = {}
    for name, function in JUDGES.items():
        try:
            found[name] = function(records)
        except NotEvaluable as reason:
            found[name] = Verdict("not evaluable", str(reason))
    return found


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
