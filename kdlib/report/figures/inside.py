"""What was seen inside the networks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlib.report.figures.style import panels, style_of
from kdlib.study.controls import title_of


def _name(role: str) -> str:
    return "Independent, untrained" if role == "untrained" else title_of(role)


def _by_depth(table: pd.DataFrame, label: str) -> Figure:
    """Mean over seeds and heads of a value at each depth, a line for each network."""
    figure, axis = plt.subplots(figsize=(4.4, 3.2))
    for role in table.role.unique():
        line = table[table.role == role].groupby("place")["value"].mean()
        style = {"color": "0.8", "marker": "x"} if role == "untrained" else style_of(role)
        axis.plot(line.index, line, label=_name(role), **style, markersize=4.5, linewidth=1)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(ylabel=label)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    return figure


def receptive_sizes(table: pd.DataFrame) -> Figure:
    """Radius of the effective receptive field at each stage: columns role, seed, measure, place, value."""
    figure = _by_depth(table[table.measure == "rms"], "radius of the receptive field, px")
    figure.axes[0].set_xlabel("stage")
    return figure


def attention_reach(table: pd.DataFrame) -> Figure:
    """Mean distance of attention in every block, in distances of uniform attention; as above."""
    figure = _by_depth(table[table.measure == "attention"], "mean distance of attention / uniform")
    figure.axes[0].axhline(1, color="0.6", linestyle=":", linewidth=0.8)
    figure.axes[0].set_xlabel("block")
    return figure


def receptive_fields(maps: dict[str, np.ndarray]) -> Figure:
    """Where each stage's central unit looks: role -> (stages, H, W), each scaled to its peak."""
    stages = max(len(fields) for fields in maps.values())
    size = (0.75 * stages + 1.6, 0.75 * len(maps))
    figure, axes = plt.subplots(len(maps), stages, figsize=size, squeeze=False)
    for row, (role, fields) in zip(axes, maps.items(), strict=True):
        for axis, field in zip(row, fields, strict=True):
            axis.imshow(np.sqrt(field / field.max()), cmap="magma", vmin=0, vmax=1)
            axis.set_axis_off()
        row[0].text(-0.15, 0.5, _name(role), transform=row[0].transAxes, ha="right", va="center")
    for stage, axis in enumerate(axes[0], start=1):
        axis.set_title(f"stage {stage}", fontsize="small")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure


def likeness_maps(table: pd.DataFrame) -> Figure:
    """CKA between the stages of each student and of its teacher, mean over seeds, a panel for each student.

    Args:
        table: columns role, seed, student_stage, teacher_stage, cka.
    """
    roles = list(table.role.unique())
    figure, axes = panels(len(roles), columns=6, width=1.5, height=1.5, sharex=True, sharey=True)
    for axis, role in zip(axes, roles, strict=True):
        part = table[table.role == role]
        grid = part.pivot_table(index="student_stage", columns="teacher_stage", values="cka", sort=False)
        image = axis.imshow(grid, cmap="cividis", vmin=0, vmax=1, origin="lower")
        axis.set_title(title_of(role), fontsize="x-small")
        axis.set_xticks(range(grid.shape[1]), grid.columns, fontsize="x-small")
        axis.set_yticks(range(grid.shape[0]), grid.index, fontsize="x-small")
    figure.colorbar(image, ax=axes, shrink=0.6, label="CKA")
    figure.supxlabel("teacher's stage")
    figure.supylabel("student's stage")
    return figure
