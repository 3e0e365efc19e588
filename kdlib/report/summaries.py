"""Tables derived from other tables: what a chapter shows, and what its figures draw."""

from pathlib import Path

import pandas as pd

from kdlib.bias import SMALLEST_EFFECTS
from kdlib.bias.influence import INSIDE
from kdlib.probes import PROBES
from kdlib.report.figures.style import words
from kdlib.report.tables import in_order, interval, sides
from kdlib.study.controls import CONTROLS, REFERENCES, title_of

PROPERTIES = {  # what the study is about -> (measure, probe)
    "shape bias": ("shape_bias", "cue_conflict"),
    "texture bias: robustness to texture conflict": ("retention", "cue_conflict"),
    "texture bias: robustness to texture removal": ("retention", "superpixels"),
    "permutation invariance (accuracy)": ("retention", "scramble_gutter"),
    "permutation invariance (embedding)": ("embedding_invariance", "scramble_gutter"),
    "locality: long-range interaction ratio": ("far_near", INSIDE),
    "noise robustness": ("retention", "gaussian_noise"),
}
COMPARISONS = {name for probe in PROBES.values() for name in (probe.reference, probe.control)}  # no probes
BIASES = ("retention", "shape_bias", "invariance", "embedding_invariance", "far_near")


def movements(transfer: pd.DataFrame) -> pd.DataFrame:
    """The rows of a transfer table that the study is about, with ``property`` and ``side``."""
    found = pd.concat(
        transfer[(transfer.measure == measure) & (transfer.probe == probe)].assign(property=name)
        for name, (measure, probe) in PROPERTIES.items()
    )
    found = in_order(found, "direction", transfer.direction.unique())
    return found.assign(side=sides(found))


def cost_summary(cost: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: seconds an epoch, relative to the baseline student, extra parameters."""
    columns = ["epoch", "relative", "extra_parameters"]
    means = cost.groupby("role", sort=False)[columns].mean().reset_index()
    means["extra_parameters"] = means["extra_parameters"].astype("Int64")
    return means.rename(columns={"epoch": "seconds an epoch"})


def control_table(names: list[str]) -> pd.DataFrame:
    """What each of a direction's controls separates."""
    rows = [(CONTROLS[name].title, CONTROLS[name].question) for name in names]
    return pd.DataFrame(rows, columns=["control", "what it isolates"])


def wide_table(table: pd.DataFrame, columns: str = "probe") -> pd.DataFrame:
    """A measure's table as "estimate [low, high]", roles down and probes across; or a probe's measures."""
    cells = [interval(row, ".2f") for row in table.itertuples()]
    named = table.assign(cell=cells, role=table.role.map(title_of))
    wide = named.pivot(index="role", columns=columns, values="cell")
    return wide.loc[named.role.unique(), named[columns].unique()].reset_index().rename_axis(columns=None)


def learning(history: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy for :func:`kdlib.report.figures.curves`: a panel a student, the baseline in each."""
    table = history[history.term == "test_accuracy"]
    alone = table[table.role == "baseline"].assign(seed=None)
    students = [role for role in table.role.unique() if role not in REFERENCES]
    parts = [pd.concat([alone, table[table.role == role]]).assign(panel=role) for role in students]
    return pd.concat(parts) if parts else alone.assign(panel="baseline")


def residuals(schedules: pd.DataFrame) -> pd.DataFrame:
    """What accuracy alone doesn't explain, for a heat map; a dot where the interval leaves out zero."""
    found = schedules[~schedules.schedule]
    marks = ((found.low > 0) | (found.high < 0)).map({True: "•", False: ""})
    return found.assign(estimate=found.residual, mark=marks)


def effects(transfer: pd.DataFrame) -> pd.DataFrame:
    """Movements in smallest effects for a heat map: teacher first; ▸ and ◂ significantly toward and away.

    Rows of the map are the column "question"; what probes are compared with is left out.
    """
    found = transfer[transfer.measure.ne("invariance") & ~transfer.probe.isin(COMPARISONS)]
    unit, marks = found.measure.map(SMALLEST_EFFECTS), sides(found).map({"toward": "▸", "away": "◂"})
    found = found.assign(role=found.method, estimate=found.movement / unit, mark=marks.fillna(""))
    teacher = found.assign(role="teacher", estimate=found.gap / unit, mark="").dropna(subset="estimate")
    both = pd.concat([teacher.drop_duplicates(["direction", "measure", "probe"]), found], ignore_index=True)
    questions = [_question(row) for row in both.itertuples()]
    return both.assign(question=questions).sort_values("direction", kind="stable")


def _question(row) -> str:
    """A retention is named by its probe, another measure by itself and its probe, if it has one."""
    probe = "" if row.probe == INSIDE else words(row.probe)
    return probe if row.measure == "retention" else f"{words(row.measure)} {probe}".strip()


def equal_stages(likeness: pd.DataFrame) -> pd.DataFrame:
    """CKA of equal stages for a heat map, whose rows are the column "stage"."""
    same = likeness[likeness.student_stage == likeness.teacher_stage]
    stages = ("stage " + same.student_stage.astype(str)).replace("stage out", "embedding")
    return same.assign(estimate=same.cka, stage=stages)


def gains_by_cost(gains: pd.DataFrame) -> pd.DataFrame:
    """Gains for a forest plot, cheapest training first, with the cost in the name."""
    found = pd.concat(part.sort_values("cost") for _, part in gains.groupby("direction", sort=False))
    return found.assign(measure="gain in " + found.gain, suffix=[f", {cost:.1f}×" for cost in found.cost])


def original_table() -> pd.DataFrame:
    """The original study's accuracies with the chance-adjusted retention that follows from them.

    Read from its saved notebook outputs, in percent; ten classes. NaN where the clean accuracy is within
    ten points of chance: then there is nothing to retain.
    """
    table = pd.read_csv(Path(__file__).with_name("original.csv"))
    for probe in table.columns[3:-1]:  # without seconds
        table[f"ratio {probe}"] = table[probe] / table["clean"]
        retained = (table[probe] - 10) / (table["clean"] - 10)
        table[f"retention {probe}"] = retained.where(table["clean"] > 20)
    return table


def original_ratios(original: pd.DataFrame) -> pd.DataFrame:
    """The original's published ratios and the retentions that its accuracies give, for a heat map."""
    named = original.assign(student=original.direction.map(words) + ": " + original.model)
    shown = [name for name in original if " " in name]
    long = named.melt("student", shown, value_name="estimate")
    kind, probe = long.variable.str.split(" ", expand=True).T.to_numpy()
    titles = {"ratio": "published ratio", "retention": "chance-adjusted retention"}
    return long.assign(panel=[titles[name] for name in kind], probe=probe)
