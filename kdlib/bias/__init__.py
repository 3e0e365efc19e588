"""Measures of inductive bias, and one interval for all of them.

Each measure turns answers on a probe into an influence matrix D of shape (seeds, images): the mean of a row
is the measure of that run, the grand mean is the estimate. `crossed_interval(D)` is its interval, with
seeds and images both taken as random; `crossed_interval(D_a - D_b)` is that of a paired difference. So a
new measure needs its influence and nothing else. `transfer` compares a student, an independent student and
a teacher in this way. A measure knows nothing of models and probes: it sees predicted classes and labels.
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
from kdlib.bias.statistics import (
    Interval,
    crossed_interval,
    effect_word,
    holm,
    interval_of,
    mean_interval,
)
from kdlib.bias.transfer import Transfer, profile_cosine, profile_slopes, ratio_interval, transfer

__all__ = [
    "LARGE",
    "SMALLEST_EFFECTS",
    "Interval",
    "Transfer",
    "accuracy",
    "agreement",
    "agreement_kappa",
    "crossed_interval",
    "cue_decisions",
    "cue_rate",
    "cue_sensitivity",
    "effect_word",
    "error_consistency",
    "error_consistency_limit",
    "expected_calibration_error",
    "holm",
    "interval_of",
    "learned",
    "mean_interval",
    "negative_log_likelihood",
    "profile_cosine",
    "profile_slopes",
    "ratio",
    "ratio_interval",
    "raw_ratio",
    "retention",
    "same_error",
    "shape_bias",
    "transfer",
    "two_way_shape",
    "wilson_lower",
]
