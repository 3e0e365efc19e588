"""How training went and what it cost."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from kdlib.report.figures.style import COLOURS, MARKERS, panels, style_of
from kdlib.study.controls import CONTROLS, REFERENCES, direction_title, title_of


def learning_curves(history: pd.DataFrame) -> Figure:
    """Test accuracy after each epoch, a panel for each student: every seed thin, their mean thick.

    The independent student's mean stands grey in every panel. A diverged run is dashed.
    """
    table = history[history.term == "test_accuracy"]
    students = [role for role in table.role.unique() if role not in REFERENCES]
    alone = table[table.role == "independent"].groupby("epoch")["value"].mean()
    figure, axes = panels(len(students), columns=5, height=1.5, sharex=True, sharey=True)
    for axis, role in zip(axes, students, strict=True):
        part, style = table[table.role == role], style_of(role)
        axis.plot(alone.index, alone, "o-", color="0.55", markersize=3)
        for _, run in part.groupby("seed"):
            dashes = "--" if run.diverged.any() else "-"
            axis.plot(run.epoch, run.value, dashes, color=style["color"], alpha=0.4, linewidth=0.8)
        mean = part.groupby("epoch")["value"].mean()
        axis.plot(mean.index, mean, **style, markersize=4)
        axis.set_title(title_of(role))
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("epoch")
    figure.supylabel("test accuracy")
    return figure


def loss_terms(history: pd.DataFrame) -> Figure:
    """Each method's weighted loss terms over the epochs, one panel a method: the mean over seeds."""
    table = history[~history.term.isin(["loss", "train_accuracy", "test_accuracy"])].dropna(subset="value")
    table = table[~table.role.isin([*REFERENCES, *CONTROLS]) & ~table.term.str.startswith("stage_")]
    methods = list(table.role.unique())
    figure, axes = panels(len(methods), columns=3, width=3.2, sharex=True)
    for axis, role in zip(axes, methods, strict=True):
        for index, (term, curve) in enumerate(table[table.role == role].groupby("term", sort=False)):
            mean = curve.groupby("epoch")["value"].mean()
            axis.plot(mean.index, mean, MARKERS[index] + "-", color=COLOURS[index], label=term, markersize=4)
        axis.set(title=title_of(role), yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.supxlabel("epoch")
    figure.supylabel("weighted loss term")
    return figure


PARTS = {"data": "0.8", "stage": COLOURS[4], "teacher": "black"}
PARTS |= {"student": COLOURS[5], "method": COLOURS[1], "update": COLOURS[0]}


def cost_bars(table: pd.DataFrame) -> Figure:
    """Seconds of an epoch by part, a bar for each role: means over seeds."""
    parts = [part for part in PARTS if part in table]
    means = table.groupby("role", sort=False)[parts].mean().rename(index=title_of)
    figure, axis = plt.subplots(figsize=(6, 0.24 * len(means) + 0.9))
    _stack(axis, means)
    axis.set_xlabel("seconds an epoch")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def steps_over_floors(table: pd.DataFrame, goal: float) -> Figure:
    """A step in steps of its floor, and what its time goes to; a row of panels for each direction.

    Args:
        table: as :func:`kdlib.study.bench.step_costs` makes it.
        goal: where the line stands.
    """
    directions = table.groupby("direction", sort=False)
    size = (8, 0.2 * len(table) + 0.8 * len(directions))
    figure, axes = plt.subplots(len(directions), 2, figsize=size, squeeze=False, layout="constrained")
    for (left, right), (direction, rows) in zip(axes, directions, strict=True):
        rows = rows.set_index("title")
        left.plot(rows.flop_over_floor, rows.index, "o", color="0.55", mfc="none", label="its operations")
        left.plot(rows.over_floor, rows.index, "o", color=COLOURS[0], label="its time")
        left.axvline(1, color="0.6", linewidth=0.8)
        left.axvline(goal, color=COLOURS[1], linestyle=":", label=f"{goal:.2f}")
        left.set(title=direction_title(direction), xlabel="a step, over its floor")
        parts = rows[[part for part in PARTS if part in rows]]
        _stack(right, parts.div(parts.sum(axis=1), axis=0))
        left.sharey(right)
        right.tick_params(labelleft=False)
        right.set_xlabel("share of a step")
    axes[0, 0].legend(fontsize="x-small")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS))
    return figure


def _stack(axis: plt.Axes, parts: pd.DataFrame) -> None:
    """A bar for each row, of the columns one after the other; the first row at the top."""
    left = np.zeros(len(parts))
    for part in parts:
        axis.barh(parts.index, parts[part], left=left, color=PARTS[part], label=part)
        left += parts[part].fillna(0).to_numpy()
    axis.invert_yaxis()


def cost_beside_benefit(table: pd.DataFrame) -> Figure:
    """What a student gains against what its training costs, a panel for each gain, with 95% intervals.

    Args:
        table: columns role, cost (in runs of the independent student), gain (name), estimate, low, high.
    """
    gains = list(table.gain.unique())
    figure, axes = panels(len(gains), columns=2, width=3.0, height=2.6, sharex=True)
    for axis, gain in zip(axes, gains, strict=True):
        for row in table[table.gain == gain].itertuples():
            style = style_of(row.role)
            axis.vlines(row.cost, row.low, row.high, color=style["color"], linewidth=0.8)
            axis.plot(row.cost, row.estimate, linestyle="", label=title_of(row.role), **style, markersize=5)
        axis.axhline(0, color="0.6", linestyle=":", linewidth=0.8)
        axis.set(xscale="log", ylabel=gain)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="x-small")
    figure.supxlabel("cost of training, in runs of the independent student")
    return figure
