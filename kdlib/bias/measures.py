"""Measures of bias computed from a network's predictions, each as a matrix D (k seeds, n images).

The mean of a row is the measure of that run; the grand mean is the estimate. For a ratio or a kappa, an
entry is the run's value plus the image's influence on it: the first-order change of the value when that image
gets more weight. So D_student - D_baseline is the matrix of a difference, and one `crossed_interval`
serves all.

Shapes: predictions and hits are (k, n), labels (n,). Probe and clean hits are of the same images in the same
order, and row s of every matrix comes from seed s. Test images are equally many in every class (see
:func:`kdlib.data.load`), so every mean is balanced over classes. Every measure raises ValueError, which names
the arguments, where shapes don't fit, hits are not 0 and 1, or chance is not in [0, 1).
"""

from pathlib import Path

import numpy as np
import yaml
from scipy import special

EFFECTS = Path(__file__).with_name("effects.yml")
SMALLEST_EFFECTS: dict[str, float] = yaml.safe_load(EFFECTS.read_text(encoding="utf-8"))["smallest"]

LEARNED_MARGIN = 0.10  # clean accuracy above chance, below which a retention divides by noise
SMALLEST_CUE_RATE = 0.25  # ten-way guessing names one of the two cues of an image with probability 0.20
SMALLEST_CONFIDENCE = 2.0**-24  # the first float16 above 0: what the records can hold


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Hits, 0.0 or 1.0, of shape (k, n), for predicted classes (k, n) and labels (n,).

    NaN for the class -1, which is no answer: a run that diverged gives none.
    """
    predicted, labels = _fitting(predicted=predicted, labels=labels)
    return np.where(predicted < 0, np.nan, predicted == labels)


def raw_ratio(probe_hits: np.ndarray, clean_hits: np.ndarray) -> np.ndarray:
    """Probe accuracy over clean accuracy per run, shape (k,): the original study's measure, for comparison.

    It rewards chance: a guesser gets 1.0, the score of a network that loses nothing. NaN where clean accuracy
    is 0.
    """
    probe, clean = (hits.mean(axis=1) for hits in _fitting(probe_hits=probe_hits, clean_hits=clean_hits))
    return probe / np.where(clean > 0, clean, np.nan)


def wilson_lower(hits: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Lower end of Wilson's two-sided interval of the accuracy of each run, (k,); it holds near 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1: write 95% as 0.95")
    (hits,) = _fitting(hits=hits)
    n, rate, z = hits.shape[1], hits.mean(axis=1), special.ndtri((1 + level) / 2)
    margin = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return (rate + z**2 / (2 * n) - margin) / (1 + z**2 / n)


def learned(clean_hits: np.ndarray, chance: float) -> np.ndarray:
    """Which runs learned the task, boolean (k,): is clean accuracy significantly above chance + 0.10?

    By the 95% `wilson_lower`. `chance` is the accuracy of a guesser, 0.1 for ten balanced classes.
    """
    if not 0 <= chance < 1:
        raise ValueError(f"chance is {chance}; it must lie in [0, 1): write 1/classes, 0.1 for CIFAR-10")
    return wilson_lower(clean_hits) > chance + LEARNED_MARGIN


def ratio(numerator: np.ndarray, denominator: np.ndarray, defined: np.ndarray | bool = True) -> np.ndarray:
    """D (k, n) of the ratio R of two row means, of matrices (k, n): R + (numerator - R denominator)/mean.

    NaN rows where `defined` (k,) is False or the denominator's mean is not above 0.
    """
    numerator, denominator = _fitting(numerator=numerator, denominator=denominator)
    mean = denominator.mean(axis=1, keepdims=True)
    mean = np.where((mean > 0) & np.reshape(defined, (-1, 1)), mean, np.nan)
    value = numerator.mean(axis=1, keepdims=True) / mean
    return value + (numerator - value * denominator) / mean


def retention(probe_hits: np.ndarray, clean_hits: np.ndarray, chance: float) -> np.ndarray:
    """Share of the accuracy above chance c that survives a probe, D (k, n) of A = (probe - c)/(clean - c).

    1: nothing is lost; 0: the probe leaves a guesser; below 0: worse than one. D is that of a `ratio`.

    The row of a run that did not learn (see `learned`) is NaN, so one failed run does not hide the others;
    with it there is no interval and no transfer. A weaker network may still retain more: show accuracies too.
    """
    probe, clean = _fitting(probe_hits=probe_hits, clean_hits=clean_hits)
    return ratio(probe - chance, clean - chance, learned(clean, chance))


def cue_decisions(
    predicted: np.ndarray, shape_labels: np.ndarray, texture_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which cue each answer follows (Geirhos et al. 2019): (shape, texture), 0.0 or 1.0 each, (k, n).

    An answer that names neither class is 0.0 in both; -1, of a run that diverged, is NaN. Raises ValueError
    too if an image has the same class for both cues.
    """
    predicted, shape, texture = _fitting(
        predicted=predicted, shape_labels=shape_labels, texture_labels=texture_labels
    )
    same = np.count_nonzero(shape == texture)
    if same:
        raise ValueError(f"{same} images have the same class for both cues; pass conflict images only")
    answered = np.where(predicted == -1, np.nan, 1.0)
    return (predicted == shape) * answered, (predicted == texture) * answered


def cue_rate(predicted: np.ndarray, shape_labels: np.ndarray, texture_labels: np.ndarray) -> np.ndarray:
    """Answers that follow either cue, 0.0 or 1.0, of shape (k, n); a ten-way guesser averages 0.20."""
    shape, texture = cue_decisions(predicted, shape_labels, texture_labels)
    return shape + texture


def shape_bias(
    predicted: np.ndarray, shape_labels: np.ndarray, texture_labels: np.ndarray, chance: float = 0.1
) -> np.ndarray:
    """Shape answers among those that follow a cue (Geirhos et al. 2019), D (k, n) of shape/(shape + texture).

    1: always shape, 0: always texture, 0.5: no preference. D is that of a `ratio`.

    The row of a run whose cue rate is not above 0.25 and 2 `chance` + 0.05 is NaN: it hardly read either cue,
    and a guesser also gets 0.5. Of two classes every answer names a cue. Show the cue rate and both shares
    beside it: they say which cue moved.
    """
    shape, texture = cue_decisions(predicted, shape_labels, texture_labels)
    cue = shape + texture
    return ratio(shape, cue, cue.mean(axis=1) > max(SMALLEST_CUE_RATE, min(2 * chance, 0.9) + 0.05))


def cue_sensitivity(decisions: np.ndarray, no_conflict_hits: np.ndarray, chance: float) -> np.ndarray:
    """How well one cue is read under conflict, D (k, n) of (#decisions/n - c)/(no-conflict accuracy - c).

    1: as well as without a conflict; 0: as by guessing. It says which cue moved, which shape bias can't.
    The accuracy without a conflict varies over seeds; what its m images add to the error is ignored. The row
    of a run that did not learn them is NaN.

    Args:
        decisions: 0.0 or 1.0 (k, n), answers that follow the cue, from `cue_decisions`.
        no_conflict_hits: (k, m), of stimuli whose two cues agree.
    """
    (decisions,), (hits,) = _fitting(decision_hits=decisions), _fitting(no_conflict_hits=no_conflict_hits)
    if len(decisions) != len(hits):
        told = f"{len(decisions)} seeds of decisions and {len(hits)} of no_conflict_hits"
        raise ValueError(f"{told}; they must be the same: test every network on both probes")
    ceiling = np.where(learned(hits, chance), hits.mean(axis=1), np.nan)[:, None]
    return (decisions - chance) / (ceiling - chance)


def agreement_kappa(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Agreement of two answers beyond chance (Cohen 1960), D (k, n) of (o - e)/(1 - e).

    o is the share of equal answers among predicted classes (k, n), e the sum over classes of the product of
    both shares a_c and b_c. 1: always equal; 0: as often as two who know only how often each class is named.

        D[s, i] = (o_i - e)/(1 - e) + (o - 1)/(1 - e)^2 (b_first + a_second - 2 e)

    where the second term is due to e, which the images move too. The row of a run is NaN if both always name
    one class (e = 1).
    """
    first, second = _fitting(first=first, second=second)
    same = agreement(first, second)
    classes = np.arange(int(max(first.max(), second.max(), 0)) + 1)
    first_share, second_share = ((answers[..., None] == classes).mean(axis=1) for answers in (first, second))
    expected = (first_share * second_share).sum(axis=1, keepdims=True)
    room = np.where(expected < 1, 1 - expected, np.nan)
    observed = same.mean(axis=1, keepdims=True)
    drift = np.take_along_axis(second_share, first, 1) + np.take_along_axis(first_share, second, 1)
    moved = (observed - 1) / room**2 * (drift - 2 * expected)
    return (same - expected) / room + moved


def error_consistency(hits: np.ndarray, other_hits: np.ndarray) -> np.ndarray:
    """Do two networks fail on the same images, beyond what their accuracies imply? (Geirhos et al. 2020)

    D (k, n) of the `agreement_kappa` of their hits (k, n). 1: on exactly the same; 0: as independent
    networks; NaN if both are always right, or both always wrong. Accuracies p and q limit it: to 1 only if
    they are equal. The package error-consistency has another measure: docs/other_libraries.md.
    """
    hits, other = _fitting(hits=hits, other_hits=other_hits)
    kappa = agreement_kappa((hits == 1).astype(np.intp), (other == 1).astype(np.intp))
    return np.where(np.isnan(hits + other), np.nan, kappa)


def agreement(predicted: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1.0 where two networks give the same answer, right or wrong, else 0.0: (k, n), from classes (k, n).

    -1, of a run that diverged, is no answer: NaN.
    """
    predicted, other = _fitting(predicted=predicted, other=other)
    return np.where((predicted == -1) | (other == -1), np.nan, predicted == other)


def negative_log_likelihood(confidence_label: np.ndarray) -> np.ndarray:
    """-log of the confidence (k, n) in the right class, D (k, n) in nats.

    At most 16.6: a confidence that float16 records as 0 counts as the smallest that they hold, 6e-8.
    """
    (confidence,) = _fitting(confidence_label=confidence_label)
    return -np.log(np.maximum(confidence, SMALLEST_CONFIDENCE))


def expected_calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = 15) -> np.ndarray:
    """How far confidence in the answer is from accuracy, (k,): mean over bins of |confidence - hits|.

    Bins hold equally many of the n images, sorted by confidence. Each bin's squared gap is reduced by its
    sampling variance (Kumar et al. 2019), and not below 0: else a calibrated network would seem the worse the
    fewer images there are. Some of that bias stays. Temperature and label smoothing change it mechanically.

    NaN with fewer than 2 images a bin. Raises ValueError if the shapes of confidence and hits (k, n) differ.
    """
    confidence, hits = _fitting(confidence=confidence, hits=hits)
    if hits.shape[1] < 2 * bins:
        return np.full(len(hits), np.nan)
    order = np.argsort(confidence, axis=1, kind="stable")
    parts = np.array_split(np.take_along_axis(confidence - hits, order, axis=1), bins, axis=1)
    sizes = [part.shape[1] for part in parts]
    squares = [part.mean(axis=1) ** 2 - part.var(axis=1, ddof=1) / part.shape[1] for part in parts]
    return np.average(np.sqrt(np.maximum(squares, 0)), axis=0, weights=sizes)


ANSWERS = ("predicted", "other", "first", "second")  # arguments that are predicted classes


def _fitting(**given: np.ndarray) -> list[np.ndarray]:
    """The arguments as arrays that fit: all (seeds, images), but "labels" (images,).

    "hits" come out as float64 0, 1 or NaN, labels and ANSWERS as int64; confidences lie in [0, 1]. Raises
    ValueError, with the arguments' names, where they don't fit.
    """
    arrays = {name: np.asarray(value) for name, value in given.items()}
    shape = next(iter(arrays.values())).shape
    fits = [array.shape == (shape[1:] if "labels" in name else shape) for name, array in arrays.items()]
    if len(shape) != 2 or not all(fits):
        told = " and ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"the shapes {told} don't fit: give (seeds, images), and (images,) for labels, of the same seeds "
            "and images in the same order, one row a seed"
        )
    for name in (name for name in arrays if "hits" in name):
        if not ((arrays[name] == 0) | (arrays[name] == 1) | np.isnan(arrays[name])).all():
            raise ValueError(f"{name} must be a matrix of 0 and 1: make it with accuracy(predicted, labels)")
        arrays[name] = arrays[name].astype(np.float64)
    for name in (name for name in arrays if "labels" in name or name in ANSWERS):
        if not (arrays[name].dtype.kind in "iuf" and (arrays[name] == np.floor(arrays[name])).all()):
            raise ValueError(f"{name} must be classes, whole numbers, as the argmax of logits gives them")
        arrays[name] = arrays[name].astype(np.int64)
    for name in (name for name in arrays if "confidence" in name):
        arrays[name] = arrays[name].astype(np.float64)
        if (arrays[name] < 0).any() or (arrays[name] > 1).any():
            raise ValueError(f"{name} must lie in [0, 1], as the softmax of logits gives it")
    return list(arrays.values())
