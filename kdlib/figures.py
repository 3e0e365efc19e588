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
from matplotlib.ticker import LogLocator, NullLocator

from kdlib.bias import SMALLEST_EFFECTS
from kdlib.bias.tables import side
from kdlib.probes import PROBES, Stimuli
from kdlib.roles import CONTROLS, REFERENCES, direction_title, roles, title_of

# Okabe and Ito's colours: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = "os^DvPX"


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
    # Prose in a narrow column would run down the page.
    prose = [name for name in texts if table[name].astype(str).str.len().max() > 40]
    short = [name for name in texts if name not in prose]
    style = style.set_properties(subset=texts, **{"text-align": "left"})
    style = style.set_properties(subset=short, **{"white-space": "nowrap"})
    return style.set_properties(subset=prose, **{"min-width": "15em"}).to_html()


def style_of(role: str) -> dict:
    """How a role is drawn in every figure: references black and grey, controls hollow, methods filled."""
    if role in REFERENCES:
        return {"color": "black" if role == "teacher" else "0.55", "marker": "o"}
    group = list(CONTROLS) if role in CONTROLS else [name for name in roles() if name not in CONTROLS]
    index = group.index(role)
    colour = COLOURS[index % len(COLOURS)]
    style = {"color": colour, "marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]}
    return style | ({"markerfacecolor": "white"} if role in CONTROLS else {})


def _panels(count: int, columns: int, height: float = 1.9, width: float = 2.1, **more):
    """A grid of ``count`` panels, the rest of the last row left empty: the figure and the panels."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (width * columns + 0.6, height * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **more)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, count - columns) : count]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


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
    """Test accuracy after each epoch, a panel for each student: every seed thin, their mean thick.

    The independent student's mean stands grey in every panel. A diverged run is dashed.
    """
    table = history[history.term == "test_accuracy"]
    students = [role for role in table.role.unique() if role not in REFERENCES]
    alone = table[table.role == "independent"].groupby("epoch")["value"].mean()
    figure, axes = _panels(len(students), columns=5, height=1.5, sharex=True, sharey=True)
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
    figure, axes = _panels(len(methods), columns=3, width=3.2, sharex=True)
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


def forest(
    table: pd.DataFrame,
    label: str,
    reference: float,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Estimates with intervals: a panel for each probe, a line for each role.

    Args:
        table: columns role, probe, estimate, low, high.
        label: of the horizontal axes.
        reference: where the dotted vertical line stands, e.g. chance.
        limits: of the horizontal axes; by default all estimates, whose intervals may reach beyond.
    """
    names, probes = list(table.role.unique()), list(table.probe.unique())
    height = 0.17 * len(names) + 0.5
    figure, axes = _panels(len(probes), columns=4, height=height, sharex=True, sharey=True)
    for axis, probe in zip(axes, probes, strict=True):
        part = table[table.probe == probe].set_index("role").reindex(names)
        for place, (role, row) in enumerate(part.iterrows()):
            style = style_of(role)
            axis.hlines(place, row.low, row.high, color=style["color"], linewidth=1.5)
            axis.plot(row.estimate, place, **style, markersize=4.5)
        axis.axvline(reference, color="0.4", linestyle=":", linewidth=1)
        # The independent student's interval runs through the panel: what every other is compared with.
        if "independent" in part.index:
            axis.axvspan(*part.loc["independent", ["low", "high"]], color="0.93", zorder=0)
        axis.set(title=probe.replace("_", " "), yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        axis.set_yticklabels([title_of(role) for role in names])
        axis.tick_params(axis="y", length=0)
        _say_if_empty(axis, part.estimate)
    if limits is None and table.estimate.notna().any():
        low, high = min(reference, table.estimate.min()), max(reference, table.estimate.max())
        limits = low - 0.1 * (high - low), high + 0.1 * (high - low)
    axes[0].set_xlim(limits)
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
    _say_if_empty(axis, wide.retention)
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

    A row for each role below the teacher's own distance, a column for each probe, a panel for each measure.
    The number is the movement; bold where its interval leaves out zero; ▸ toward the teacher, ◂ away from it.
    A cell is empty where nothing can be computed.
    """
    table = table.dropna(subset=["movement", "gap"])
    measures, names = list(table.measure.unique()), list(table.method.unique())
    columns = list(table.probe.unique())
    size = (0.52 * len(columns) + 2.2, 0.2 * (len(names) + 2) * len(measures) + 1)
    figure, axes = plt.subplots(len(measures), 1, figsize=size, squeeze=False, sharex=True)
    for axis, measure in zip(axes[:, 0], measures, strict=True):
        part, smallest = table[table.measure == measure], SMALLEST_EFFECTS[measure]
        moves = part.pivot(index="method", columns="probe", values="movement").reindex(
            index=names, columns=columns
        )
        gaps = part.drop_duplicates("probe").set_index("probe")["gap"].reindex(columns)
        shown = np.vstack([gaps, moves]) / smallest
        axis.imshow(shown, cmap="RdBu", vmin=-4, vmax=4, aspect="auto")
        axis.axhline(0.5, color="black", linewidth=1)
        for column, gap in enumerate(gaps):
            if not pd.isna(gap):
                _write(axis, column, 0, f"{gap:+.2f}", shown[0, column], bold=False)
        for _, row in part.iterrows():
            place = columns.index(row.probe), names.index(row.method) + 1
            arrow = {"toward": " ▸", "away": " ◂"}.get(side(row), "")
            sure = row.movement_low > 0 or row.movement_high < 0
            _write(axis, *place, f"{row.movement:+.2f}{arrow}", shown[place[1], place[0]], bold=sure)
        axis.set_title(measure.replace("_", " "))
        axis.set_xticks(range(len(columns)), [probe.replace("_", " ") for probe in columns], rotation=90)
        axis.set_yticks(range(len(names) + 1), ["Teacher", *map(title_of, names)])
        axis.tick_params(length=0)
        sns.despine(ax=axis, left=True, bottom=True)
    figure.tight_layout()
    return figure


def _write(axis: plt.Axes, x: float, y: float, text: str, value: float, bold: bool) -> None:
    axis.text(
        *(x, y, text),
        ha="center",
        va="center",
        fontsize="xx-small",
        fontweight="bold" if bold else "normal",
        color="white" if abs(value) > 3 else "black",
    )


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


def wide_table(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure as "estimate [low, high]", roles down and probes across."""
    rows = table[table.measure == measure]
    cells = [with_interval(*values) for values in zip(rows.estimate, rows.low, rows.high, strict=True)]
    rows = rows.assign(cell=cells, role=rows.role.map(title_of))
    wide = rows.pivot(index="role", columns="probe", values="cell")
    return wide.loc[rows.role.unique(), rows.probe.unique()].reset_index().rename_axis(columns=None)


def with_interval(estimate: float, low: float, high: float) -> str:
    """Like "0.53 [0.50, 0.56]", without the brackets where there is no interval."""
    if pd.isna(estimate):
        return "—"
    return f"{estimate:.2f}" if pd.isna(low) else f"{estimate:.2f} [{low:.2f}, {high:.2f}]"


def _say_if_empty(axis: plt.Axes, values: pd.Series) -> None:
    if values.isna().all():
        text = "no network learned enough for this measure"
        axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.4")
