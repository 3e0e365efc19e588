"""How much of a trained-in property the student inherits: tables of the experiment with such teachers.

:func:`changes` compares the students of made and plain teachers once; the tables and
:mod:`kdlib.report.hypotheses` read it. What is measured, and what counts, is said in hypotheses.yml.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from kdlib.bias.influence import Measures
from kdlib.bias.statistics import holm
from kdlib.bias.transfer import Transfer, inheritance, share
from kdlib.data.properties import PROPERTIES
from kdlib.probes import series
from kdlib.report.figures.style import words
from kdlib.report.summaries import wide_table
from kdlib.report.tables import interval, span
from kdlib.study import controls
from kdlib.study.controls import READ
from kdlib.study.made import Made

RULES = yaml.safe_load(Path(__file__).with_name("hypotheses.yml").read_text(encoding="utf-8"))
PUBLISHED = pd.DataFrame(RULES["published"])  # tau that others found, by role and property
QUARTER = RULES["hypotheses"]["H2a"]["supports"]["below"]  # a tau that counts as little
KEPT = 0.9  # share of a reference's accuracy, below which a network counts as not learned
CONTROLS = ("ceiling", "class_means", "within_class", *controls.CONTROLS)
COLUMNS = ["direction", "property", "role", "measure", "primary", "tau", "low", "high"]
COLUMNS += ["p_none", "p_all", "holm_none", "holm_all"]
COLUMNS += [f"{who}{end}" for who in ("student", "teacher") for end in ("", "_low", "_high")]
COLUMNS += ["accuracy", "price", "agreement", "teacher_accuracy", "seeds", "testable", "reason"]


@dataclass(frozen=True)
class Change:
    """What a trained-in property changed, by one measure: in one method's students, and in their teachers."""

    moved: np.ndarray  # influence (seeds, images) of S[made] - S[plain]; NaN in a seed that does not count
    apart: np.ndarray  # of T[made] - T[plain]
    found: Transfer
    facts: dict[str, float]  # how well the students learned


@lru_cache(4)  # a chapter makes several tables of its experiments
def changes(made: Made) -> dict[tuple[str, str, str, str], Change]:
    """By direction, property, role and measure; every property also by the measures of the others.

    A measure that the study does not have is left out.
    """
    found = {}
    for direction in made.directions:
        plain = made.evidence(direction)
        lost = np.isnan(plain["baseline", "accuracy", "clean"]).any(axis=1)
        told = f"the baseline diverged in {sum(lost)} of {len(lost)} seeds" if lost.any() else ""
        for name in made.properties:
            with_it = made.evidence(direction, name)
            measures = [measure for measure in RULES["measures"] if probes_of(plain, measure)]
            taught = {measure: _pair(with_it, plain, "teacher", measure) for measure in measures}
            for role in with_it.students:
                facts = _facts(with_it, plain, role)
                for measure in measures:
                    own = _pair(with_it, plain, role, measure)
                    tau = inheritance(*own, *taught[measure], RULES["rules"]["smallest_gap"])
                    tau = replace(tau, reason=told or tau.reason)  # no student can be judged by it
                    change = Change(np.subtract(*own), np.subtract(*taught[measure]), tau, facts)
                    found[direction, name, role, measure] = change
    return found


def _pair(with_it: Measures, plain: Measures, role: str, measure: str) -> list[np.ndarray]:
    """D (seeds, images) of the made and of the plain network, NaN in the row of one that did not learn."""
    goal = plain["teacher" if role == "teacher" else "baseline", "accuracy", "clean"]
    kind, found = RULES["measures"][measure][0], []
    for evidence in (with_it, plain):
        parts = aligned([evidence[role, kind, probe] for probe in probes_of(evidence, measure)])
        learned = kept(evidence[role, "accuracy", "clean"], goal)
        found.append(np.where(learned[:, None], np.mean(parts, axis=0), np.nan))
    return found


def probes_of(evidence: Measures, measure: str) -> list[str]:
    """Those of a measure's probes that were asked; of a series that wasn't, the levels that were."""
    kind, *probes = RULES["measures"][measure]
    asked = {probe for name, probe in evidence.questions if name == kind}
    named = [[probe] if probe in asked else series().get(probe, []) for probe in probes]
    return [probe for names in named for probe in names if probe in asked]


def aligned(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Matrices (seeds, images) as they are; where the images differ, their means over images: (seeds, 1)."""
    same = len({matrix.shape for matrix in matrices}) == 1
    return matrices if same else [matrix.mean(axis=1, keepdims=True) for matrix in matrices]


def kept(hits: np.ndarray, reference_hits: np.ndarray) -> np.ndarray:
    """Which seeds keep 0.9 of a reference's accuracy on ordinary images: boolean (k,), of hits (k, n)."""
    return np.mean(hits, axis=1) >= KEPT * np.mean(reference_hits, axis=1)


def _facts(with_it: Measures, plain: Measures, role: str) -> dict[str, float]:
    """Accuracy as a share of the baseline's, and less the plain student's; agreement with its teacher."""
    clean = {name: with_it[name, "accuracy", "clean"].mean() for name in (role, "baseline", "teacher")}
    return {
        "accuracy": clean[role] / clean["baseline"],
        "price": clean[role] - plain[role, "accuracy", "clean"].mean(),
        "agreement": with_it[role, "agreement", "clean"].mean(),
        "teacher_accuracy": clean["teacher"] / plain["teacher", "accuracy", "clean"].mean(),
        "seeds": len(with_it[role, "accuracy", "clean"]),
    }


def title_of_property(name: str) -> str:
    """What making "texture" gives a teacher: shape bias."""
    return PROPERTIES[name].title if name in PROPERTIES else name.replace("_", " ")


def tau_table(made: Made) -> pd.DataFrame:
    """A row for each direction, property, role and measure, the primary one first; the columns COLUMNS.

    Roles are methods, their features read by the teacher's head, and the ceiling, whose plain counterpart is
    the baseline. ``holm_none`` and ``holm_all`` correct p, for tau = 0 and for tau = 1, within direction and
    property: over the methods, over the features and over the controls, each with all measures. NaN with its
    ``reason`` where tau is not testable.
    """
    rows = []
    for (direction, name, role, measure), change in changes(made).items():
        if measure in (known := RULES["properties"][name]):
            found = change.found
            row = {"direction": direction, "property": name, "role": role, "measure": measure}
            row |= {"primary": measure == known[0], "tau": found.ratio, "low": found.low, "high": found.high}
            row |= {"p_none": found.p_none, "p_all": found.p_all}
            row |= span(found.movement, "student", "student_") | span(found.gap, "teacher", "teacher_")
            rows.append(row | change.facts | {"testable": found.established, "reason": found.reason})
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.astype(dict.fromkeys(COLUMNS[5:-2], float) | {"primary": bool, "testable": bool})
    kind = table.role.map(lambda role: READ if role.endswith(READ) else role in CONTROLS)
    for end in ("none", "all"):
        families = table.groupby(["direction", "property", kind], sort=False)
        table[f"holm_{end}"] = families[f"p_{end}"].transform(holm)
    return table


def teacher_table(made: Made) -> pd.DataFrame:
    """What the teachers are: their difference by each measure, and their accuracy over the plain one's."""
    table = tau_table(made)
    table = table.assign(network=[name.split("_to_")[0] for name in table.direction])
    first = table.drop_duplicates(["network", "property", "measure"])
    columns = ["network", "property", "measure", "teacher", "teacher_low", "teacher_high", "teacher_accuracy"]
    return first.assign(property=first.property.map(title_of_property))[columns]


def specificity_matrix(made: Made, method: str) -> pd.DataFrame:
    """How much each trained-in property changed each measure, in the teacher and in the method's student.

    Raw differences, made minus plain, in the units of the measures, which all run from 0 to 1: what is off
    the diagonal has no teacher's difference to be divided by. Columns: direction, role ("teacher" or the
    method), made, network (direction and property in words), measure, own (the property's), estimate, low,
    high.
    """
    rows = []
    for (direction, name, role, measure), change in changes(made).items():
        network = f"{words(direction)}: {title_of_property(name)}"
        own = measure in RULES["properties"][name]
        pair = {"teacher": change.found.gap, method: change.found.movement} if role == method else {}
        for who, found in pair.items():
            row = {"direction": direction, "role": who, "made": name, "network": network}
            rows.append(row | {"measure": measure, "own": own} | span(found))
    columns = ["direction", "role", "made", "network", "measure", "own", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"own": bool})


def part_of(control: Change, method: Change) -> Transfer:
    """The share of a method's tau that its control has; with a reason where the method has none."""
    lack = method.found.reason or control.found.reason
    if not lack and method.found.movement.low <= 0 <= method.found.movement.high:
        lack = "the method itself does not move its students significantly"
    return share(control.moved, method.moved, lack=lack)


def reasons(table: pd.DataFrame) -> str:
    """Why rows of a table have no value, each reason with how often."""
    told = table.reason[table.reason != ""].str.replace(r" in \d+ of \d+ seeds.*", "", regex=True)
    return "; ".join(f"{reason} ({count})" for reason, count in told.value_counts().items())


def methods(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a :func:`tau_table` that answer the question: of methods, by their primary measures."""
    others = table.role.isin(CONTROLS) | table.role.str.endswith(READ)
    return table[table.primary & ~others]


def significant(table: pd.DataFrame) -> pd.Series:
    """The rows in which tau is significantly above 0, after Holm's correction."""
    return (table.tau > 0) & (table.holm_none < 0.05)


def crosses(direction: str) -> bool:
    """Whether teacher and student are of different architectures."""
    teacher, student = direction.split("_to_")
    return teacher != student


def crossing(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose teacher and student are of different architectures."""
    return table[table.direction.map(crosses).astype(bool)]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A :func:`tau_table` of one direction to read: primary measures, intervals in the cells."""
    rows = table[table.primary]
    each = list(rows.itertuples())
    return pd.DataFrame(
        {
            "property": rows.property.map(title_of_property),
            "role": rows.role,
            "tau": [interval(row, of="tau") for row in each],
            "p, Holm": rows.holm_none,
            "student": [interval(row, "+.3f", "student", "student_") for row in each],
            "teacher": [interval(row, "+.3f", "teacher", "teacher_") for row in each],
            "accuracy / baseline": rows.accuracy,
            "accuracy change": rows.price,
            "agreement": rows.agreement,
            "not testable": rows.reason,
        }
    ).replace("not defined", "—")


def crossing_and_not(table: pd.DataFrame, role: str) -> tuple[float, float]:
    """A method's mean tau across and within architectures: of the teachers and properties that have both.

    If none has both, the mean across architectures, and NaN.
    """
    rows = table[(table.role == role) & table.testable]
    teacher, cross = rows.direction.str.split("_to_").str[0], rows.direction.map(crosses)
    means = rows.groupby([teacher, "property", cross]).tau.mean().unstack().reindex(columns=[True, False])
    both = means.dropna()
    return tuple(both.mean()) if len(both) else (means[True].mean(), np.nan)


def by_direction(table: pd.DataFrame) -> pd.DataFrame:
    """The primary measures of a :func:`tau_table`: roles down, directions and properties across.

    A dash where tau is not testable, nothing where it was not asked for.
    """
    rows = table[table.primary].rename(columns={"tau": "estimate"})
    names = rows.direction.map(words) + ", " + rows.property.map(title_of_property)
    return wide_table(rows.assign(column=names), "column").replace("not defined", "—").fillna("")


def panels(table: pd.DataFrame, heads: bool = False) -> pd.DataFrame:
    """A :func:`tau_table` for :func:`kdlib.report.figures.taus`: primary measures, a panel a property.

    With ``heads``, of methods whose features the teacher's head reads, both readings; otherwise no such one.
    """
    read = table.role.str.endswith(READ)
    both = table.role.str.removesuffix(READ).isin(table.role[read].str.removesuffix(READ))
    chosen = table[table.primary & (both if heads else ~read)]
    return chosen.assign(panel=chosen.property.map(title_of_property))


def choices(experiments: list[Made]) -> pd.DataFrame:
    """For who has to choose: by property and direction the method with the largest significant tau, its
    accuracy, and those whose 95% interval lies below a quarter; a dash where there is none.
    """
    rows = []
    for one in experiments:
        asked = methods(tau_table(one))
        for (name, direction), part in asked.groupby(["property", "direction"], sort=False):
            best = part[significant(part)].nlargest(1, "tau")
            little = part.role[part.high < QUARTER].map(words)
            found = [interval(row, of="tau") for row in best.itertuples()]
            rows.append(
                {"images": _where(one), "property": title_of_property(name), "direction": direction}
                | {"testable methods": part.testable.sum(), "largest tau": next(map(words, best.role), "—")}
                | {"tau": (*found, "—")[0], "accuracy / baseline": (*best.accuracy, np.nan)[0]}
                | {"less than a quarter": "; ".join(little) or "—"}
            )
    return pd.DataFrame(rows)


def on_own_images(study) -> list[Made]:
    """The experiments on the images of the study itself; all, if there is none."""
    own = study.profile["data"]["name"]
    return [one for one in study.experiments if one.study.profile["data"]["name"] == own] or study.experiments


def across(experiments: list[Made]) -> pd.DataFrame:
    """The :func:`panels` of all experiments; several are told apart by their images and profiles.

    "asked" is the panel's name in one line.
    """
    parts, several = [], len(experiments) > 1
    for one in experiments:
        table, where = panels(tau_table(one)), f", {_where(one)}" * several
        lines = where.replace(", ", "\n").replace(" (", "\n(")
        parts.append(table.assign(asked=table.panel + where, panel=table.panel + lines))
    return pd.concat(parts, ignore_index=True)


def _where(one: Made) -> str:
    """Like "CIFAR-10 (induced)"."""
    return f"{one.study.dataset.source.split(' (')[0]} ({one.study.folder.name})"
