"""Tables made of tables: what a chapter shows of them, and what its figures draw."""

from functools import reduce

import pandas as pd

from kdlib.bias import SMALLEST_EFFECTS
from kdlib.bias.influence import INSIDE
from kdlib.bias.statistics import effect_word, with_interval
from kdlib.probes import PROBES
from kdlib.report.figures.style import label_of, words
from kdlib.report.tables import sides
from kdlib.study.controls import CONTROLS, REFERENCES, direction_title, title_of

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
    order = list(transfer.direction.unique())
    found = found.sort_values("direction", key=lambda names: names.map(order.index), kind="stable")
    return found.assign(side=sides(found))


# ---- tables ----


def movement_word(row: pd.Series) -> str:
    """How a row of a transfer table may be told; p is not adjusted, as it explores."""
    if pd.isna(row.movement_low):
        return f"not testable ({row.reason})"
    wide, narrow = (row.movement_low, row.movement_high), (row.narrow_low, row.narrow_high)
    return effect_word(wide, narrow, row.p, SMALLEST_EFFECTS[row.measure])


def effect_table(transfer: pd.DataFrame) -> pd.DataFrame:
    """Every movement in words: direction, method, measure, probe, result, and which way it went."""
    results = []
    for row in transfer.itertuples():
        span = with_interval(row.movement, row.movement_low, row.movement_high)
        results.append(movement_word(row) + ("" if pd.isna(row.movement) else f", {span}"))
    return pd.DataFrame(
        {
            "direction": transfer.direction.map(direction_title),
            "method": transfer.method.map(title_of),
            "measure": transfer.measure.str.replace("_", " "),
            "probe": transfer.probe,
            "result": results,
            "teacher": sides(transfer),
        }
    )


def largest(transfer: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Each direction's largest movements that lie beyond the smallest effect of interest, in words."""
    smallest = transfer.measure.map(SMALLEST_EFFECTS)
    significant = (transfer.movement_low > smallest) | (transfer.movement_high < -smallest)
    size = (transfer.movement / smallest).abs()
    ranked = transfer.assign(size=size)[significant].sort_values("size", ascending=False)
    chosen = ranked.groupby("direction", sort=False).head(count).sort_values("direction", kind="stable")
    return effect_table(chosen)


def transfer_summary(transfer: pd.DataFrame) -> pd.DataFrame:
    """For each student: in how many comparisons it moved toward its direction's teacher, away, or neither.

    Only comparisons in which the teacher differs significantly from the baseline student are counted.
    """
    told = transfer.assign(side=sides(transfer)).groupby(["direction", "method"], sort=False)
    counts = told.side.value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=["toward", "away", "neither"], fill_value=0).reset_index()
    kinds = counts.method.map(lambda role: "control" if role in CONTROLS else "method")
    return counts.assign(
        direction=counts.direction.map(direction_title), method=counts.method.map(title_of), kind=kinds
    ).rename_axis(columns=None)


def cost_summary(cost: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: seconds an epoch, relative to the baseline student, extra parameters."""
    columns = ["epoch", "relative", "extra_parameters"]
    means = cost.groupby("role", sort=False)[columns].mean().reset_index()
    means["extra_parameters"] = means["extra_parameters"].astype("Int64")
    return means.rename(columns={"epoch": "seconds an epoch"})


def control_table(names: list[str]) -> pd.DataFrame:
    """What each of a direction's controls separates."""
    rows = [(CONTROLS[name].title, CONTROLS[name].question) for name in names]
    return pd.DataFrame(rows, columns=["control", "what it tells"])


def wide_table(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure as "estimate [low, high]", roles down and probes across."""
    rows = table[table.measure == measure]
    cells = [with_interval(*span, ".2f") for span in zip(rows.estimate, rows.low, rows.high, strict=True)]
    rows = rows.assign(cell=cells, role=rows.role.map(title_of))
    wide = rows.pivot(index="role", columns="probe", values="cell")
    return wide.loc[rows.role.unique(), rows.probe.unique()].reset_index().rename_axis(columns=None)


def measures_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Roles down, the measures of the table across, with intervals; all of one probe."""
    columns = [wide_table(table, name).set_axis(["role", name], axis=1) for name in table.measure.unique()]
    return reduce(lambda left, right: left.merge(right, on="role", sort=False), columns)


# ---- what figures draw ----


def learning(history: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy for :func:`kdlib.report.figures.curves`: a panel a student, the baseline in each."""
    table = history[history.term == "test_accuracy"].rename(columns={"epoch": "x", "role": "line"})
    alone = table[table.line == "baseline"].assign(seed=None)
    students = [role for role in table.line.unique() if role not in REFERENCES]
    parts = [pd.concat([alone, table[table.line == role]]).assign(panel=label_of(role)) for role in students]
    return pd.concat(parts) if parts else alone.assign(panel="Baseline")


def severities(table: pd.DataFrame) -> pd.DataFrame:
    """A severity table for curves: a panel a series, a line for each direction's baseline student."""
    return table.rename(columns={"level": "x", "accuracy": "value"}).assign(
        panel=table.series.map(words), line=table.network
    )


def by_depth(inside: dict[str, pd.DataFrame], measure: str) -> pd.DataFrame:
    """What was seen inside networks for curves: a panel a direction, a line a role."""
    parts = [part[part.measure == measure].assign(panel=words(name)) for name, part in inside.items()]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=["value", "seed"])
    return found.drop(columns="seed").rename(columns={"place": "x", "role": "line"})


def cells(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """A table of direction, role and probe for a heat map: a panel a direction, a row a probe."""
    if "accepted" in table:
        table = table[table.accepted]
    named = {"panel": "direction", "column": "role", "row": "probe"}
    found = table.assign(**{new: table[old].map(label_of if old == "role" else words)
                            for new, old in named.items()})  # fmt: skip
    return found.assign(value=table[value])


def residual_cells(schedules: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What accuracy alone doesn't explain, for a heat map; a dot where the interval leaves out zero."""
    parts = [part[~part.schedule].assign(direction=name) for name, part in schedules.items() if len(part)]
    if not parts:
        return pd.DataFrame()
    found = cells(pd.concat(parts, ignore_index=True), "residual")
    return found.assign(mark=((found.low > 0) | (found.high < 0)).map({True: "•", False: ""}))


def effect_cells(transfer: pd.DataFrame) -> pd.DataFrame:
    """Movements in smallest effects for a heat map: teacher first; ▸ and ◂ significantly toward and away.

    On accepted probes; what probes are compared with is left out.
    """
    unit = transfer.measure.map(SMALLEST_EFFECTS)
    marks = sides(transfer).map({"toward": "▸", "away": "◂"}).fillna("")
    found = transfer.assign(value=transfer.movement / unit, mark=marks, column=transfer.method.map(label_of))
    left_out = found.measure.eq("invariance") | found.probe.isin(COMPARISONS) | ~found.accepted
    found, unit = found[~left_out], unit[~left_out]
    teacher = found.assign(value=found.gap / unit, mark="", column="Teacher").dropna(subset="value")
    teacher = teacher.drop_duplicates(["direction", "measure", "probe"])
    both = pd.concat([teacher, found], ignore_index=True).assign(
        row=lambda table: [_question(row) for row in table.itertuples()]
    )
    return both.assign(panel=both.direction.map(words)).sort_values("direction", kind="stable")


def _question(row) -> str:
    """A retention is named by its probe, another measure by itself and its probe, if it has one."""
    probe = "" if row.probe == INSIDE else words(row.probe)
    return probe if row.measure == "retention" else f"{words(row.measure)} {probe}".strip()


def likeness_cells(likeness: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """CKA of equal stages for a heat map, mean over seeds."""
    parts = []
    for direction, table in likeness.items():
        same = table[table.student_stage == table.teacher_stage]
        mean = same.groupby(["role", "student_stage"], sort=False).cka.mean().reset_index(name="value")
        parts.append(mean.assign(panel=words(direction)))
    found = pd.concat(parts, ignore_index=True)
    stages = ("stage " + found.student_stage.astype(str)).replace("stage out", "embedding")
    return found.assign(row=stages, column=found.role.map(label_of))


def gains_by_cost(gains: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Gains for a forest plot, cheapest training first, with the cost in the name."""
    found = pd.concat(table.sort_values("cost").assign(direction=name) for name, table in gains.items())
    return found.assign(measure="gain in " + found.gain, suffix=[f", {cost:.1f}×" for cost in found.cost])


def original_cells(original: pd.DataFrame) -> pd.DataFrame:
    """The original's published ratios and the retentions that its accuracies give, for a heat map."""
    named = original.assign(row=original.direction.map(words) + ": " + original.model)
    long = named.melt(id_vars="row", value_vars=[name for name in original if " " in name])
    panel, column = long.variable.str.split(" ", expand=True).T.to_numpy()
    titles = {"ratio": "published ratio", "retention": "chance-adjusted retention"}
    found = long.assign(panel=[titles[name] for name in panel], column=column)
    return found[found.column != "seconds"].sort_values("panel", ascending=False, kind="stable")
