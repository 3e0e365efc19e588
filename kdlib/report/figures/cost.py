"""What training costs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlib.report.figures.style import COLOURS, words

PARTS = {"data": "0.8", "stage": COLOURS[4], "teacher": "black"}
PARTS |= {"student": COLOURS[5], "method": COLOURS[1], "update": COLOURS[0]}


def cost_bars(table: pd.DataFrame) -> Figure:
    """Seconds of an epoch by part, a bar for each role: means over seeds."""
    parts = [part for part in PARTS if part in table]
    means = table.groupby("role", sort=False)[parts].mean().rename(index=words)
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
        left.set(title=words(direction), xlabel="a step, over its floor")
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
