"""How far a student moved toward its teacher: its movement from the baseline, beside the gap.

    movement N = student - baseline,   gap G = teacher - baseline

The movement in the teacher's direction is tested, since it has no denominator; N/G is shown where G is
established. Over several probes, the slope of N on G says which share of the teacher's profile was taken on.
Each matrix D is (k seeds, n images), or (k, 1) for a measure without influence of single images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special

from kdlib.bias.measures import ratio
from kdlib.bias.statistics import Interval, interval_of, mean_products, standard_error


@dataclass(frozen=True)
class Transfer:
    """How far a student moved from the baseline, and whether the teacher was elsewhere at all."""

    movement: Interval  # student - baseline
    gap: Interval  # teacher - baseline
    toward: Interval  # movement counted positive toward the teacher; NaN if the gap is exactly 0
    established: bool  # the gap's interval excludes 0, and the gap is no less than the smallest effect
    ratio: float  # movement/gap of the grand means: 0 none, 1 all; NaN unless established
    ratio_low: float  # ends of Fieller's set for it
    ratio_high: float


def transfer(
    student: np.ndarray,
    baseline: np.ndarray,
    teacher: np.ndarray,
    smallest_effect: float,
    level: float = 0.95,
) -> Transfer:
    """Movement of a student toward its teacher, from three matrices D (k, n) of one measure, paired by seed.

    Repeat the row of a teacher that all seeds share. `toward` has no denominator, so it is what is tested;
    the ratio exists only where the gap is established. Read `toward` only there too: baseline enters both
    differences, so with no true gap its sign follows the noise of the movement, and it leans to the positive.

    Raises ValueError if the shapes differ, a row is NaN, or there are fewer than two seeds.
    """
    away, apart = _differences(student, baseline, teacher)
    movement, gap = interval_of(away, level), interval_of(apart, level)
    # A gap of exactly 0 has no direction: NaN, since 0 ± 0 would read as "significantly no movement".
    sign = float(np.sign(gap.estimate)) or np.nan
    low, high = sorted((sign * movement.low, sign * movement.high))
    estimate, p = sign * movement.estimate, abs(sign) * movement.p
    toward = replace(movement, estimate=estimate, low=low, high=high, p=p)
    if gap.low <= 0 <= gap.high or abs(gap.estimate) < smallest_effect:
        return Transfer(movement, gap, toward, False, np.nan, np.nan, np.nan)
    share = movement.estimate / gap.estimate
    return Transfer(movement, gap, toward, True, share, *ratio_interval(away, apart, level))


def ratio_interval(movement: np.ndarray, gap: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """All ratios of two grand means, N/G, that matrices (k, n) do not exclude: Fieller's (1954) set.

    A ratio θ is in the set if the interval of N - θ G holds 0. Nothing is approximated by a small error of
    G: where G's own interval holds 0 the set has no ends, and (-inf, inf) is returned.
    """
    own = interval_of(gap, level)
    if own.low <= 0 <= own.high:
        return -np.inf, np.inf
    k, n = np.shape(gap)
    products = mean_products(movement, gap)
    products = np.array([products[0, 0], products[0, 1], products[1, 1]])
    means = np.mean(movement), np.mean(gap)

    # As an angle, θ = tan(angle) and the line N cos - G sin = 0, so that an infinite ratio has a place too.
    def outside(angle: float) -> float:
        cos, sin = np.cos(angle), np.sin(angle)
        squares = [cos**2, -2 * cos * sin, sin**2] @ products
        error, df = standard_error(np.maximum(squares, 0), k, n)
        distance = abs(means[0] * cos - means[1] * sin)
        return distance - special.stdtrit(df, (1 + level) / 2) * error

    estimate = np.arctan(means[0] / means[1])
    if outside(estimate) >= 0:  # no error: the set is one point, up to rounding
        return (float(np.tan(estimate)),) * 2
    low, high = (optimize.brentq(outside, estimate, end) for end in (-np.pi / 2, np.pi / 2))
    return float(np.tan(low)), float(np.tan(high))


def profile_slopes(
    student: Sequence[np.ndarray], baseline: Sequence[np.ndarray], teacher: Sequence[np.ndarray]
) -> np.ndarray:
    """Slope b through the origin of movements on gaps over probes, plus each seed's influence on it: (k,).

    The mean is b, and `mean_interval` gives its interval for new seeds, on these images and probes. Each
    argument has a matrix D (k, n) of one measure for every probe; n may differ between probes.

        b = sum (N G) / sum (G G),   (A B) = mean A mean B - Cov(mean A, mean B)

    so (A B) joins only different seeds and different images: within a seed N and G share the baseline,
    whose noise would pass for transfer. Probes with a small gap drop out by themselves. They are not
    weighted by precision: estimated from 3 or 5 seeds such weights are noise. With them a nominal 95% covered
    .74 to .93 in simulation, without them .92 to .97 (8 probes, with and without image effects).

    NaN if the gaps are no larger than their noise. Raises ValueError if the shapes of a probe differ, a row
    is NaN, or there is no probe.
    """
    if not len(student):
        raise ValueError("no probe has the measure for student, baseline and teacher in every seed")
    above, below = [], []
    for matrices in zip(student, baseline, teacher, strict=True):
        movement, gap = _differences(*matrices)
        covariance = mean_products(movement, gap) @ [1, 1, -1] / movement.size
        (moved, apart), seeds = (movement.mean(), gap.mean()), (movement.mean(axis=1), gap.mean(axis=1))
        moves, gaps = seeds[0] - moved, seeds[1] - apart
        above.append(moved * apart - covariance[0, 1] + moves * apart + moved * gaps)
        below.append(apart**2 - covariance[1, 1] + 2 * apart * gaps)
    return ratio([np.sum(above, axis=0)], [np.sum(below, axis=0)])[0]


def profile_cosine(
    student: Sequence[np.ndarray], baseline: Sequence[np.ndarray], teacher: Sequence[np.ndarray]
) -> float:
    """Cosine in [-1, 1] between movements and gaps over probes, as `profile_slopes` takes them.

    Near 0 with large movements: changed, but not toward the teacher. Descriptive: the baseline's
    noise, shared by both, raises it. NaN if nothing moved or the teacher is nowhere else.
    """
    pairs = [_differences(*matrices) for matrices in zip(student, baseline, teacher, strict=True)]
    moves, gaps = np.array([(movement.mean(), gap.mean()) for movement, gap in pairs]).T
    length = np.linalg.norm(moves) * np.linalg.norm(gaps)
    return float(moves @ gaps / length) if length else np.nan


def _differences(
    student: np.ndarray, baseline: np.ndarray, teacher: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Movement and gap, each (k, n)."""
    given = {"student": student, "baseline": baseline, "teacher": teacher}
    check_shapes(given)
    for name, values in given.items():
        if np.isnan(values).any():
            rows = np.flatnonzero(np.isnan(values).any(axis=1)).tolist()
            raise ValueError(
                f"{name} is not defined in seed row(s) {rows} (did not learn, or read neither cue); "
                "transfer needs every seed: report it as not testable"
            )
    return np.subtract(student, baseline), np.subtract(teacher, baseline)


def check_shapes(matrices: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless all are (k, n) of one shape."""
    shapes = [np.shape(matrix) for matrix in matrices.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"{', '.join(matrices)} have shapes {shapes}; all must be the same (seeds, images): give each "
            "seed its own row"
        )
