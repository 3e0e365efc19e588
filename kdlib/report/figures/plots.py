"""Estimates with intervals, maps, curves, and what moved: each from one tidy table, with nothing computed."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from kdlib.report.figures.style import COLOURS, legend, needs, panels, style_of, words
from kdlib.study.controls import CONTROLS, REFERENCES, WITHOUT_IT, roles

PARTS = {"data": "0.8", "stage": COLOURS[4], "teacher": "black"}  # of an epoch
PARTS |= {"student": COLOURS[5], "method": COLOURS[1], "update": COLOURS[0]}


@needs("estimate")
def forest(table: pd.DataFrame, label: str = "", reference: float | None = None) -> Figure:
    """Estimates with intervals: a column of panels for each direction, a row of them for each measure.

    The baseline's interval runs through its panel as a grey band. Panels of a measure share their scale,
    which shows all estimates; a very long interval may reach beyond it.

    Args:
        table: columns direction, measure, role, estimate, low, high; "suffix" is added to a role's name.
        label: of the horizontal axes, the measure's name if not given.
        reference: where a dotted line stands, for a value that means the same in all panels.
    """
    table = table.groupby("measure", sort=False).filter(lambda rows: rows.estimate.notna().any())
    directions, measures = list(table.direction.unique()), list(table.measure.unique())
    rows = table.groupby(["direction", "measure"]).role.nunique().max()
    size = (3.6 * len(directions) + 0.4, (0.17 * rows + 0.7) * len(measures) + 0.4)
    figure, axes = plt.subplots(len(measures), len(directions), figsize=size, squeeze=False,
                                sharex="row", layout="constrained")  # fmt: skip
    for line, measure in zip(axes, measures, strict=True):
        limits = _limits(table[table.measure == measure])
        for axis, direction in zip(line, directions, strict=True):
            part = table[(table.direction == direction) & (table.measure == measure)]
            _spots(axis, part.set_index("role"))
            axis.set_xlim(limits)
            axis.set(title=words(direction), xlabel=label or words(measure))
            if reference is not None:
                axis.axvline(reference, color="0.4", linestyle=":", linewidth=1)
    legend(figure, table.role.unique())
    return figure


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """All estimates and their intervals, but no interval longer than all the estimates' range."""
    low, high = rows.estimate.min(), rows.estimate.max()
    reach = max(high - low, 0.05)
    ends = max(rows.low.min(), low - reach), min(rows.high.max(), high + reach)
    low, high = np.nanmin([low, ends[0]]), np.nanmax([high, ends[1]])
    return low - 0.05 * reach, high + 0.05 * reach


def _spots(axis: plt.Axes, part: pd.DataFrame) -> None:
    for place, (role, row) in enumerate(part.iterrows()):
        _spot(axis, place, role, *row[["estimate", "low", "high"]])
    if "baseline" in part.index:
        axis.axvspan(*part.loc["baseline", ["low", "high"]], color="0.93", zorder=0)
    _names(axis, [words(role) + part.get("suffix", {}).get(role, "") for role in part.index], "small")


def _names(axis: plt.Axes, names: list[str], size: str = "medium") -> None:
    """The rows of a panel, from the top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0, labelsize=size)


def _spot(axis: plt.Axes, place: float, role: str, estimate: float, low: float, high: float) -> None:
    style = style_of(role)
    axis.hlines(place, low, high, color=style["color"], linewidth=1.2)
    axis.plot(estimate, place, linestyle="", **style, markersize=4)


@needs("estimate")
def heat_map(
    table: pd.DataFrame,
    label: str,
    limits: tuple[float, float],
    row: str = "probe",
    column: str = "role",
    panel: str = "direction",
    numbers: bool = False,
    columns: int = 1,
) -> Figure:
    """A cell for each row and column of a panel: the mean of its estimates, grey where there is none.

    Args:
        table: column estimate, and those that ``row``, ``column`` and ``panel`` name; "mark" is written into
            its cell.
        label: of the colour bar.
        limits: of the colours; on both sides of 0 they diverge.
        numbers: write the estimates instead.
        columns: of panels.
    """
    names, rows = list(table[panel].unique()), list(table[row].unique())
    wide = table.groupby(panel)[column].nunique().max()
    size = ((0.4 if numbers else 0.3) * wide + 1.6 / columns, 0.2 * len(rows) + 1.3)
    figure, axes = panels(len(names), columns, height=size[1], width=size[0], sharey=True)
    colours = plt.get_cmap("RdBu" if limits[0] < 0 else "Blues").with_extremes(bad="0.88")
    for axis, name in zip(axes, names, strict=True):
        part = table[table[panel] == name]
        across = list(part[column].unique())
        grid = part.pivot_table("estimate", row, column).reindex(rows, columns=across)
        image = axis.imshow(grid, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
        for _, cell in part.iterrows():
            text = cell.get("mark", "")
            text = f"{cell.estimate:.2f}" if numbers and np.isfinite(cell.estimate) else text
            place = across.index(cell[column]), rows.index(cell[row])
            dark = abs(cell.estimate) > 0.6 * limits[1]
            axis.text(*place, text, ha="center", va="center", fontsize="x-small", color="w" if dark else "k")
        axis.set_xticks(range(len(across)), map(words, across), rotation=90)
        axis.set_yticks(range(len(rows)), map(words, rows))
        axis.tick_params(length=0, labelsize="small")
        axis.set_title(textwrap.fill(words(name), 16) if columns > 1 else words(name))
        sns.despine(ax=axis, left=True, bottom=True)
    figure.colorbar(image, ax=axes, label=label, shrink=0.7 / len(axes) * columns, aspect=20)
    return figure


@needs("value")
def curves(table: pd.DataFrame, xlabel: str, ylabel: str, x: str, panel: str, line: str = "role") -> Figure:
    """Means over an ordered quantity: a line for each network, thin ones for its seeds.

    The table's columns are value and those that ``x``, ``panel`` and ``line`` (a role, or a name) name; of
    each "seed", if there is one, a thin line is drawn.
    """
    names, lines = list(table[panel].unique()), list(table[line].unique())
    known = [name for name in lines if name in (*REFERENCES, "untrained", *roles())]
    own = {name: {"color": colour, "marker": "o"} for name, colour in zip(lines, COLOURS, strict=False)}
    few = min(5, len(names))
    figure, axes = panels(len(names), few, height=1.5 if few > 3 else 2.6, width=8.4 / few, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        part = table[table[panel] == name]
        for who, rows in part.groupby(line, sort=False):
            style = style_of(who) if who in known else own[who]
            for _, run in rows.groupby("seed") if "seed" in rows else []:
                axis.plot(run[x], run.value, color=style["color"], alpha=0.35, linewidth=0.7)
            mean = rows.groupby(x).value.mean()
            axis.plot(mean.index, mean, **style, markersize=3.5, label=who)
        axis.set_title(words(name), fontsize="medium")
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel(xlabel)
    figure.supylabel(ylabel)
    if known:
        legend(figure, known)
    else:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(lines))
    return figure


@needs("movement")
def movements(table: pd.DataFrame) -> Figure:
    """How far the teacher and every student are from the baseline in each property: a panel a direction.

    Grey bars span the controls that never see the other architecture's teacher. A name is written where a
    method is significantly farther toward the teacher than all of them. On grey ground nothing can be
    transferred, as the teacher does not differ significantly. The table is
    :func:`kdlib.report.summaries.movements`'s.
    """
    directions, properties = list(table.direction.unique()), list(table.property.unique())
    height = 0.75 * len(properties)
    figure, axes = panels(len(directions), 2, width=3.9, height=height, sharey=True, sharex=True)
    for axis, direction in zip(axes, directions, strict=True):
        for place, name in enumerate(properties):
            rows = table[(table.direction == direction) & (table.property == name)].set_index("method")
            _movement(axis, place, rows)
        axis.axvline(0, color="0.55", linewidth=1)
        axis.set_title(words(direction))
        _names(axis, [textwrap.fill(name, 22) for name in properties])
    figure.supxlabel("difference from the baseline student")
    legend(figure, ["teacher", *(role for role in table.method.unique() if role not in CONTROLS)])
    return figure


def _movement(axis: plt.Axes, place: int, rows: pd.DataFrame) -> None:
    defined = rows.dropna(subset=["gap"])
    if defined.empty or not defined.established.iloc[0]:
        axis.axhspan(place - 0.5, place + 0.5, color="0.94", zorder=0)
    if defined.empty:
        axis.text(0, place, "not defined", ha="center", va="center", fontsize="x-small", color="0.4")
        return
    _spot(axis, place - 0.36, "teacher", *defined.iloc[0][["gap", "gap_low", "gap_high"]])
    controls = rows.movement[rows.index.isin(WITHOUT_IT)].dropna()
    if len(controls):
        axis.barh(place + 0.08, np.ptp(controls), 0.72, left=controls.min(), color="0.8", zorder=1)
    methods = rows[~rows.index.isin([*REFERENCES, *CONTROLS])]
    for offset, (role, row) in zip(np.linspace(-0.2, 0.4, len(methods)), methods.iterrows(), strict=True):
        style = style_of(role)
        axis.plot(row.movement, place + offset, linestyle="", **style, markersize=2.8)
        axis.hlines(place + offset, row.movement_low, row.movement_high, color=style["color"], linewidth=0.7)
        if row.beyond > 0 and row.established:
            axis.annotate(words(role), (row.movement_high, place + offset), xytext=(3, 0),
                          textcoords="offset points", va="center", fontsize="x-small")  # fmt: skip


@needs("tau")
def taus(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Share of a teacher's property that the student inherits: a panel a property, a row a method.

    A colour is a teacher; hollow where teacher and student are of one architecture. Lines at 0 and 1. All
    taus are shown; a long interval may reach beyond the scale. Panels side by side share their methods.

    Args:
        table: columns direction, panel, property, role, tau, low, high; a row without tau shows nothing.
        published: columns property, role, tau: crosses.
    """
    names, directions = (list(table[name].unique()) for name in ("panel", "direction"))
    teachers = list(dict.fromkeys(name.split("_to_")[0] for name in directions))
    published = published[published.property.isin(table.property) & published.role.isin(table.role)]
    crosses = "published" if len(published) else "_"  # not in the legend
    few = len(names) if len(names) < 6 else 4
    lines = [table[table.panel.isin(names[start : start + few])] for start in range(0, len(names), few)]
    counts = [line.role.nunique() for line in lines]
    height = max(0.22, 0.09 * len(directions)) * np.mean(counts) + (0.3 if len(lines) == 1 else 0.9)
    grid = {"sharex": True, "sharey": "row", "height_ratios": counts}
    figure, axes = panels(len(names), few, height=height, width=max(1.8, 7.2 / len(names)), **grid)
    for place, (axis, name) in enumerate(zip(axes, names, strict=True)):
        roles, part = list(lines[place // few].role.unique()), table[table.panel == name]
        for direction, offset in zip(directions, np.linspace(-0.3, 0.3, len(directions)), strict=True):
            teacher, student = direction.split("_to_")
            colour = COLOURS[teachers.index(teacher)]
            rows = part[part.direction == direction].set_index("role").reindex(roles)
            places = np.arange(len(roles)) + offset
            axis.hlines(places, rows.low, rows.high, color=colour, linewidth=1)
            fill = "white" if teacher == student else colour
            axis.plot(rows.tau, places, "o", color=colour, mfc=fill, markersize=4, label=words(direction))
        known = published[published.property.isin(part.property) & published.role.isin(part.role)]
        axis.plot(known.tau, known.role.map(roles.index), "kx", markersize=5, label=crosses)
        for place in range(1, len(roles), 2):
            axis.axhspan(place - 0.5, place + 0.5, color="0.96", zorder=0)
        for value in (0, 1):
            axis.axvline(value, color="0.4", linestyle=":", linewidth=1)
        axis.set_title(name, fontsize="medium")
        axis.tick_params(labelbottom=True)  # on every line
        _names(axis, [words(role) for role in roles], "small")
    axes[0].set_xlim(min(table.tau.min(), 0) - 0.15, max(table.tau.max(), 1) + 0.15)
    figure.supxlabel("share of the teacher's property that the student inherits (tau)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize="small")
    return figure


def cost_bars(table: pd.DataFrame) -> Figure:
    """Seconds of an epoch by part, a bar for each role: means over seeds."""
    means = table.groupby("role", sort=False)[[part for part in PARTS if part in table]].mean()
    size = (6, 0.24 * len(means) + 0.9)
    axis = means.rename(index=words).plot.barh(stacked=True, color=PARTS, width=0.8, figsize=size)
    axis.invert_yaxis()
    axis.set(xlabel="seconds an epoch", ylabel="")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axis.figure
