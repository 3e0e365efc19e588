"""What a network's answers say about its biases, each measure as a matrix D (k seeds, n images).

The mean of a row is the measure of that run; the grand mean is the estimate. For a ratio, an entry is the
run's value plus the image's influence on it: the first-order change of the value when that image gets more
weight. So D_student - D_independent is the matrix of a difference, and one `crossed_interval` serves all.

Shapes: predictions and hits are (k, n), labels (n,). Probe and clean hits are of the same images in the same
order, and row s of every matrix comes from seed s.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from kdlib.bias.statistics import Interval, crossed_interval

# Fixed before the first run: a smaller difference would not matter, however many seeds confirm it.
SMALLEST_EFFECTS = {"accuracy": 0.02, "retention": 0.05, "shape_bias": 0.05}

LEARNED_MARGIN = 0.10  # clean accuracy above chance, below which a retention divides by noise
SMALLEST_CUE_RATE = 0.25  # ten-way guessing names one of the two cues of an image with probability 0.20


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Hits, 0.0 or 1.0, of shape (k, n), for predicted classes (k, n) and labels (n,).

    Raises ValueError if the shapes do not fit.
    """
    return _equals(predicted, labels, "labels").astype(np.float64)


def raw_ratio(probe_hits: np.ndarray, clean_hits: np.ndarray) -> np.ndarray:
    """Probe accuracy over clean accuracy per run, shape (k,): the original study's measure, for comparison.

    It rewards chance: a guesser has the same accuracy on both and so gets 1.0, the score of a network that
    loses nothing, and the less a network has learned the closer it comes to that. NaN where clean accuracy
    is 0. Raises ValueError as `retention` does.
    """
    probe, clean = _hit_pair(probe_hits, clean_hits)
    clean_accuracy = clean.mean(axis=1)
    return probe.mean(axis=1) / np.where(clean_accuracy > 0, clean_accuracy, np.nan)


def learned(clean_hits: np.ndarray, chance: float) -> np.ndarray:
    """Which runs learned the task, boolean of shape (k,): is clean accuracy surely above chance + 0.10?

    "Surely" is the lower end of Wilson's two-sided 95% interval over the n clean images. Wilson's, because it
    holds for few images and for accuracies near 0 or 1, where estimate minus two standard errors does not.
    `chance` is the accuracy of a guesser, 0.1 for ten balanced classes. Raises ValueError unless the hits
    are a matrix of 0 and 1 and chance lies in [0, 1).
    """
    hits = _hits(clean_hits, "clean_hits")
    if not 0 <= chance < 1:
        raise ValueError(f"chance is {chance}; it must lie in [0, 1): write 1/classes, 0.1 for CIFAR-10")
    n, rate, z = hits.shape[1], hits.mean(axis=1), stats.norm.ppf(0.975)
    margin = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    lower = (rate + z**2 / (2 * n) - margin) / (1 + z**2 / n)
    return lower > chance + LEARNED_MARGIN


def retention(probe_hits: np.ndarray, clean_hits: np.ndarray, chance: float) -> np.ndarray:
    """Share of the accuracy above chance c that survives a probe, D (k, n) of A = (probe - c)/(clean - c).

    1: nothing is lost; 0: the probe leaves a guesser; below 0: worse than one. With A the value of the run,

        D[s, i] = A + [(probe_hit - c) - A (clean_hit - c)] / (clean accuracy - c)

    The row of a run that did not learn (see `learned`) is NaN, so one failed run does not hide the others;
    `crossed_interval` and `transfer` refuse it. A weaker network may still retain more: show accuracies too.

    Raises ValueError if the matrices differ in shape or hold more than 0 and 1, or chance is not in [0, 1).
    """
    probe, clean = _hit_pair(probe_hits, clean_hits)
    valid = learned(clean, chance)[:, None]
    return _ratio_influence(probe - chance, clean - chance, valid)


def cue_decisions(
    predicted: np.ndarray, shape_labels: np.ndarray, texture_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which cue each answer follows (Geirhos et al. 2019): (shape, texture), each boolean (k, n).

    An answer that names neither class is False in both. Raises ValueError if shapes do not fit or an image
    has the same class for both cues, which can't tell the cues apart.
    """
    shape = _equals(predicted, shape_labels, "shape_labels")
    texture = _equals(predicted, texture_labels, "texture_labels")
    same = np.count_nonzero(np.asarray(shape_labels) == np.asarray(texture_labels))
    if same:
        raise ValueError(
            f"{same} images have one class for both cues; pass conflict images only: filter them"
        )
    return shape, texture


def cue_rate(predicted: np.ndarray, shape_labels: np.ndarray, texture_labels: np.ndarray) -> np.ndarray:
    """Answers that follow either cue, 0.0 or 1.0, of shape (k, n); a ten-way guesser averages 0.20.

    Raises ValueError as `cue_decisions` does.
    """
    shape, texture = cue_decisions(predicted, shape_labels, texture_labels)
    return (shape | texture).astype(np.float64)


def shape_bias(predicted: np.ndarray, shape_labels: np.ndarray, texture_labels: np.ndarray) -> np.ndarray:
    """Shape answers among those that follow a cue (Geirhos et al. 2019), D (k, n) of shape/(shape + texture).

    1: always shape, 0: always texture, 0.5: no preference. With B the value of the run,

        D[s, i] = B + [shape - B (shape or texture)] / cue rate

    The row of a run whose cue rate is not above 0.25 is NaN: a guesser also gets 0.5, and hardly more often
    than it neither cue was read. Show the cue rate and both shares beside it: they say which cue moved.

    Raises ValueError as `cue_decisions` does.
    """
    shape, texture = cue_decisions(predicted, shape_labels, texture_labels)
    cue = (shape | texture).astype(np.float64)
    valid = cue.mean(axis=1, keepdims=True) > SMALLEST_CUE_RATE
    return _ratio_influence(shape.astype(np.float64), cue, valid)


@dataclass(frozen=True)
class Transfer:
    """How far a student moved from an independent one, and whether the teacher was elsewhere at all."""

    movement: Interval  # student - independent
    gap: Interval  # teacher - independent
    toward: Interval  # movement counted positive toward the teacher; NaN if the gap is exactly 0
    established: bool  # the gap's interval excludes 0, and the gap is no less than the smallest effect
    ratio: float | None  # movement/gap of the grand means: 0 none, 1 all; None unless established


def transfer(
    student: np.ndarray,
    independent: np.ndarray,
    teacher: np.ndarray,
    smallest_effect: float,
    level: float = 0.95,
) -> Transfer:
    """Movement of a student toward its teacher, from three matrices D (k, n) of one measure, paired by seed.

    Repeat the row of a teacher that all seeds share. `toward` is in the units of the measure and has no
    denominator, so it is what is tested; the ratio explodes as the gap goes to 0 and exists only where the
    gap is established. Read `toward` only there too: independent enters both differences, so with no true
    gap its sign follows the noise of the movement, and `toward` leans to the positive.

    Raises ValueError if the shapes differ, a row is NaN, or there are fewer than two seeds or images.
    """
    shapes = np.shape(student), np.shape(independent), np.shape(teacher)
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"student, independent, teacher have shapes {shapes}; all must be the same (seeds, images): "
            "give each seed its own row"
        )
    for name, values in (("student", student), ("independent", independent), ("teacher", teacher)):
        if np.isnan(values).any():
            rows = np.flatnonzero(np.isnan(values).any(axis=1)).tolist()
            raise ValueError(
                f"{name} is NaN in seed row(s) {rows} (did not learn, or read neither cue); transfer needs "
                "every seed: report it as not evaluable"
            )

    movement = crossed_interval(np.subtract(student, independent), level)
    gap = crossed_interval(np.subtract(teacher, independent), level)
    # A gap of exactly 0 has no direction: NaN, since 0 ± 0 would read as "surely no movement".
    sign = float(np.sign(gap.estimate)) or np.nan
    low, high = sorted((sign * movement.low, sign * movement.high))
    estimate, p = sign * movement.estimate, abs(sign) * movement.p
    toward = replace(movement, estimate=estimate, low=low, high=high, p=p)
    established = (gap.low > 0 or gap.high < 0) and abs(gap.estimate) >= smallest_effect
    ratio = movement.estimate / gap.estimate if established else None
    return Transfer(movement, gap, toward, established, ratio)


def _ratio_influence(numerator: np.ndarray, denominator: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """D of the ratio of two row means, each (k, n); NaN rows where valid (k, 1) is False."""
    scale = np.where(valid, denominator.mean(axis=1, keepdims=True), np.nan)
    value = numerator.mean(axis=1, keepdims=True) / scale
    return value + (numerator - value * denominator) / scale


def _equals(predicted: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.ndim != 2 or labels.shape != predicted.shape[1:]:
        raise ValueError(
            f"predicted has shape {predicted.shape} and {name} {labels.shape}; they must be (seeds, images) "
            "and (images,): stack the predictions, one row a seed"
        )
    return predicted == labels


def _hits(hits: np.ndarray, name: str) -> np.ndarray:
    hits = np.asarray(hits, dtype=np.float64)
    if hits.ndim != 2 or not np.isin(hits, (0, 1)).all():
        raise ValueError(
            f"{name} has shape {hits.shape} and must be a (seeds, images) matrix of 0 and 1: "
            "make it with accuracy(predicted, labels)"
        )
    return hits


def _hit_pair(probe_hits: np.ndarray, clean_hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probe, clean = _hits(probe_hits, "probe_hits"), _hits(clean_hits, "clean_hits")
    if probe.shape != clean.shape:
        raise ValueError(
            f"probe_hits {probe.shape} and clean_hits {clean.shape} differ in shape; they must be of the "
            "same seeds and images: take the clean images that the probe was built from"
        )
    return probe, clean
