"""Measures of inductive bias, and one interval for all of them.

A measure turns answers to a probe into an influence matrix D (seeds, images), whose grand mean is the
estimate. `crossed_interval(D)` is its interval, `crossed_interval(D_a - D_b)` that of a paired difference;
`transfer` compares a student, its baseline and its teacher in this way.

    answers -> influence (by measures) -> statistics, transfer: each reads what stands to its left
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
