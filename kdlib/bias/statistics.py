"""One interval for every measure: seeds and images are both samples.

A number in this study varies for two reasons: another training seed gives another network, and other test
images give another score. All seeds answer the same images, so neither seeds nor images are independent
repeats of the whole: the two are crossed. With D[s, i] the influence of image i on the measure of seed s,

    D[s, i] = mean + seed[s] + image[i] + residual[s, i]        (all three random, mean 0)

and the variance of the grand mean follows in closed form from the mean squares of a two-way table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the units of the measure."""

    estimate: float
    low: float
    high: float
    narrow_low: float  # ends of the 90% interval, for a 5% test of equivalence
    narrow_high: float
    p: float  # two-sided, for "the mean is 0"
    df: float  # degrees of freedom of the t distribution behind low, high and p
    error: float  # the standard error

    def __str__(self) -> str:
        return with_interval(self.estimate, self.low, self.high)


def crossed_interval(influence: np.ndarray, level: float = 0.95) -> Interval:
    """Confidence interval of the grand mean of `influence` (k seeds, n images), for new seeds and new images.

    The mean squares of seeds, images and residual estimate, in turn,

        MS_seed = n var_seed + var_residual,   MS_image = k var_image + var_residual,   MS_res = var_residual

    so Var(mean) = var_seed/k + var_image/n + var_residual/(k n) = (MS_seed + MS_image - MS_res)/(k n). A
    negative estimate of a variance component counts as 0, which leaves the larger of MS_seed and MS_image
    as the floor. The degrees of freedom are Satterthwaite's for that sum of mean squares, at least k - 1.

    Nominal 95% covered .93 to .97 in simulation with 3 or 5 seeds and shared image effects, more without the
    latter (too wide), and down to .88 with 2 seeds that differ by 5 points (too narrow). scipy's bootstrap
    and statsmodels' clusters of images are narrower: docs/other_libraries.md. A variance of 0 gives an
    interval of width 0, with p = 1 if the estimate is 0 and p = 0 otherwise.

    One column (k, 1) is a measure without influence of single images, such as CKA: the interval is Student's
    t over seeds, on these images.

    One seed, or a value that is not finite, as of a run that did not learn, leaves the estimate alone: the
    rest is NaN. Raises ValueError for another shape, or a level outside (0, 1).
    """
    values = np.asarray(influence, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"influence has shape {values.shape}; stack one row a seed: (seeds, images)")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1: write 95% as 0.95")
    k, n = values.shape
    if k < 2 or not np.isfinite(values).all():
        return Interval(float(values.mean()), *[np.nan] * 7)
    origin = values[0, 0]
    estimate = float(origin + (values - origin).mean())
    error, df = standard_error(mean_products(values)[0, 0], k, n)
    wide, narrow = (special.stdtrit(df, (1 + share) / 2) * error for share in (level, 0.90))
    p = float(2 * special.stdtr(df, -abs(estimate) / error)) if error else float(estimate == 0)
    ends = estimate - wide, estimate + wide, estimate - narrow, estimate + narrow
    return Interval(estimate, *map(float, ends), p, df, error)


def mean_products(*matrices: np.ndarray) -> np.ndarray:
    """Mean squares, and off the diagonal mean products, of m matrices (k, n): shape (m, m, 3).

    The last axis is seeds, images, residual. One column (n = 1) has neither images nor a residual: 0.
    """
    values = np.stack(matrices)
    _, k, n = values.shape
    # Measured from one of its entries, a constant matrix has variance 0, not the square of a rounding error.
    values = values - values[:, :1, :1]
    mean = values.mean(axis=(1, 2), keepdims=True)
    seeds = values.mean(axis=2, keepdims=True) - mean
    images = values.mean(axis=1, keepdims=True) - mean
    residual = values - mean - seeds - images
    sums = [np.einsum("aki,bki->ab", effect, effect) for effect in (seeds, images, residual)]
    return np.stack(sums, axis=-1) * [n, k, 1] / _freedom(k, n)


def standard_error(squares: np.ndarray, k: int, n: int) -> tuple[float, float]:
    """Standard error of a grand mean and its degrees of freedom, from the three mean squares."""
    seeds, images, residual = squares
    total = seeds + images - residual
    peak = max(total, seeds, images)
    if peak <= 0:
        return 0.0, k - 1.0
    # Shares of the largest: the squares of very small mean squares would underflow to 0/0.
    spread = np.sum((squares / peak) ** 2 / _freedom(k, n))
    return float(np.sqrt(peak / (k * n))), max(k - 1.0, float((total / peak) ** 2 / spread))


def _freedom(k: int, n: int) -> np.ndarray:
    return np.maximum([k - 1, n - 1, (k - 1) * (n - 1)], 1)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's (1979) adjusted p of one family of tests: reject below a, and any false rejection has chance a.

    The i-th smallest of m is multiplied by m - i + 1, is no less than the one before it, and at most 1. NaN,
    a test that could not be done, stays NaN and does not count. Raises ValueError outside [0, 1].
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise ValueError(f"p is {p.tolist()}; pass probabilities in [0, 1], NaN where there is none")
    order = np.argsort(p)  # NaN last
    factors = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def with_interval(estimate: float, low: float, high: float, form: str = "+.3f") -> str:
    """Like "+0.531 [+0.502, +0.560]"; no brackets where there is no interval."""
    ends = "" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]"
    return "not defined" if np.isnan(estimate) else f"{estimate:{form}}{ends}"
