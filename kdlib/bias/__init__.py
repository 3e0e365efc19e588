"""Measures of inductive bias, and one interval for all of them.

Each measure turns answers on a probe into an influence matrix D of shape (seeds, images): the mean of a row
is the measure of that run, the grand mean is the estimate. `crossed_interval(D)` is its interval, with
seeds and images both taken as random; `crossed_interval(D_a - D_b)` is that of a paired difference. So a
new measure needs its influence and nothing else. `transfer` compares a student, an independent student and
a teacher in this way. A measure knows nothing of models and probes: it sees predicted classes and labels.
"""

from kdlib.bias.measures import (
    SMALLEST_EFFECTS,
    Transfer,
    accuracy,
    cue_decisions,
    cue_rate,
    learned,
    raw_ratio,
    retention,
    shape_bias,
    transfer,
)
from kdlib.bias.statistics import Interval, crossed_interval

__all__ = [
    "SMALLEST_EFFECTS",
    "Interval",
    "Transfer",
    "accuracy",
    "crossed_interval",
    "cue_decisions",
    "cue_rate",
    "learned",
    "raw_ratio",
    "retention",
    "shape_bias",
    "transfer",
]
