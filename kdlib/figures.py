"""Plots from tidy tables, one function a figure; no computing.

:class:`Page` keeps a figure as PNG and SVG and a table as CSV, and shows both with a numbered caption.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

from kdlib.methods import METHODS
from kdlib.probes import PROBES, Stimuli

# Okabe and Ito's colours: told apart with any colour vision. The controls are grey and black everywhere.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = "os^DvPX"
DIRECTIONS = {"cnn_to_vit": "CNN → ViT", "vit_to_cnn": "ViT → CNN"}


def set_style() -> None:
    """The one style of all figures: readable at a column's width, text kept as text in SVG."""
    sns.set_theme(context="paper", style="ticks", font_scale=1.05)
    plt.rcParams |= {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 110,
        "legend.frameon": False,
        "savefig.bbox": "tight",
        "svg.fonttype": "none",
        "svg.hashsalt": "kdlib",  # the same figure gives the same file
    }


class Page:
    """A chapter's figures and tables, under ``<folder>/figures`` and ``<folder>/tables``."""

    def __init__(self, folder: Path, chapter: int):
        self.folder, self.chapter = folder, chapter
        self.counts = {"Figure": 0, "Table": 0}
        set_style()

    def _caption(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        display(Markdown(f"**{kind} {self.chapter}.{self.counts[kind]}.** {text}"))

    def figure(self, figure: Figure, name: str, caption: str) -> None:
        """Save as ``<chapter>_<name>.png`` and ``.svg``, and show with its caption."""
        folder = self.folder / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.chapter:02}_{name}.png"
        figure.savefig(path, dpi=160)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        plt.close(figure)
        width = round(figure.get_size_inches()[0] * 100)
        display(Image(path, width=width, metadata={"alt": caption}))
        self._caption("Figure", caption)

    def table(self, table: pd.DataFrame, name: str, caption: str, show: pd.DataFrame | None = None) -> None:
        """Save as ``<chapter>_<name>.csv``; show it, or ``show`` in its place, with its caption."""
        self.save(table, name)
        self._caption("Table", caption)
        display(HTML(_table_html(table if show is None else show, f"t{self.chapter}{self.counts['Table']}")))

    def save(self, table: pd.DataFrame, name: str) -> None:
        """Keep a table as ``<chapter>_<name>.csv`` without showing it."""
        folder = self.folder / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / f"{self.chapter:02}_{name}.csv", index=False)

    def gallery(self, stimuli: dict[str, Stimuli], family: str, caption: str) -> None:
        """The pictures of one family's probes, as far as they are among the stimuli."""
        shown = {name: made for name, made in stimuli.items() if PROBES[name].family == family}
        if not shown:
            display(Markdown(f"*This profile has no probe of the family {family}.*"))
            return
        self.figure(probe_gallery(shown, stimuli["clean"]), f"probe_{family}", caption)


def _table_html(table: pd.DataFrame, name: str) -> str:
    """Numbers to the right, text to the left; the same table gives the same HTML."""
    texts = list(table.select_dtypes(exclude="number").columns)
    head = {"selector": "th", "props": "text-align: left"}
    style = table.style.hide(axis="index").set_uuid(name).set_table_styles([head])
    style = style.format(precision=3, na_rep="—")
    return style.set_properties(subset=texts, **{"text-align": "left"}).to_html()


def title_of(role: str) -> str:
    """What a figure calls a role: "Teacher", "Independent" or the method's title."""
    return METHODS[role].title if role in METHODS else role.capitalize()


def palette(roles: list[str]) -> dict[str, str]:
    """A colour for each role; a method has the same one in every figure."""
    methods = [name for name in METHODS if name != "independent"]
    fixed = {"teacher": "black", "independent": "0.55"}
    return {role: fixed.get(role) or COLOURS[methods.index(role) % len(COLOURS)] for role in roles}


def image_grid(images: dict[str, np.ndarray], columns: int, size: float = 0.95) -> Figure:
    """Rows of pictures, each with its name at the left: (n, 3, H, W) uint8, the first ``columns`` of each."""
    figure, axes = plt.subplots(
        len(images), columns, figsize=(size * columns + 1.6, size * len(images)), squeeze=False
    )
    for row, (name, pictures) in zip(axes, images.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(np.moveaxis(np.asarray(picture), 0, -1), interpolation="nearest")
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure


def probe_gallery(stimuli: dict[str, Stimuli], clean: Stimuli, columns: int = 8) -> Figure:
    """The same test images under every probe of a family, below the images as they are."""
    first = next(iter(stimuli.values())).ids[:columns]
    rows = {"clean": clean.images[first].numpy()}
    for name, made in stimuli.items():
        place = {image: row for row, image in enumerate(made.ids.tolist())}
        rows[name] = made.images[[place[image] for image in first.tolist()]].numpy()
    return image_grid(rows, len(first))


def learning_curves(history: pd.DataFrame) -> Figure:
    """Test accuracy after each epoch: every seed thin, their mean thick. A diverged run is dashed."""
    table = history[history.term == "test_accuracy"]
    colours = palette(list(table.role.unique()))
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for (role, _), run in table.groupby(["role", "seed"], sort=False):
        style = "--" if run.diverged.any() else "-"
        axis.plot(run.epoch, run.value, style, color=colours[role], alpha=0.35, linewidth=0.8)
    means = table.groupby(["role", "epoch"], sort=False)["value"].mean().reset_index()
    for role, mean in means.groupby("role", sort=False):
        axis.plot(mean.epoch, mean.value, "o-", color=colours[role], label=title_of(role), markersize=4)
    axis.set(xlabel="epoch", ylabel="test accuracy")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def loss_terms(history: pd.DataFrame) -> Figure:
    """Each method's weighted loss terms over the epochs, one panel a method; seeds thin, mean thick."""
    table = history[~history.term.isin(["loss", "train_accuracy", "test_accuracy"])].dropna(subset="value")
    table = table[~table.role.isin(["teacher", "independent"])]
    roles = list(table.role.unique())
    figure, axes = plt.subplots(1, len(roles), figsize=(3.2 * len(roles), 2.8), squeeze=False)
    for axis, role in zip(axes[0], roles, strict=True):
        part = table[table.role == role]
        for index, (term, curve) in enumerate(part.groupby("term", sort=False)):
            colour = COLOURS[index]
            for _, run in curve.groupby("seed"):
                axis.plot(run.epoch, run.value, color=colour, alpha=0.35, linewidth=0.8)
            mean = curve.groupby("epoch")["value"].mean()
            axis.plot(mean.index, mean, MARKERS[index] + "-", color=colour, label=term, markersize=4)
        axis.set(xlabel="epoch", title=title_of(role), yscale="log")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    axes[0, 0].set_ylabel("weighted loss term")
    figure.tight_layout()
    return figure


def dot_plot(
    table: pd.DataFrame,
    label: str,
    reference: float,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Estimates with intervals, a line for each probe and a colour for each role.

    Args:
        table: columns role, probe, estimate, low, high.
        label: of the horizontal axis.
        reference: where the dotted vertical line stands, e.g. chance.
        limits: of the horizontal axis; an interval may reach beyond.
    """
    roles, names = list(table.role.unique()), list(table.probe.unique())
    colours = palette(roles)
    figure, axis = plt.subplots(figsize=(6, 0.16 * len(names) * (len(roles) + 1) + 0.9))
    for index, role in enumerate(roles):
        part = table[table.role == role].set_index("probe").reindex(names)
        height = np.arange(len(names)) + (index - (len(roles) - 1) / 2) * 0.75 / len(roles)
        axis.hlines(height, part.low, part.high, color=colours[role], linewidth=1.6)
        marker = MARKERS[index % len(MARKERS)]
        axis.plot(part.estimate, height, marker, color=colours[role], markersize=4.5, label=title_of(role))
    axis.axvline(reference, color="0.4", linestyle=":", linewidth=1)
    for edge in np.arange(0.5, len(names) - 1):
        axis.axhline(edge, color="0.9", linewidth=0.8, zorder=0)
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel=label, ylim=(len(names) - 0.5, -0.5))
    axis.set_xlim(limits)
    _say_if_empty(axis, table.estimate)
    axis.tick_params(axis="y", length=0)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def ratio_beside_retention(table: pd.DataFrame) -> Figure:
    """The original's raw ratio against the chance-adjusted retention, a point for each model and probe."""
    wide = table.set_index(["role", "probe", "measure"])["estimate"].unstack("measure")
    wide = wide.dropna(subset=["raw_ratio", "retention"]).reset_index()
    roles = list(table.role.unique())
    colours = palette(roles)
    figure, axis = plt.subplots(figsize=(4.6, 3.8))
    axis.axline((0, 0), slope=1, color="0.6", linewidth=0.8, linestyle=":")
    axis.axvline(0, color="0.85", linewidth=0.8)
    for index, role in enumerate(roles):
        part = wide[wide.role == role]
        marker = MARKERS[index % len(MARKERS)]
        axis.plot(
            part.retention, part.raw_ratio, marker, color=colours[role], label=title_of(role), alpha=0.85
        )
    axis.set(xlabel="retention (0: chance, 1: nothing lost)", ylabel="raw ratio, probe / clean")
    _say_if_empty(axis, wide.retention)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def shape_bias_plot(table: pd.DataFrame) -> Figure:
    """Shares of shape and of texture decisions under cue conflict; lines of equal shape bias."""
    wide = table.set_index(["role", "measure"])[["estimate", "low", "high"]].unstack("measure")
    wide = wide.loc[list(table.role.unique())]
    colours = palette(list(wide.index))
    figure, axis = plt.subplots(figsize=(4.4, 3.8))
    shares = wide.loc[:, (slice(None), ["shape_share", "texture_share"])]
    top = max(shares.max().max() * 1.1, 0.25)
    for bias in (0.1, 0.3, 0.5, 0.7, 0.9):
        slope = bias / (1 - bias)
        end = min(top, top / slope)
        axis.plot([0, end], [0, end * slope], color="0.85", linewidth=0.8, zorder=0)
        axis.annotate(f"{bias:.1f}", (end, end * slope), color="0.5", fontsize="x-small")
    for index, (role, row) in enumerate(wide.iterrows()):
        x, y = row["estimate"]["texture_share"], row["estimate"]["shape_share"]
        low, high = row["low"], row["high"]
        axis.hlines(y, low["texture_share"], high["texture_share"], color=colours[role], linewidth=1)
        axis.vlines(x, low["shape_share"], high["shape_share"], color=colours[role], linewidth=1)
        axis.plot(x, y, MARKERS[index % len(MARKERS)], color=colours[role], label=title_of(role))
    axis.set(
        xlim=(0, top), ylim=(0, top), xlabel="share of texture decisions", ylabel="share of shape decisions"
    )
    axis.set_aspect("equal")
    axis.legend(loc="center left", bbox_to_anchor=(1.05, 0.5))
    return figure


def transfer_plane(table: pd.DataFrame) -> Figure:
    """Movement of the student against the teacher's gap, a panel for each measure, a point for each probe.

    Filled where the gap is established. On the dashed line the student has become the teacher; in the shaded
    quadrants it moved away.
    """
    table = table.dropna(subset=["movement", "gap"])
    measures, methods = list(table.measure.unique()), list(table.method.unique())
    colours = palette(methods)
    figure, axes = plt.subplots(1, len(measures), figsize=(3.4 * len(measures), 3.3), squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        part = table[table.measure == measure]
        reach = 1.3 * max(part[["gap", "movement"]].abs().max().max(), 0.02)
        for corner in ((0, -reach), (-reach, 0)):
            axis.add_patch(plt.Rectangle(corner, reach, reach, color="0.95", zorder=0))
        axis.axline((0, 0), slope=1, color="0.6", linestyle="--", linewidth=0.8)
        axis.axhline(0, color="0.7", linewidth=0.8)
        axis.axvline(0, color="0.7", linewidth=0.8)
        for index, method in enumerate(methods):
            rows = part[part.method == method]
            axis.vlines(rows.gap, rows.movement_low, rows.movement_high, color=colours[method], linewidth=1)
            for established, points in rows.groupby("established"):
                axis.plot(
                    *(points.gap, points.movement, MARKERS[index % len(MARKERS)]),
                    color=colours[method],
                    markerfacecolor=colours[method] if established else "white",
                    markersize=5,
                )
            axis.plot([], [], MARKERS[index % len(MARKERS)], color=colours[method], label=title_of(method))
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), title=measure.replace("_", " "))
        axis.set_xlabel("teacher − independent")
    axes[0, 0].set_ylabel("student − independent")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def cost_bars(table: pd.DataFrame) -> Figure:
    """Seconds of an epoch by part, a bar for each role: means over seeds."""
    parts = ["data", "teacher", "student", "method", "update"]
    parts = [part for part in parts if part in table]
    means = table.groupby("role", sort=False)[parts].mean()
    figure, axis = plt.subplots(figsize=(6, 0.42 * len(means) + 0.9))
    left = np.zeros(len(means))
    labels = [title_of(role) for role in means.index]
    for part, colour in zip(parts, ("0.8", "black", COLOURS[5], COLOURS[1], COLOURS[0]), strict=False):
        axis.barh(labels, means[part], left=left, color=colour, label=part)
        left += means[part].fillna(0).to_numpy()
    axis.invert_yaxis()
    axis.set_xlabel("seconds an epoch")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def original_ratios(table: pd.DataFrame) -> Figure:
    """The original study's ratios against their retentions; crosses for networks that did not learn."""
    figure, axis = plt.subplots(figsize=(5, 3.6))
    axis.axline((0, 0), slope=1, color="0.6", linewidth=0.8, linestyle=":")
    probes = [name.removeprefix("ratio ") for name in table if name.startswith("ratio ")]
    undefined = -0.25
    for (direction, part), marker in zip(table.groupby("direction", sort=False), "os", strict=False):
        for probe, colour in zip(probes, COLOURS, strict=False):
            ratio, kept = part[f"ratio {probe}"], part[f"retention {probe}"]
            label = f"{DIRECTIONS[direction]}, {probe}"
            axis.plot(kept, ratio, marker, color=colour, label=label, markersize=4.5, alpha=0.85)
            guesses = ratio[kept.isna()]
            axis.plot([undefined] * len(guesses), guesses, "x", color=colour, markersize=5)
    axis.set(xlabel="retention (0: chance, 1: nothing lost)", ylabel="published ratio")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    return figure


def wide_table(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure as "estimate [low, high]", probes down and roles across."""
    rows = table[table.measure == measure]
    cells = [with_interval(*values) for values in zip(rows.estimate, rows.low, rows.high, strict=True)]
    rows = rows.assign(cell=cells, role=rows.role.map(title_of))
    wide = rows.pivot(index="probe", columns="role", values="cell")
    return wide.loc[rows.probe.unique(), rows.role.unique()].reset_index().rename_axis(columns=None)


def with_interval(estimate: float, low: float, high: float) -> str:
    """Like "0.53 [0.50, 0.56]", without the brackets where there is no interval."""
    if pd.isna(estimate):
        return "—"
    return f"{estimate:.2f}" if pd.isna(low) else f"{estimate:.2f} [{low:.2f}, {high:.2f}]"


def _say_if_empty(axis: plt.Axes, values: pd.Series) -> None:
    if values.isna().all():
        text = "no network learned enough for this measure"
        axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.4")
