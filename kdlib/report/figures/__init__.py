"""Figures and tables from tidy tables; nothing is computed here.

:class:`Page` keeps a figure as PNG and SVG and a table as CSV, and shows both with a numbered caption.
"""

from kdlib.report.figures.cost import cost_bars, steps_over_floors
from kdlib.report.figures.galleries import image_grid, probe_gallery
from kdlib.report.figures.page import Page
from kdlib.report.figures.plots import curves, forest, heat_map, movements, taus
from kdlib.report.figures.style import set_style, words

__all__ = [
    "Page",
    "cost_bars",
    "curves",
    "forest",
    "heat_map",
    "image_grid",
    "movements",
    "probe_gallery",
    "set_style",
    "steps_over_floors",
    "taus",
    "words",
]
