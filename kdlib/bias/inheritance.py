"""How much of a property that was made in a teacher arrives in its student: the coefficient tau.

    tau = (S[made] - S[plain]) / (T[made] - T[plain])

T is a teacher's measure, S that of its student. `made` and `plain` are two teachers of one architecture and
seed, of which one was trained to have the property; their students saw the same ordinary images. What a
method does by itself is in both students, so it cancels. 0: nothing arrives; 1: all of it. tau is not
clipped: a student may exceed its teacher, or move away from it.

The coefficient is that of Ojha et al. (NeurIPS 2023, arXiv:2205.16004), with an interval. Each matrix is the
influence D (k seeds, n images) of a measure, or (k, 1) without influence of images; rows are paired by seed.
"""

from dataclasses import dataclass

import numpy as np

from kdlib.bias.statistics import Interval, interval_of, with_interval
from kdlib.bias.transfer import check_shapes, ratio_interval

KEPT = 0.9  # share of a reference's accuracy, below which a network counts as not learned


@dataclass(frozen=True)
class Inheritance:
    """tau with its interval, and the two differences that it is made of."""

    tau: float | None  # None where it is not testable
    low: float | None  # ends of Fieller's set
    high: float | None
    p_none: float | None  # two-sided, for tau = 0
    p_all: float | None  # two-sided, for tau = 1
    student: Interval | None  # S[made] - S[plain]; None where a row is NaN
    teacher: Interval | None  # T[made] - T[plain]
    reason: str = ""  # why tau is not testable; empty where it is

    @property
    def testable(self) -> bool:
        return not self.reason

    def __str__(self) -> str:
        if self.reason:
            return f"not testable: {self.reason}"
        return with_interval(self.tau, self.low, self.high, "+.2f")


def inheritance(
    student_made: np.ndarray,
    student_plain: np.ndarray,
    teacher_made: np.ndarray,
    teacher_plain: np.ndarray,
    smallest_effect: float = 0.0,
    level: float = 0.95,
) -> Inheritance:
    """tau of four matrices (k, n) of one measure, with Fieller's (1954) interval for new seeds and images.

    Not testable, with the reason, where a row is NaN (a network that did not learn), or where the teachers'
    difference is not established: its interval holds 0, or it is below `smallest_effect`. Repeat the row of
    a teacher that all seeds share.

    Raises ValueError if the shapes differ, or there are fewer than two seeds.
    """
    given = {
        "student of the made teacher": student_made,
        "student of the plain teacher": student_plain,
        "made teacher": teacher_made,
        "plain teacher": teacher_plain,
    }
    check_shapes(given)
    for name, matrix in given.items():
        missing = np.flatnonzero(np.isnan(matrix).any(axis=1)).tolist()
        if missing:
            return not_testable(f"the {name} did not learn in seed row(s) {missing}")
    made, plain, taught, untaught = (np.asarray(matrix, dtype=np.float64) for matrix in given.values())
    return share(made - plain, taught - untaught, smallest_effect, level)


def share(
    moved: np.ndarray, apart: np.ndarray, smallest_effect: float = 0.0, level: float = 0.95
) -> Inheritance:
    """The ratio of two paired differences (k, n), as :func:`inheritance` reports it.

    With the students' difference under a control as `moved` and under the method as `apart` it is the part of
    the method's tau that the control explains.

    Raises ValueError for fewer than two seeds, or values that are not finite.
    """
    student, teacher = interval_of(moved, level), interval_of(apart, level)
    if teacher.low <= 0 <= teacher.high:
        return not_testable("the teachers' difference is not established", student, teacher)
    if abs(teacher.estimate) < smallest_effect:
        small = f"the teachers' difference is below the smallest effect, {smallest_effect:g}"
        return not_testable(small, student, teacher)
    tau, p_all = student.estimate / teacher.estimate, p_value(moved, apart, 1.0)
    return Inheritance(tau, *ratio_interval(moved, apart, level), student.p, p_all, student, teacher)


def p_value(moved: np.ndarray, apart: np.ndarray, tau: float) -> float:
    """Two-sided p for a true ratio of ``tau``, such as a threshold: below 0.05 outside Fieller's 95% set."""
    return interval_of(np.subtract(moved, np.multiply(tau, apart))).p


def not_testable(
    reason: str, student: Interval | None = None, teacher: Interval | None = None
) -> Inheritance:
    """No tau, with the reason."""
    return Inheritance(None, None, None, None, None, student, teacher, reason)


def kept(hits: np.ndarray, reference_hits: np.ndarray) -> np.ndarray:
    """Which seeds keep 0.9 of a reference's accuracy on ordinary images: boolean (k,), of hits (k, n).

    The reference of a made teacher is the plain one, that of a student the baseline. Set a seed's row of the
    measure to NaN where this is False: a network at chance has the measure of a guesser.
    """
    return np.mean(hits, axis=1) >= KEPT * np.mean(reference_hits, axis=1)


def influence(moved: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Influence (k, n) of tau itself, whose mean is tau: for differences between taus of two teachers.

    A first-order expansion, so only where `apart` is established. To compare a method across directions,
    take `interval_of(influence(...) - influence(...))`; with one teacher for both, :func:`share` is exact.
    """
    tau = moved.mean() / apart.mean()
    return tau + (moved - tau * apart) / apart.mean()
