"""Plots from tidy tables, one function a figure; no computing.

:class:`Page` keeps a figure as PNG and SVG and a table as CSV, and shows both with a numbered caption.
"""

from kdlib.report.figures.bias import (
    accuracy_lines,
    bias_movements,
    bias_profiles,
    effect_map,
    forest,
    movement_planes,
    original_ratios,
    ratio_beside_retention,
    shape_bias_by_class,
    shape_bias_plot,
)
from kdlib.report.figures.inside import attention_reach, likeness_maps, receptive_fields, receptive_sizes
from kdlib.report.figures.page import Page, measures_side_by_side, wide_table
from kdlib.report.figures.probes import image_grid, probe_gallery, severity_curves
from kdlib.report.figures.style import set_style, style_of
from kdlib.report.figures.training import (
    cost_bars,
    cost_beside_benefit,
    learning_curves,
    loss_terms,
    steps_over_floors,
)

__all__ = [
    "Page",
    "accuracy_lines",
    "attention_reach",
    "bias_movements",
    "bias_profiles",
    "cost_bars",
    "cost_beside_benefit",
    "effect_map",
    "forest",
    "image_grid",
    "learning_curves",
    "likeness_maps",
    "loss_terms",
    "measures_side_by_side",
    "movement_planes",
    "original_ratios",
    "probe_gallery",
    "ratio_beside_retention",
    "receptive_fields",
    "receptive_sizes",
    "set_style",
    "severity_curves",
    "shape_bias_by_class",
    "shape_bias_plot",
    "steps_over_floors",
    "style_of",
    "wide_table",
]
