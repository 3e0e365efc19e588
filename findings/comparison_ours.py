"""What kdlib computes of the arrays of compare_libraries.py. Imports it late: the other side has none."""

from collections.abc import Callable

import numpy as np
from comparison_base import T, gradient_of, tensors


def divergence(x: dict, temperature: float = T) -> float:
    from kdlib.methods.lm import soft_divergence

    return soft_divergence(*tensors(x, "student", "teacher"), temperature).item()


def cross_entropy(x: dict) -> float:
    from torch.nn import functional as F

    return F.cross_entropy(*tensors(x, "student", "labels")).item()


def our_gradient(x: dict) -> float:
    from kdlib.methods.lm import soft_divergence

    return gradient_of(lambda s, t: soft_divergence(s, t, T), x)


def our_lskd(x: dict) -> float:
    from kdlib.methods.lm import soft_divergence
    from kdlib.methods.lskd import standardise

    learned, taught = map(standardise, tensors(x, "student", "teacher"))
    return 0.5 * cross_entropy(x) + 9 * soft_divergence(learned, taught, 2.0).item()


def our_dist(x: dict) -> float:
    from kdlib.methods.dist import correlation_distance

    learned, taught = ((z / T).softmax(1) for z in tensors(x, "student", "teacher"))
    both = correlation_distance(learned, taught) + correlation_distance(learned.T, taught.T)
    return T**2 * both.item()


def our_channels(x: dict) -> float:
    from kdlib.methods.dist import correlation_distance

    rows = (z.movedim(1, -1).flatten(0, -2) for z in tensors(x, "map_teacher", "map_teacher"))
    return correlation_distance(*rows).item()


def our_contrast(x: dict) -> float:
    import torch

    from kdlib.methods.crd import contrastive_loss

    units, negatives = tensors(x, "units", "negatives")
    student, teacher, memory_student, memory_teacher = units
    chosen, total = torch.cat([torch.arange(8)[:, None], negatives], 1), 0.0
    for own, memory in ((student, memory_teacher), (teacher, memory_student)):
        scores = (own[:8, None] * memory[chosen]).sum(2) / 0.07
        normaliser = len(memory) * scores.exp().mean()
        total += contrastive_loss(scores[:, 0], scores[:, 1:], normaliser, 20 / len(memory)).item()
    return total


def our_ranked(x: dict, temperature: float, ratio: float, similar: bool) -> float:
    import torch

    from kdlib.methods.sskd import apart, divergence_of_kept, kept_rows, similarity

    student, teacher = tensors(x, "views")[0]
    if similar:
        learned, taught, correct = similarity(student), similarity(teacher), torch.arange(16)
    else:
        (_, learned), (_, taught) = apart(student), apart(teacher)
        correct = tensors(x, "labels")[0][:16]
    kept = kept_rows(taught, correct.repeat_interleave(3), ratio)
    return divergence_of_kept(learned, taught, temperature, kept).item()


def our_cka(x: dict, second: str = "second") -> float:
    from kdlib.bias.representations import cka

    return cka(x["first"], x[second], batch_size=500)


def our_kappa(x: dict) -> float:
    from kdlib.bias.measures import error_consistency

    return float(error_consistency(x["hits"][:1], x["hits"][1:]).mean())


def our_calibration(x: dict) -> float:
    from kdlib.bias.measures import expected_calibration_error

    hits = x["confidence"].argmax(1) == x["answers"]
    return float(expected_calibration_error(x["confidence"].max(1)[None], hits[None])[0])


def our_likelihood(x: dict) -> float:
    from kdlib.bias.measures import negative_log_likelihood

    return float(negative_log_likelihood(x["confidence"][np.arange(2000), x["answers"]][None]).mean())


def our_width(x: dict) -> float:
    from kdlib.bias.statistics import crossed_interval

    interval = crossed_interval(x["seeds"][:, None])
    return interval.high - interval.low


def our_squares(x: dict) -> float:
    from kdlib.bias.statistics import mean_products

    return float(mean_products(x["table"].astype(float))[0, 0, :2].sum())


def our_holm(name: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from kdlib.bias.statistics import holm

        return float(holm(x[name])[1])

    return value


def our_wilson(x: dict) -> float:
    from kdlib.bias.measures import wilson_lower

    return float(wilson_lower(x["hits"][:1])[0])
