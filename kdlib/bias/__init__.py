"""Measures of inductive bias, and one interval for all of them.

A measure turns answers to a probe into an influence matrix D (seeds, images): the mean of a row is the
measure of that run, the grand mean the estimate. `crossed_interval(D)` is its interval, with seeds and images
both taken as random; `crossed_interval(D_a - D_b)` is that of a paired difference. A new measure needs its
influence and nothing else. `transfer` compares a student, its baseline and its teacher in this way.

    answers -> influence (by measures) -> statistics, transfer: each reads what stands to its left
"""

from kdlib.bias.measures import (
    LARGE,
    SMALLEST_EFFECTS,
    accuracy,
    agreement,
    agreement_kappa,
    cue_decisions,
    cue_rate,
    cue_sensitivity,
    error_consistency,
    error_consistency_limit,
    expected_calibration_error,
    learned,
    negative_log_likelihood,
    ratio,
    raw_ratio,
    retention,
    same_error,
    shape_bias,
    two_way_shape,
    wilson_lower,
)
from kdlib.bias.statistics import Interval, crossed_interval, effect_word, holm, interval_of, mean_interval
from kdlib.bias.transfer import Transfer, profile_cosine, profile_slopes, ratio_interval, transfer
