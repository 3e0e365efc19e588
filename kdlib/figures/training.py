"""How training went and what it cost."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from kdlib.figures.style import COLOURS, MARKERS, panels, style_of
from kdlib.roles import CONTROLS, REFERENCES, title_of


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


def cost_bars(table: pd.DataFrame) -> Figure:
    """Seconds of an epoch by part, a bar for each role: means over seeds."""
    colours = {"data": "0.8", "stage": COLOURS[4], "teacher": "black"}
    colours |= {"student": COLOURS[5], "method": COLOURS[1], "update": COLOURS[0]}
    parts = [part for part in colours if part in table]
    means = table.groupby("role", sort=False)[parts].mean()
    figure, axis = plt.subplots(figsize=(6, 0.24 * len(means) + 0.9))
    left = np.zeros(len(means))
    labels = [title_of(role) for role in means.index]
    for part in parts:
        axis.barh(labels, means[part], left=left, color=colours[part], label=part)
        left += means[part].fillna(0).to_numpy()
    axis.invert_yaxis()
    axis.set_xlabel("seconds an epoch")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
