"""The one look of all figures: what a colour means, what a role is called, what an empty figure is."""

from collections.abc import Callable, Iterable
from functools import wraps

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from kdlib.methods import METHODS
from kdlib.study.controls import CONTROLS, REFERENCES, direction_title, title_of

# Okabe and Ito's colours: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
KINDS = {  # what a network is, or what a method matches of the teacher -> how it is drawn
    "teacher": {"color": "black", "marker": "D"},
    "baseline": {"color": "0.55", "marker": "o"},
    "matches predictions": {"color": COLOURS[0], "marker": "o"},
    "matches features": {"color": COLOURS[1], "marker": "s"},
    "matches both": {"color": COLOURS[2], "marker": "^"},
    "control": {"color": COLOURS[3], "marker": "o", "markerfacecolor": "white"},
    "untrained": {"color": "0.75", "marker": "x"},
}
TITLES = {"far_near": "long-range interaction ratio", "untrained": "Baseline, untrained"}


def set_style() -> None:
    """The one style of all figures, whatever a matplotlibrc says: for a column's width, with text in SVG."""
    plt.rcdefaults()
    sns.set_theme(context="paper", style="ticks", font_scale=1.05)
    plt.rcParams |= {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 110,
        "figure.labelsize": "medium",
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "kdlib",  # the same figure gives the same file
        "text.parse_math": False,  # a class may be named $1
    }


def kind_of(role: str) -> str:
    """Which of KINDS a role is: a colour tells what is matched, a label tells which method it is."""
    if role in (*REFERENCES, "untrained"):
        return role
    if role in CONTROLS:
        return "control"
    logits, features = "logits" in METHODS[role].reads, set(METHODS[role].reads) - {"logits"}
    return "matches both" if logits and features else f"matches {'features' if features else 'predictions'}"


def style_of(role: str) -> dict:
    return KINDS[kind_of(role)]


def words(name: str) -> str:
    """What figures and texts call a direction, a role, a measure or a probe; a title stays as it is."""
    if "_to_" in name:
        return direction_title(name)
    try:
        return TITLES.get(name) or title_of(name)
    except KeyError:  # no role
        return name.replace("_", " ")


def legend(figure: Figure, roles: Iterable[str]) -> None:
    """Over the panels, what the colours of these roles mean."""
    present = {kind_of(role) for role in roles}
    handles = [
        plt.Line2D([], [], linestyle="", label=kind, **look)
        for kind, look in KINDS.items()
        if kind in present
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize="small")


def panels(count: int, columns: int, height: float = 1.9, width: float = 2.1, **more):
    """A grid of ``count`` panels, the rest of the last row left empty: the figure and the panels."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (width * columns + 0.6, height * rows + 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **more)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, count - columns) : count]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def needs(value: str) -> Callable:
    """Decorates a figure of a table: None, which :class:`Page` tells in a line, where no value is defined."""

    def decorate(draw: Callable[..., Figure]) -> Callable[..., Figure | None]:
        @wraps(draw)
        def drawn(table: pd.DataFrame, *arguments, **options) -> Figure | None:
            if value not in table or table[value].isna().all():
                return None
            return draw(table.astype({value: float}), *arguments, **options)

        return drawn

    return decorate
