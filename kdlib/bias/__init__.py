"""Measures of inductive bias, and one interval for all of them; README.md beside this file shows their use.

Answers become influence, by measures, and influence becomes statistics and transfer.
"""

from kdlib.bias.measures import (
    SMALLEST_EFFECTS,
    accuracy,
    agreement,
    agreement_kappa,
    cue_decisions,
    cue_rate,
    cue_sensitivity,
    error_consistency,
    expected_calibration_error,
    learned,
    negative_log_likelihood,
    ratio,
    raw_ratio,
    retention,
    shape_bias,
    wilson_lower,
)
from kdlib.bias.statistics import Interval, crossed_interval, holm
from kdlib.bias.transfer import Transfer, inheritance, profile_slopes, ratio_interval, transfer
