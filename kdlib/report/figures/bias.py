"""Biases and their movement."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from kdlib.bias import SMALLEST_EFFECTS
from kdlib.bias.influence import INSIDE
from kdlib.report.figures.style import COLOURS, panels, say_if_empty, style_of
from kdlib.report.tables import side
from kdlib.study.controls import CONTROLS, REFERENCES, WITHOUT_IT, direction_title, title_of


def forest(
    table: pd.DataFrame,
    label: str,
    reference: float | None = None,
    one_scale: bool = True,
) -> Figure:
    """Estimates with intervals: a panel for each probe, a line for each role.

    The horizontal axes show all estimates; intervals may reach beyond them.

    Args:
        table: columns role, probe, estimate, low, high; grey where a column "accepted" is False.
        label: of the horizontal axes.
        reference: where the dotted vertical line stands, e.g. chance.
        one_scale: whether the panels share the horizontal axis.
    """
    names, probes = list(table.role.unique()), list(table.probe.unique())
    height = 0.17 * len(names) + 0.5
    figure, axes = panels(len(probes), columns=4, height=height, sharex=one_scale, sharey=True)
    for axis, probe in zip(axes, probes, strict=True):
        part = table[table.probe == probe].set_index("role").reindex(names)
        for place, (role, row) in enumerate(part.iterrows()):
            style = style_of(role)
            axis.hlines(place, row.low, row.high, color=style["color"], linewidth=1.5)
            axis.plot(row.estimate, place, **style, markersize=4.5)
        if reference is not None:
            axis.axvline(reference, color="0.4", linestyle=":", linewidth=1)
        if not part.get("accepted", pd.Series(True)).all():
            axis.set_facecolor("0.88")
        # The independent student's interval runs through the panel: what every other is compared with.
        if "independent" in part.index:
            axis.axvspan(*part.loc["independent", ["low", "high"]], color="0.93", zorder=0)
        axis.set_title(textwrap.fill(probe.replace("_", " "), 20), fontsize="small")
        axis.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        axis.set_yticklabels([title_of(role) for role in names])
        axis.tick_params(axis="y", length=0)
        say_if_empty(axis, part.estimate)
        shown = [
            *(table if one_scale else part).estimate.dropna(),
            *([] if reference is None else [reference]),
        ]
        if len(set(shown)) > 1:
            margin = 0.1 * (max(shown) - min(shown))
            axis.set_xlim(min(shown) - margin, max(shown) + margin)
    figure.supxlabel(label)
    return figure


def ratio_beside_retention(table: pd.DataFrame) -> Figure:
    """The original's raw ratio against the chance-adjusted retention, a point for each model and probe."""
    wide = table.set_index(["role", "probe", "measure"])["estimate"].unstack("measure")
    wide = wide.dropna(subset=["raw_ratio", "retention"]).reset_index()
    figure, axis = plt.subplots(figsize=(4.6, 3.8))
    axis.axline((0, 0), slope=1, color="0.6", linewidth=0.8, linestyle=":")
    axis.axvline(0, color="0.85", linewidth=0.8)
    for role in table.role.unique():
        part = wide[wide.role == role]
        axis.plot(
            part.retention, part.raw_ratio, linestyle="", label=title_of(role), alpha=0.85, **style_of(role)
        )
    axis.set(xlabel="retention (0: chance, 1: nothing lost)", ylabel="raw ratio, probe / clean")
    say_if_empty(axis, wide.retention)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    return figure


def shape_bias_plot(table: pd.DataFrame) -> Figure:
    """Shares of shape and of texture decisions under cue conflict; lines of equal shape bias."""
    wide = table.set_index(["role", "measure"])[["estimate", "low", "high"]].unstack("measure")
    wide = wide.loc[list(table.role.unique())]
    figure, axis = plt.subplots(figsize=(4.8, 4.2))
    shares = wide.loc[:, (slice(None), ["shape_share", "texture_share"])]
    top = max(shares.max().max() * 1.1, 0.25)
    for bias in (0.1, 0.3, 0.5, 0.7, 0.9):
        slope = bias / (1 - bias)
        end = min(top, top / slope)
        axis.plot([0, end], [0, end * slope], color="0.85", linewidth=0.8, zorder=0)
        axis.annotate(f"{bias:.1f}", (end, end * slope), color="0.5", fontsize="x-small")
    for role, row in wide.iterrows():
        x, y = row["estimate"]["texture_share"], row["estimate"]["shape_share"]
        low, high, style = row["low"], row["high"], style_of(role)
        axis.hlines(y, low["texture_share"], high["texture_share"], color=style["color"], linewidth=0.8)
        axis.vlines(x, low["shape_share"], high["shape_share"], color=style["color"], linewidth=0.8)
        axis.plot(x, y, linestyle="", label=title_of(role), **style)
    axis.set(
        xlim=(0, top), ylim=(0, top), xlabel="share of texture decisions", ylabel="share of shape decisions"
    )
    axis.set_aspect("equal")
    axis.legend(loc="center left", bbox_to_anchor=(1.08, 0.5), fontsize="x-small")
    return figure


def effect_map(table: pd.DataFrame) -> Figure:
    """How far each student moved from the independent one, in smallest effects of interest.

    A row for each measure and probe; the teacher's own distance in the first column, then a column for each
    student. The number is the movement; bold where its interval leaves out zero; ▸ toward the teacher, ◂ away
    from it. A cell is empty where nothing can be computed, and a row grey where "accepted" is False.
    """
    table = table.dropna(subset=["movement", "gap"])
    table = table.assign(question=[_question(row) for row in table.itertuples()])
    names, questions = list(table.method.unique()), list(table.question.unique())
    smallest = table.measure.map(SMALLEST_EFFECTS)
    scaled = table.assign(movement=table.movement / smallest, gap=table.gap / smallest)
    moves = scaled.pivot(index="question", columns="method", values="movement")
    once = scaled.drop_duplicates("question").set_index("question").reindex(questions)
    shown = np.column_stack([once.gap, moves.reindex(questions, columns=names)])
    if "accepted" in table:
        shown[~once.accepted.to_numpy(dtype=bool)] = np.nan  # grey, no colour
    figure, axis = plt.subplots(figsize=(0.62 * len(names) + 3, 0.21 * len(questions) + 1.4))
    axis.imshow(shown, cmap=plt.get_cmap("RdBu").with_extremes(bad="0.88"), vmin=-4, vmax=4, aspect="auto")
    axis.axvline(0.5, color="black", linewidth=1)
    for place, row in enumerate(table.drop_duplicates("question").itertuples()):
        _write(axis, 0, place, f"{row.gap:+.2f}", shown[place, 0], bold=False)
    for row in table.itertuples():
        x, y = names.index(row.method) + 1, questions.index(row.question)
        arrow = {"toward": " ▸", "away": " ◂"}.get(side(row), "")
        sure = row.movement_low > 0 or row.movement_high < 0
        _write(axis, x, y, f"{row.movement:+.2f}{arrow}", shown[y, x], bold=sure)
    axis.set_xticks(range(len(names) + 1), ["Teacher", *map(title_of, names)], rotation=90)
    axis.set_yticks(range(len(questions)), questions)
    axis.tick_params(length=0, labelsize="x-small", labeltop=True, labelbottom=False)
    sns.despine(ax=axis, left=True, bottom=True)
    figure.tight_layout()
    return figure


def _question(row) -> str:
    """A retention is named by its probe, another measure by itself and its probe, if it has one."""
    probe = "" if row.probe == INSIDE else row.probe.replace("_", " ")
    return probe if row.measure == "retention" else f"{row.measure.replace('_', ' ')} {probe}".strip()


def _write(axis: plt.Axes, x: float, y: float, text: str, value: float, bold: bool) -> None:
    axis.text(
        *(x, y, text),
        ha="center",
        va="center",
        fontsize="xx-small",
        fontweight="bold" if bold else "normal",
        color="white" if abs(value) > 3 else "black",
    )


def original_ratios(table: pd.DataFrame) -> Figure:
    """The original study's ratios against their retentions; crosses for networks that did not learn."""
    figure, axis = plt.subplots(figsize=(5, 3.6))
    axis.axline((0, 0), slope=1, color="0.6", linewidth=0.8, linestyle=":")
    probes = [name.removeprefix("ratio ") for name in table if name.startswith("ratio ")]
    undefined = -0.25
    for (direction, part), marker in zip(table.groupby("direction", sort=False), "os", strict=False):
        for probe, colour in zip(probes, COLOURS, strict=False):
            ratio, kept = part[f"ratio {probe}"], part[f"retention {probe}"]
            label = f"{direction_title(direction)}, {probe}"
            axis.plot(kept, ratio, marker, color=colour, label=label, markersize=4.5, alpha=0.85)
            guesses = ratio[kept.isna()]
            axis.plot([undefined] * len(guesses), guesses, "x", color=colour, markersize=5)
    axis.set(xlabel="retention (0: chance, 1: nothing lost)", ylabel="published ratio")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    return figure


def bias_profiles(table: pd.DataFrame) -> Figure:
    """What each student keeps under every probe, between its teacher and the independent student.

    Args:
        table: columns role, probe, estimate, low, high of one direction and measure; a probe is on grey
            where a column "accepted" is False.
    """
    students, probes = _students(table), list(table.probe.unique())
    figure, axes = panels(len(students), columns=5, height=0.14 * len(probes) + 0.4, sharex=True, sharey=True)
    wide = table.set_index(["role", "probe"])
    places = np.arange(len(probes))
    for axis, role in zip(axes, students, strict=True):
        for name in ("teacher", "independent", role):
            rows, style = wide.loc[name].reindex(probes), style_of(name)
            axis.plot(rows.estimate, places, linestyle="-", linewidth=0.7, markersize=3.5, **style)
            if name == role:
                axis.hlines(places, rows.low, rows.high, color=style["color"], linewidth=1.2)
        axis.axvline(0, color="0.6", linestyle=":", linewidth=0.8)
        accepted = wide.loc[role].reindex(probes).get("accepted", pd.Series(True, probes))
        for place in places[accepted.eq(False)]:
            axis.axhspan(place - 0.5, place + 0.5, color="0.88", zorder=0)
        axis.set_title(title_of(role), fontsize="small")
        axis.set_yticks(places, [probe.replace("_", " ") for probe in probes], fontsize="x-small")
        axis.set_ylim(len(probes) - 0.5, -0.5)
        say_if_empty(axis, wide.loc[role].estimate)
    shown = table[table.role.isin(["teacher", "independent", *students])].estimate.dropna()
    axes[0].set_xlim(min([0, *shown]) - 0.05, max([0, *shown]) + 0.05)
    return figure


def _students(table: pd.DataFrame) -> list[str]:
    """The methods, without references and controls."""
    column = "role" if "role" in table else "method"
    return [role for role in table[column].unique() if role not in (*REFERENCES, *CONTROLS)]


def movement_planes(table: pd.DataFrame) -> Figure:
    """Each method's movements against the teacher's distance, in smallest effects of interest.

    An arrow starts where the independent student is. On the diagonal a student has taken over all of the
    teacher's distance; on the horizontal line it has stayed; below it for a positive distance, and above it
    for a negative one, it has moved away. Filled: the movement's interval leaves out zero.
    """
    table = table.dropna(subset=["movement", "gap"])
    students, measures = _students(table), list(table.measure.unique())
    colours = dict(zip(measures, COLOURS, strict=False))
    figure, axes = panels(len(students), columns=5, width=2.1, height=2.0, sharex=True, sharey=True)
    scaled = table.assign(
        **{name: table[name] / table.measure.map(SMALLEST_EFFECTS) for name in ("movement", "gap")}
    )
    reach = 1.05 * scaled[["movement", "gap"]].abs().max().max()
    for axis, role in zip(axes, students, strict=True):
        axis.axline((0, 0), slope=1, color="0.7", linestyle=":", linewidth=0.8)
        axis.axhline(0, color="0.7", linewidth=0.8)
        axis.axvline(0, color="0.9", linewidth=0.8)
        for measure, part in scaled[scaled.method == role].groupby("measure", sort=False):
            colour = colours[measure]
            axis.vlines(part.gap, 0, part.movement, color=colour, linewidth=0.8)
            sure = (part.movement_low > 0) | (part.movement_high < 0)
            for chosen, face in ((sure, colour), (~sure, "white")):
                points = part[chosen]
                axis.plot(
                    points.gap, points.movement, "o", color=colour, markerfacecolor=face, markersize=3.5
                )
        axis.set_title(title_of(role), fontsize="small")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
    handles = [
        plt.Line2D([], [], color=colours[name], marker="o", label=name.replace("_", " ")) for name in measures
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize="x-small")
    figure.supxlabel("teacher - independent, in smallest effects of interest")
    figure.supylabel("student - independent")
    return figure


def bias_movements(table: pd.DataFrame) -> Figure:
    """For each bias, how far the teacher and every student are from the independent one: a panel a direction.

    Black: the teacher. Colours: the methods, with 95% intervals. The grey bar spans the controls without the
    other architecture's teacher. On grey ground the teacher is not established to differ. The horizontal axes
    show all estimates; intervals may reach beyond them.

    Args:
        table: as :func:`kdlib.report.answer.movements` gives it.
    """
    directions, biases = list(table.direction.unique()), list(table.bias.unique())
    lines = table[~table.method.isin(list(CONTROLS))].groupby("direction").method.nunique().max()
    height = (0.09 * lines + 0.4) * len(biases)
    figure, axes = panels(len(directions), columns=2, width=3.6, height=height, sharey=True)
    shown = {}
    for axis, direction in zip(axes, directions, strict=True):
        part = table[table.direction == direction]
        methods = _students(part)
        for place, bias in enumerate(biases):
            rows = part[part.bias == bias].set_index("method")
            defined = rows.dropna(subset=["gap"])
            controls = rows.movement[rows.index.isin(WITHOUT_IT)].dropna()
            if len(defined):
                teacher = defined.iloc[0]
                shown["teacher"] = _spot(axis, place - 0.36, "teacher", teacher, "gap")
            if not len(defined) or not teacher.established:
                axis.axhspan(place - 0.5, place + 0.5, color="0.95", zorder=0)
            if len(controls):
                axis.barh(place + 0.08, np.ptp(controls), 0.7, left=controls.min(), color="0.8", zorder=1)
            for offset, role in zip(np.linspace(-0.22, 0.38, len(methods)), methods, strict=True):
                if role in rows.index:
                    shown[role] = _spot(axis, place + offset, role, rows.loc[role], "movement")
        axis.axvline(0, color="0.4", linewidth=0.8)
        reach = [0, *part.gap.dropna(), *part.movement.dropna()]
        margin = 0.15 * (max(reach) - min(reach)) or 1
        axis.set(title=direction_title(direction), ylim=(len(biases) - 0.5, -0.5))
        axis.set_xlim(min(reach) - margin, max(reach) + margin)
        axis.set_yticks(range(len(biases)), [textwrap.fill(bias, 18) for bias in biases])
        axis.tick_params(axis="y", length=0)
    figure.supxlabel("student (teacher) minus independent student")
    figure.legend(shown.values(), map(title_of, shown), loc="outside right center", fontsize="x-small")
    return figure


def _spot(axis: plt.Axes, place: float, role: str, row: pd.Series, what: str) -> plt.Line2D:
    """An estimate with its interval."""
    style = style_of(role)
    axis.hlines(place, row[f"{what}_low"], row[f"{what}_high"], color=style["color"], linewidth=1)
    return axis.plot(row[what], place, linestyle="", **style, markersize=3.5)[0]


def shape_bias_by_class(table: pd.DataFrame) -> Figure:
    """Share of shape among cue decisions for each class of the shape; lines at each network's mean.

    Controls are left out.

    Args:
        table: columns role, class, shape_bias (NaN where no cue was named).
    """
    names, table = list(table["class"].unique()), table[~table.role.isin(list(CONTROLS))]
    figure, axis = plt.subplots(figsize=(4.4, 0.3 * len(names) + 1))
    for role in table.role.unique():
        part, style = table[table.role == role].set_index("class").loc[names], style_of(role)
        axis.plot(
            part.shape_bias, range(len(names)), linestyle="", label=title_of(role), **style, markersize=4.5
        )
        axis.axvline(part.shape_bias.mean(), color=style["color"], linewidth=0.8, alpha=0.7)
    axis.set(xlim=(0, 1), xlabel="shape decisions among cue decisions", yticks=range(len(names)))
    axis.set_yticklabels(names)
    axis.invert_yaxis()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    return figure


def accuracy_lines(table: pd.DataFrame) -> Figure:
    """Retention against accuracy on clean images, a panel for each probe.

    The grey line joins the independent student at different numbers of epochs: what accuracy alone does.

    Args:
        table: columns role, probe, clean, retention, schedule (True for the independent student's epochs).
    """
    probes = list(table.probe.unique())
    figure, axes = panels(len(probes), columns=4, width=2.1, height=1.9, sharex=True)
    for axis, probe in zip(axes, probes, strict=True):
        part = table[table.probe == probe]
        line = part[part.schedule].sort_values("clean")
        axis.plot(line.clean, line.retention, "o-", color="0.55", markersize=4)
        for row in part[~part.schedule].itertuples():
            axis.plot(
                row.clean,
                row.retention,
                **style_of(row.role),
                markersize=4,
                linestyle="",
                label=title_of(row.role),
            )
        axis.set_title(probe.replace("_", " "), fontsize="small")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="x-small")
    figure.supxlabel("accuracy on clean images")
    figure.supylabel("retention")
    return figure
