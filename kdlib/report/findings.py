"""Takeaways computed from tables; their words are in ``templates/``.

A function picks the numbers of one takeaway, and a macro of the same name says them; where a table says all,
the macro reads it alone. What is missing is told there too: a study of one seed, of one direction, without
controls, or of networks that learned nothing.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdlib.bias import SMALLEST_EFFECTS, acceptance
from kdlib.bias.statistics import with_interval
from kdlib.report import made
from kdlib.report.claims import CLAIMS, Verdict, judge, originals_numbers, records_of
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


def _rows(table: pd.DataFrame) -> list:
    return list(table.itertuples())


TEXTS.filters |= {"label": label_of, "words": words, "listed": listed, "interval": interval, "rows": _rows}
TEXTS.filters |= {"property": made.title_of_property}
TEXTS.filters |= {"percent": "{:.1%}".format, "comma": "{:,}".format}
TEXTS.filters |= {"fixed": lambda value: "not defined" if pd.isna(value) else f"{value:.2f}"}
TEXTS.filters |= {"first_number": lambda because: re.split("; |, and ", because)[0]}
TEXTS.globals |= {"limits": acceptance, "claims": CLAIMS}
MACROS = {}
for name in ("takeaways", "made"):
    MACROS |= vars(TEXTS.get_template(f"{name}.md.j2").module)


def _tell(macro: str, *arguments, **numbers) -> str:
    said = MACROS[macro](*arguments, **numbers)
    one_line = re.sub(r"(?<=[^\n|]) *\n(?=[^\n*|])", " ", said)  # a paragraph, a line
    return re.sub(r"\n\s*\n", "\n\n", one_line).strip()


# Takeaways that a template makes of a study or a table alone.
pictures = partial(_tell, "pictures")
external = partial(_tell, "external")
accepted = partial(_tell, "accepted")
yardsticks = partial(_tell, "yardsticks")
absent = partial(_tell, "absent")
training = partial(_tell, "training")
no_made = partial(_tell, "no_made")


# ---- made properties ----


def arrives(taus: pd.DataFrame) -> str:
    """By direction: how much arrives, by which method most, and what is not testable."""
    parts = []
    for direction, rows in made.methods(taus).groupby("direction", sort=False):
        tested = rows[rows.testable]
        best = tested.loc[tested.groupby("property", sort=False).tau.idxmax()]
        sure, counts = int(made.significant(tested).sum()), {"count": len(rows), "tested": len(tested)}
        parts.append(
            counts | {"direction": direction, "best": best, "sure": sure, "reasons": made.reasons(rows)}
        )
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
        largest = part.loc[[part.estimate.abs().idxmax()]] if len(part) else part
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
    named = {}
    for name, verdict in verdicts.items():
        named.setdefault(verdict.word, []).append(name)
    return _tell("expected", named)


# ---- 02, 03: a direction ----


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
    named = {row.role: row for row in clean.itertuples() if row.role in REFERENCES}
    place = 1 + list(ranked.role).index("baseline")
    return _tell("accuracy", best=ranked[:3], place=place, count=len(ranked), **named)


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
    numbers = {"count": len(students), "off": len(off), "smallest": smallest}
    numbers["farthest"] = off.loc[[off.residual.abs().idxmax()]] if len(off) else off
    return _tell("off_the_line", defined=students.low.notna().any(), **numbers)


def moved(transfer: pd.DataFrame, measure: str, probe: str) -> str:
    """For one measure and each direction: how far the teacher is from the baseline, and who moved."""
    asked = transfer[(transfer.measure == measure) & (transfer.probe == probe)]
    asked = asked.assign(side=sides(asked), control=asked.method.isin(list(CONTROLS)))
    return _tell("moved", asked.groupby("direction", sort=False), measure, probe)


def transferred(transfer: pd.DataFrame) -> str:
    """How often a method's student moved toward its teacher where there was anywhere to move."""
    methods = transfer[~transfer.method.isin(list(CONTROLS))]
    counts = sides(methods).value_counts()
    ways = {way: int(counts.get(way, 0)) for way in ("toward", "away", "neither")}
    reasons, defined = sorted(set(methods.reason) - {""}), methods.movement.notna().any()
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
    methods = table[~table.method.isin(list(CONTROLS))]
    toward = methods[methods.side == "toward"]
    farther = toward[toward.beyond > 0]
    sizes = {"asked": table, "differ": table[table.established], "toward": toward, "beyond": farther}
    found = {name: len(part.drop_duplicates(["direction", "property"])) for name, part in sizes.items()}
    reasons = sorted(set(table.reason) - {""}) if table.movement.isna().all() else []
    return found | {"farther": farther, "controls": len(methods) < len(table), "reasons": reasons}


def answer(study, verdicts: dict[str, Verdict], transfer: pd.DataFrame) -> tuple[str, str]:
    """The study on one page: the sentence above its figure, and what stands under it."""
    specs = {member.spec.id for member in study.members()}
    later = {member.spec.id for member in study.longer.members()} - specs if study.longer else set()
    told = _tell("below", study, verdicts, runs=len(specs), later=len(later), left=_not_run(study))
    return _tell("headline", **_counts(movements(transfer))), told


def _not_run(study) -> list[str]:
    """What the profile plans and this study leaves out."""
    planned = read_profile(study.parameters["profile"])["directions"]
    run = {role for plan in study.directions.values() for role in _roles(plan)}
    left = [label_of(role) for plan in planned.values() for role in _roles(plan) if role not in run]
    return list(dict.fromkeys(left + [words(name) for name in planned if name not in study.directions]))


def _roles(plan: dict) -> list[str]:
    return [*plan["methods"], *plan.get("controls", [])]


def claims(verdicts: dict[str, Verdict]) -> str:
    """Every claim with the original's numbers, the rule and the verdict."""
    return _tell("verdicts", verdicts, originals_numbers())


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
        clean = {role: evidence[role, "accuracy", "clean"].mean() for role in evidence.roles}
        student = longer.profile["students"][longer.directions[direction]["student"]]
        part = {"direction": direction, "epochs": student["training"]["epochs"], "clean": clean}
        moves = table[table.direction == direction]
        parts.append(part | {"moves": moves, "controlled": CONTROLS.keys() & clean.keys()})
    return _tell("longer", judged=judged, parts=parts), table


def original(table: pd.DataFrame) -> str:
    """The original's students without a retention, and the ratios that were published for them."""
    guessers = table[table["retention texture"].isna()]
    ratios = guessers.filter(regex="^ratio ")
    rows = guessers.assign(low=ratios.min(axis=1), high=ratios.max(axis=1))
    return _tell("original", rows[["model", "direction", "clean", "low", "high"]])
