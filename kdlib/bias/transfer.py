"""How far a student moves toward its teacher, and how much of a trained-in property it inherits.

Both are the ratio of a movement N and a gap G, of two networks each:

    transfer      N = student - baseline,           G = teacher - baseline
    inheritance   N = student made - student plain, G = teacher made - teacher plain

The first asks how far a student goes toward a teacher of another kind. In the second, `made` and `plain` are
two teachers of one architecture and seed; one was trained to have a property. Their students saw the same
ordinary images. The effect of the method itself is in both students, so it cancels. The ratio is then the
coefficient tau of Ojha et al. (NeurIPS 2023, arXiv:2205.16004). It is 0 if nothing is inherited and 1 if all
is, and is not clipped: a student may exceed its teacher, or move away from it.

Each matrix is the influence D (k seeds, n images) of a measure, or (k, 1) for one without influence of single
images; rows are paired by seed. Repeat the row of a teacher that all seeds share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from kdlib.bias.measures import ratio
from kdlib.bias.statistics import Interval, crossed_interval, mean_products, standard_error


@dataclass(frozen=True)
class Transfer:
    """A movement beside a gap, and which share of it that is."""

    movement: Interval  # without ends where a seed is alone or a row is NaN
    gap: Interval
    # The movement counted positive toward the teacher; NaN if the gap is exactly 0. It has no denominator,
    # so it is what is tested. Read it only where the gap is established: baseline enters both differences,
    # so with no true gap its sign follows the noise of the movement, and it leans to the positive.
    toward: Interval
    reason: str = ""  # why there is no ratio; empty where there is one
    ratio: float = np.nan  # of the grand means: 0 none, 1 all
    low: float = np.nan  # ends of Fieller's set for it
    high: float = np.nan
    p_none: float = np.nan  # two-sided, for a ratio of 0
    p_all: float = np.nan  # two-sided, for a ratio of 1

    @property
    def established(self) -> bool:
        """Whether the gap's interval excludes 0, and the gap is no less than the smallest effect."""
        return not self.reason


def transfer(
    student: np.ndarray,
    baseline: np.ndarray,
    teacher: np.ndarray,
    smallest_effect: float = 0.0,
) -> Transfer:
    """Movement of a student toward its teacher, from three matrices (k, n) of one measure.

    There is no ratio, with the reason, for one seed, a row that is NaN, or a gap that is not established.
    Raises ValueError if the shapes differ.
    """
    given = {"student": student, "baseline": baseline, "teacher": teacher}
    own, without, taught = _alike(**given)
    lack = _lack(given, "is not defined", " (did not learn, or read neither cue)")
    return share(own - without, taught - without, smallest_effect, lack=lack)


def inheritance(
    student_made: np.ndarray,
    student_plain: np.ndarray,
    teacher_made: np.ndarray,
    teacher_plain: np.ndarray,
    smallest_effect: float = 0.0,
) -> Transfer:
    """tau of four matrices (k, n) of one measure, as :func:`transfer`; NaN: a network that did not learn."""
    given = {
        "student of the made teacher": student_made,
        "student of the plain teacher": student_plain,
        "made teacher": teacher_made,
        "plain teacher": teacher_plain,
    }
    made, plain, taught, untaught = _alike(**given)
    lack = _lack({f"the {name}": matrix for name, matrix in given.items()}, "did not learn")
    return share(made - plain, taught - untaught, smallest_effect, lack=lack)


def share(
    movement: np.ndarray,
    gap: np.ndarray,
    smallest_effect: float = 0.0,
    level: float = 0.95,
    lack: str = "",
) -> Transfer:
    """The ratio of two paired differences (k, n), with Fieller's (1954) interval for new seeds and images.

    With the students' difference under a control as `movement` and under the method as `gap` it is the part
    of the method's tau that the control explains. ``lack`` says why there can be no interval, if so.
    """
    given = {"movement": movement, "gap": gap}
    movement, gap = _alike(**given)
    lack = lack or _lack(given, "is not defined")
    moved, apart = crossed_interval(movement, level), crossed_interval(gap, level)
    toward = crossed_interval((np.sign(apart.estimate) or np.nan) * movement, level)
    if not lack and apart.low <= 0 <= apart.high:
        lack = "the teachers' difference is not established"
    elif not lack and abs(apart.estimate) < smallest_effect:
        lack = f"the teachers' difference is below the smallest effect, {smallest_effect:g}"
    if lack:
        return Transfer(moved, apart, toward, lack)
    ends, p_all = ratio_interval(movement, gap, level), p_value(movement, gap, 1.0)
    return Transfer(moved, apart, toward, "", moved.estimate / apart.estimate, *ends, moved.p, p_all)


def p_value(movement: np.ndarray, gap: np.ndarray, ratio: float) -> float:
    """Two-sided p for a true ratio, such as a threshold: below 0.05 outside Fieller's 95% set."""
    return crossed_interval(np.subtract(movement, np.multiply(ratio, gap))).p


def ratio_influence(movement: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Influence (k, n) of the ratio itself, its mean: for differences between taus of two teachers.

    A first-order expansion, so only where the gap is established. To compare a method across directions, take
    the `crossed_interval` of the difference of two; with one teacher for both, :func:`share` is exact.
    """
    tau = movement.mean() / gap.mean()
    return tau + (movement - tau * gap) / gap.mean()


def ratio_interval(movement: np.ndarray, gap: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """All ratios of two grand means, N/G, that matrices (k, n) do not exclude: Fieller's (1954) set.

    A ratio θ is in the set if the interval of N - θ G holds 0. Nothing is approximated by a small error of
    G: where G's own interval holds 0 the set has no ends, and (-inf, inf) is returned. With two seeds, or few
    images, the set may have gaps, and an end may be that of one of its parts.
    """
    own = crossed_interval(gap, level)
    if not (own.low > 0 or own.high < 0):
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

    The mean is b, and `crossed_interval` of its column (k, 1) gives the interval for new seeds, on these
    images and probes. Each argument has a matrix D (k, n) of one measure for every probe; n may differ.

        b = sum (N G) / sum (G G),   (A B) = mean A mean B - Cov(mean A, mean B)

    so (A B) joins only different seeds and different images: within a seed N and G share the baseline,
    whose noise would pass for transfer. Probes with a small gap drop out by themselves. They are not
    weighted by precision: estimated from 3 or 5 seeds such weights are noise. With them a nominal 95% covered
    .74 to .93 in simulation, without them .92 to .97 (8 probes, with and without image effects).

    NaN if the gaps are no larger than their noise, or a row is NaN. Raises ValueError if the shapes of a
    probe differ, or there is no probe.
    """
    if not len(student):
        raise ValueError("no probe has the measure for student, baseline and teacher in every seed")
    above, below = [], []
    for matrices in zip(student, baseline, teacher, strict=True):
        own, without, taught = _alike(student=matrices[0], baseline=matrices[1], teacher=matrices[2])
        movement, gap = own - without, taught - without
        covariance = mean_products(movement, gap) @ [1, 1, -1] / movement.size
        (moved, apart), seeds = (movement.mean(), gap.mean()), (movement.mean(axis=1), gap.mean(axis=1))
        moves, gaps = seeds[0] - moved, seeds[1] - apart
        above.append(moved * apart - covariance[0, 1] + moves * apart + moved * gaps)
        below.append(apart**2 - covariance[1, 1] + 2 * apart * gaps)
    return ratio([np.sum(above, axis=0)], [np.sum(below, axis=0)])[0]


def _alike(**given: np.ndarray) -> list[np.ndarray]:
    """The matrices; a ValueError unless all are (k, n) of one shape."""
    matrices = [np.asarray(matrix, dtype=np.float64) for matrix in given.values()]  # in uint8, 0 - 1 is 255
    shapes = [matrix.shape for matrix in matrices]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"{', '.join(given)} have shapes {shapes}; all must be the same (seeds, images): give each "
            "seed its own row"
        )
    return matrices


def _lack(given: dict[str, np.ndarray], verb: str, why: str = "") -> str:
    """Why the matrices have no interval, or nothing."""
    for name, matrix in given.items():
        if len(matrix) < 2:
            return "one seed gives no interval"
        if lost := int(np.isnan(matrix).any(axis=1).sum()):
            return f"{name} {verb} in {lost} of {len(matrix)} seeds{why}"
    return ""
