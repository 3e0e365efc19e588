"""One interval for every measure: seeds and images are both samples.

A number in this study varies for two reasons: another training seed gives another network, and other test
images give another score. All seeds answer the same images, so neither seeds nor images are independent
repeats of the whole: the two are crossed. With D[s, i] the influence of image i on the measure of seed s,

    D[s, i] = mean + seed[s] + image[i] + residual[s, i]        (all three random, mean 0)

and the variance of the grand mean follows in closed form from the mean squares of a two-way table.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the units of the measure."""

    estimate: float
    low: float
    high: float
    p: float  # two-sided, for "the mean is 0"
    df: float  # degrees of freedom of the t distribution behind low, high and p
    seeds: int
    images: int


def crossed_interval(influence: np.ndarray, level: float = 0.95) -> Interval:
    """Confidence interval of the grand mean of `influence` (k seeds, n images), for new seeds and new images.

    The mean squares of seeds, images and residual estimate, in turn,

        MS_seed = n var_seed + var_residual,   MS_image = k var_image + var_residual,   MS_res = var_residual

    so Var(mean) = var_seed/k + var_image/n + var_residual/(k n) = (MS_seed + MS_image - MS_res)/(k n). A
    negative estimate of a variance component counts as 0, which leaves the larger of MS_seed and MS_image
    as the floor. The degrees of freedom are Satterthwaite's for that sum of mean squares, at least k - 1.

    Nominal 95% covered .93 to .97 in simulation with 3 or 5 seeds and shared image effects, more without the
    latter (too wide), and down to .88 with 2 seeds that differ by 5 points (too narrow).

    `level` lies in (0, 1). A variance of exactly 0 gives a zero-width interval, with p = 1 if the estimate
    is 0 and p = 0 otherwise.

    Raises ValueError for fewer than two seeds or images, a value that is not finite, or another shape.
    """
    values = np.asarray(influence, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(
            f"influence has shape {values.shape}; it must be (seeds, images): stack one row a seed"
        )
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1: write 95% as 0.95")
    k, n = values.shape
    if k < 2:
        raise ValueError(
            f"got {k} seed(s), an interval needs at least 2: train more seeds; "
            "without them the estimate can be shown, but no interval"
        )
    if n < 2:
        raise ValueError(
            f"got {n} image(s) for {k} seeds, an interval needs at least 2: evaluate more images"
        )
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist()
        raise ValueError(
            f"influence is NaN or infinite in seed row(s) {rows}, it must be finite: "
            "report the measure as not available where a run did not learn"
        )

    # Measured from one of its entries, a constant matrix has variance 0, not the square of a rounding error.
    origin = values[0, 0]
    centred = values - origin
    mean = centred.mean()
    seed_effect = centred.mean(axis=1, keepdims=True) - mean
    image_effect = centred.mean(axis=0, keepdims=True) - mean
    residual = centred - mean - seed_effect - image_effect
    ms_seed = n * np.sum(seed_effect**2) / (k - 1)
    ms_image = k * np.sum(image_effect**2) / (n - 1)
    ms_residual = np.sum(residual**2) / ((k - 1) * (n - 1))

    estimate = float(origin + mean)
    ms_total = ms_seed + ms_image - ms_residual
    peak = max(ms_total, ms_seed, ms_image)
    if peak == 0:
        return Interval(estimate, estimate, estimate, float(estimate == 0), float(k - 1), k, n)
    # Shares of the largest: the squares of very small mean squares would underflow to 0/0.
    shares = np.array([ms_seed, ms_image, ms_residual]) / peak
    spread = np.sum(shares**2 / [k - 1, n - 1, (k - 1) * (n - 1)])
    df = max(k - 1.0, float((ms_total / peak) ** 2 / spread))
    error = float(np.sqrt(peak / (k * n)))
    half_width = float(stats.t.ppf((1 + level) / 2, df)) * error
    p = float(2 * stats.t.sf(abs(estimate) / error, df))
    return Interval(estimate, estimate - half_width, estimate + half_width, p, df, k, n)
