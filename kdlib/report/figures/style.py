"""The one look of all figures: colours, markers, panels."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from kdlib.study.controls import CONTROLS, REFERENCES, roles

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
        "figure.labelsize": "medium",
        "legend.frameon": False,
        "savefig.bbox": "tight",
        "svg.fonttype": "none",
        "svg.hashsalt": "kdlib",  # the same figure gives the same file
    }


def style_of(role: str) -> dict:
    """How a role is drawn in every figure: references black and grey, controls hollow, methods filled."""
    if role in REFERENCES:
        return {"color": "black" if role == "teacher" else "0.55", "marker": "o"}
    group = list(CONTROLS) if role in CONTROLS else [name for name in roles() if name not in CONTROLS]
    index = group.index(role)
    colour = COLOURS[index % len(COLOURS)]
    style = {"color": colour, "marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]}
    return style | ({"markerfacecolor": "white"} if role in CONTROLS else {})


def panels(count: int, columns: int, height: float = 1.9, width: float = 2.1, **more):
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


def say_if_empty(axis: plt.Axes, values: pd.Series) -> None:
    """A panel without values says so: no network learned enough for the measure."""
    if values.isna().all():
        text = "not defined"
        axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", fontsize="small", color="0.4")
