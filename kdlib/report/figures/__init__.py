"""Figures and tables from tidy tables; nothing is computed here.

:class:`Page` keeps a figure as PNG and SVG and a table as CSV, and shows both with a numbered caption.
"""

from kdlib.report.figures.galleries import image_grid, probe_gallery
from kdlib.report.figures.page import Page
from kdlib.report.figures.plots import cost_bars, curves, forest, heat_map, movements, taus
from kdlib.report.figures.style import set_style, words
