"""Takeaways computed from tables; their words are in ``templates/``.

A function picks the numbers of one takeaway, and a template of the same name says them. What is missing is
told there too: a study of one seed, of one direction, without controls, or of networks that learned nothing.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdlib.bias import SMALLEST_EFFECTS, acceptance
from kdlib.bias.statistics import with_interval
from kdlib.report import made
from kdlib.report.claims import Verdict, claims_table, judge, read_claims, records_of
from kdlib.report.figures.style import label_of, words
from kdlib.report.summaries import movements
from kdlib.report.tables import sides, transfer_table
from kdlib.study.controls import CONTROLS, READ, REFERENCES
from kdlib.study.schema import read_profile

TEXTS = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def listed(names: Iterable[str]) -> str:
    """ "LM, CRD and DIST"; "none" of nothing."""
    *first, last = list(names) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def interval(row, form: str = "+.2f", of: str = "estimate", ends: str = "") -> str:
    """The estimate of a table's row with its interval, in a format."""
    return with_interval(getattr(row, of), getattr(row, f"{ends}low"), getattr(row, f"{ends}high"), form)


TEXTS.filters |= {"label": label_of, "words": words, "listed": listed, "interval": interval}
TEXTS.filters |= {"property": made.title_of_property}
TEXTS.filters |= {"percent": "{:.1%}".format, "comma": "{:,}".format}
TEXTS.filters |= {"fixed": lambda value: "not defined" if pd.isna(value) else f"{value:.2f}"}


def _tell(macro: str, **context) -> str:
    say = getattr(TEXTS.get_template("takeaways.md.j2").module, macro)
    one_line = re.sub(r"(?<=[^\n|]) *\n(?=[^\n*|])", " ", say(**context))  # a paragraph, a line
    return re.sub(r"\n\s*\n", "\n\n", one_line).strip()


# ---- 01: the data and the probes ----


def pictures(study) -> str:
    return _tell("pictures", own=study.dataset, pictured=study.pictures[0])


def external(study) -> str:
    return _tell("external", missing=study.missing, found=sorted(set(study.stimuli) - set(study.probes)))


def accepted(table: pd.DataFrame) -> str:
    """Which probes are accepted, by which thresholds."""
    return _tell("accepted", count=len(table), refused=_rows(table[~table.accepted]), limits=acceptance)


def yardsticks(table: pd.DataFrame) -> str:
    return _tell("yardsticks", count=len(table), failed=_rows(table[~table.holds]))


# ---- made properties ----


def no_made() -> str:
    return _tell("no_made")


def arrives(taus: pd.DataFrame) -> str:
    """By direction: how much arrives, by which method most, and what is not testable."""
    parts = []
    for direction, rows in made.methods(taus).groupby("direction", sort=False):
        tested = rows[rows.testable]
        best = tested.loc[tested.groupby("property", sort=False).tau.idxmax()]
        sure, reasons = int(made.significant(tested).sum()), made.reasons(rows)
        part = {"direction": direction, "count": len(rows), "tested": len(tested), "best": _rows(best)}
        parts.append(part | {"sure": sure, "reasons": reasons})
    return _tell("arrives", parts=parts)


def made_headline(taus: pd.DataFrame) -> str:
    """The sentence that answers the title, from properties made in teachers of the other architecture."""
    rows = made.methods(taus)
    rows = rows.assign(across=rows.direction.map(made.crosses).astype(bool))
    asked = rows[rows.across]
    tested = asked[asked.testable]
    means = rows[rows.role == "lm"].groupby("across").tau.mean().reindex([True, False])
    sure = int(made.significant(tested).sum())
    numbers = {"tested": len(tested), "sure": sure, "across": means[True], "within": means[False]}
    return _tell("made_headline", reasons=made.reasons(asked), **numbers)


def specificity(matrix: pd.DataFrame) -> str:
    """Whether students moved what their teachers were not made for."""
    own = [row.measure in made.RULES["properties"][row.made] for row in matrix.itertuples()]
    others = matrix[~pd.Series(own, matrix.index, dtype=bool)].dropna(subset="low")
    moved = others[(others.low > 0) | (others.high < 0)]
    parts = []
    for role, rows in others.groupby("role", sort=False):
        part = moved[moved.role == role]
        largest = _rows(part.loc[[part.estimate.abs().idxmax()]]) if len(part) else []
        parts.append({"role": role, "count": len(rows), "moved": len(part), "largest": largest})
    return _tell("specificity", parts=parts)


def class_part(table: pd.DataFrame) -> str:
    """How much of LM's tau is left when only the class is told, and the image is not."""
    told = table.dropna(subset="part")
    below, above = int((told.high < 0.25).sum()), int((told.low > 0.25).sum())
    numbers = {"count": len(told), "below": below, "above": above, "median": told.part.median()}
    return _tell("class_part", reasons=made.reasons(table), **numbers)


def readings(taus: pd.DataFrame) -> str:
    """How often the teacher's head finds more of a property in the features than the student's own."""
    keys = ["direction", "property", "measure"]
    heads = taus[taus.role.str.endswith(READ)].assign(role=lambda rows: rows.role.str.removesuffix(READ))
    both = heads.merge(taus, on=[*keys, "role"], suffixes=("", "_own")).dropna(subset=["tau", "tau_own"])
    more = int((both.tau > both.tau_own).sum())
    return _tell("readings", count=len(both), more=more, head=both.tau.mean(), own=both.tau_own.mean())


def expected(verdicts: dict[str, Verdict]) -> str:
    """Which hypotheses got which verdict."""
    words = dict.fromkeys(verdict.word for verdict in verdicts.values())
    return _tell(
        "expected",
        verdicts={
            word: [name for name, verdict in verdicts.items() if verdict.word == word] for word in words
        },
    )


# ---- 02, 03: a direction ----


def absent(direction: str, study) -> str:
    return _tell("absent", direction=direction, others=list(study.directions))


def training(history: pd.DataFrame) -> str:
    runs = history.groupby(["role", "seed"], sort=False).agg(
        diverged=("diverged", "any"), epochs=("epoch", "max")
    )
    return _tell("training", count=len(runs), lost=_rows(runs[runs.diverged].reset_index()))


def convergence(history: pd.DataFrame, role: str) -> str:
    """How far a method has come in its last epoch, beside the baseline student."""
    if role not in set(history.role):
        return _tell("lacks", name=label_of(role))
    accuracy = history[history.term == "test_accuracy"].sort_values("epoch")
    last = accuracy.groupby(["role", "seed"])["value"].last()
    mean = accuracy[accuracy.role == role].groupby("epoch")["value"].mean()
    near = mean.index[mean >= 0.9 * last["baseline"].mean()]
    label = history[(history.role == role) & (history.term == "label")].groupby("epoch")["value"].mean()
    ends = {"first": label.iloc[0], "last": label.iloc[-1], "epochs": mean.index.max()}
    return _tell("convergence", role=role, ours=last[role], alone=last["baseline"], near=list(near), **ends)


def accuracy(measures: pd.DataFrame) -> str:
    """Who is best on unchanged images, and how the baseline student and the teacher do."""
    clean = measures[(measures.measure == "accuracy") & (measures.probe == "clean")]
    ranked = clean[clean.role != "teacher"].sort_values("estimate", ascending=False)
    named = {row.role: row for row in clean.itertuples()}
    place = 1 + list(ranked.role).index("baseline")
    return _tell("accuracy", best=_rows(ranked[:3]), place=place, count=len(ranked), **_references(named))


def cost(table: pd.DataFrame) -> str:
    """An epoch's cost relative to the baseline student's."""
    methods = table[~table.role.isin([*REFERENCES, *CONTROLS])]
    relative = methods.groupby("role", sort=False)["relative"].mean().sort_values()
    return _tell("cost", relative=list(relative.items()))


# ---- 04: bias analysis ----


def ratio(measures: pd.DataFrame) -> str:
    """Where the raw ratio flatters most, compared with the chance-adjusted retention."""
    keys = ["direction", "role", "probe"]
    wide = measures.set_index([*keys, "measure"])["estimate"].unstack("measure")
    wide = wide.reindex(columns=["raw_ratio", "retention", "accuracy"]).dropna(
        subset=["raw_ratio", "retention"]
    )
    if wide.empty:
        return _tell("unlearned")
    row = wide.loc[(wide.raw_ratio - wide.retention).idxmax()]
    return _tell("ratio", role=row.name[1], probe=row.name[2], row=row)


def off_the_line(schedules: dict[str, pd.DataFrame]) -> str:
    """Which students lie significantly off the line that accuracy alone draws, and by how much at most."""
    table = pd.concat(schedules.values(), ignore_index=True)
    if table.empty:
        return _tell("unlearned")
    students = table[~table.schedule & (table.role != "teacher")]
    smallest = SMALLEST_EFFECTS["retention"]
    off = students[(students.low > smallest) | (students.high < -smallest)]
    farthest = _rows(off.loc[[off.residual.abs().idxmax()]]) if len(off) else []
    defined = students.low.notna().any()
    return _tell(
        "off_the_line",
        defined=defined,
        count=len(students),
        off=len(off),
        smallest=smallest,
        farthest=farthest,
    )


def moved(transfer: pd.DataFrame, measure: str, probe: str) -> str:
    """For one measure and each direction: how far the teacher is from the baseline, and who moved."""
    asked = transfer[(transfer.measure == measure) & (transfer.probe == probe)]
    parts = [_moves(*found) for found in asked.assign(side=sides(asked)).groupby("direction", sort=False)]
    return _tell("moved", parts=parts, measure=measure, probe=probe)


def _moves(direction: str, rows: pd.DataFrame) -> dict:
    defined = rows.dropna(subset=["gap"])
    gap = next((defined if len(defined) else rows).itertuples())  # the same in every row that has one
    part = {"direction": direction, "gap": gap, "defined": len(defined) > 0}
    controls = rows.method.isin(list(CONTROLS))
    for way in ("toward", "away"):
        part[f"controls_{way}"] = _rows(rows[controls & (rows.side == way)])
        part[f"methods_{way}"] = _rows(rows[~controls & (rows.side == way)])
    return part | {"methods": int((~controls).sum())}


def transferred(transfer: pd.DataFrame) -> str:
    """How often a method's student moved toward its teacher where there was anywhere to move."""
    methods = transfer[~transfer.method.isin(list(CONTROLS))]
    counts = sides(methods).value_counts()
    ways = {way: int(counts.get(way, 0)) for way in ("toward", "away", "neither")}
    reasons = sorted({reason for reason in methods.reason if reason})
    defined = len(methods) > 0 and bool(methods.movement.notna().any())
    return _tell("transferred", count=len(methods), defined=defined, reasons=reasons, **ways)


def slopes(table: pd.DataFrame) -> str:
    """Whether a teacher of the other family gives more of itself than one of the student's own."""
    twins = {"lm": "lm_same_family", "crd": "crd_same_family"}
    parts = []
    for direction, part in table.groupby("direction", sort=False):
        rows = {row.role: row for row in part.itertuples()}
        pairs = [(rows[one], rows[twin]) for one, twin in twins.items() if {one, twin} <= rows.keys()]
        parts.append({"direction": direction, "pairs": pairs})
    return _tell("slopes", parts=parts)


# ---- 05: findings ----


def _counts(table: pd.DataFrame) -> dict:
    """In how many properties by direction the teacher differs, students move, and move beyond controls."""
    keys = ["direction", "property"]
    methods = table[~table.method.isin(list(CONTROLS))]
    toward = methods[methods.side == "toward"]
    farther = toward[toward.beyond > 0]
    sizes = {"asked": table, "differ": table[table.established], "toward": toward, "beyond": farther}
    found = {name: len(part.drop_duplicates(keys)) for name, part in sizes.items()}
    controls = table.method.isin(list(CONTROLS)).any()
    reasons = sorted({reason for reason in table.reason if reason and table.movement.isna().all()})
    return found | {"farther": _rows(farther), "controls": controls, "reasons": reasons}


def answer(study, verdicts: dict[str, Verdict], transfer: pd.DataFrame) -> tuple[str, str]:
    """The study on one page: the sentence above its figure, and what stands under it."""
    claims = [_verdict(row, verdicts[row.claim]) for row in read_claims().itertuples()]
    specs = {member.spec.id for member in study.members()}
    later = {member.spec.id for member in study.longer.members()} - specs if study.longer else set()
    networks = [_student(study.profile, network) for network in study.profile["students"].values()]
    told = _tell("below", study=study, claims=claims, runs=len(specs), later=len(later),
                 networks=networks, left=_not_run(study))  # fmt: skip
    return _tell("headline", **_counts(movements(transfer))), told


def _verdict(claim, verdict: Verdict) -> dict:
    """A claim's row: the least favourable of its numbers, or the reason why there is no verdict."""
    number = re.split("; |, and ", verdict.because)[0]
    return {"claim": claim.claim, "tested": claim.hypothesis, "word": verdict.word, "number": number}


def _student(profile: dict, network: dict) -> str:
    epochs = (profile["training"] | network.get("training", {}))["epochs"]
    return f"{network['model']['name']} ({epochs} epochs)"


def _not_run(study) -> list[str]:
    """What the profile plans and this study leaves out."""
    planned = read_profile(study.parameters["profile"])
    run = {role for plan in study.directions.values() for role in _roles(plan)}
    left = [
        label_of(role) for plan in planned["directions"].values() for role in _roles(plan) if role not in run
    ]
    left += [words(name) for name in planned["directions"] if name not in study.directions]
    return list(dict.fromkeys(left))


def _roles(plan: dict) -> list[str]:
    return [*plan["methods"], *plan.get("controls", [])]


def claims(verdicts: dict[str, Verdict]) -> str:
    """Every claim with the original's numbers, the rule and the verdict."""
    table = claims_table(verdicts).rename(columns=lambda name: name.replace(" ", "_"))
    rules = {row.claim: row for row in read_claims().itertuples()}
    return _tell("claims", rows=_rows(table), rules=rules)


def with_more_epochs(longer, accepted: set[str]) -> tuple[str, pd.DataFrame]:
    """What a longer schedule says, and its :func:`kdlib.report.summaries.movements`.

    Args:
        longer: :attr:`kdlib.study.study.Study.longer`.
        accepted: probes.
    """
    if not longer:
        return _tell("no_longer"), pd.DataFrame()
    records = records_of(longer, accepted)
    table = movements(pd.concat(transfer_table(part) for part in records.evidence.values()))
    judged = {name: found for name, found in judge(records).items() if found.word != "not testable"}
    parts = []
    for direction, evidence in records.evidence.items():
        rows = table[table.direction == direction]
        students = [
            (role, _rows(part[part.side == "toward"])) for role, part in rows.groupby("method", sort=False)
        ]
        clean = {role: evidence[role, "accuracy", "clean"].mean() for role in evidence.roles}
        student = longer.profile["students"][longer.directions[direction]["student"]]
        parts.append({"direction": direction, "epochs": student["training"]["epochs"], "students": students,
                      "differ": rows[rows.established].property.nunique(), "clean": clean,
                      "controlled": bool(CONTROLS.keys() & clean)})  # fmt: skip
    return _tell("longer", judged=judged, parts=parts), table


def original(table: pd.DataFrame) -> str:
    """The original's students without a retention, and the ratios that were published for them."""
    guessers = table[table["retention texture"].isna()]
    ratios = guessers[[name for name in table if name.startswith("ratio ")]]
    rows = _rows(
        guessers[["model", "direction", "clean"]].assign(low=ratios.min(axis=1), high=ratios.max(axis=1))
    )
    return _tell("original", rows=rows)


def _rows(table: pd.DataFrame) -> list:
    return list(table.itertuples())


def _references(named: dict) -> dict:
    return {role: named[role] for role in REFERENCES}
