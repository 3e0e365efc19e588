"""Rows about answers of networks, and their confidence."""

from collections.abc import Callable

import numpy as np
from comparison_base import OTHER, Row, tensors
from comparison_ours import our_kappa


def from_answers(measure: str, *names: str) -> Callable[[dict], float]:
    """Mean of one of kdlib's measures of arrays (1, n), of labels (n,)."""

    def value(x: dict) -> float:
        from kdlib.bias import measures

        given = (x[name] if "label" in name else x[name][None] for name in names)
        return float(getattr(measures, measure)(*given).mean())

    return value


def standard_error(influence: Callable[[dict], np.ndarray]) -> Callable[[dict], float]:
    """Of one run over images, from its row of influences."""
    return lambda x: float(influence(x).std(ddof=1) / np.sqrt(influence(x).size))


def our_retention(x: dict) -> np.ndarray:
    from kdlib.bias import retention

    return retention(*x["kept"][:, None], chance=0.1)


def our_shape_bias(x: dict) -> np.ndarray:
    from kdlib.bias import shape_bias

    return shape_bias(x["first_answers"][None], x["shape_labels"], x["texture_labels"])


def our_cue_rate(x: dict) -> np.ndarray:
    from kdlib.bias import cue_rate

    return cue_rate(x["first_answers"][None], x["shape_labels"], x["texture_labels"])


def our_sensitivity(x: dict) -> float:
    from kdlib.bias import cue_decisions, cue_sensitivity

    shape, _ = cue_decisions(x["first_answers"][None], x["shape_labels"], x["texture_labels"])
    return float(cue_sensitivity(shape, np.ones((1, 400)), chance=0.1).mean())


def follows(x: dict, *cues: str) -> np.ndarray:
    return sum((x["first_answers"] == x[f"{cue}_labels"]).astype(float) for cue in cues)


def samplics_error(numerator: np.ndarray, denominator: np.ndarray) -> float:
    from samplics.estimation import TaylorEstimator
    from samplics.utils.types import PopParam

    found = TaylorEstimator(param=PopParam.ratio)
    found.estimate(y=numerator, x=denominator, samp_weight=np.ones(400))
    return float(found.stderror)


def retentions_error(x: dict) -> float:
    return samplics_error(*(x["kept"] - 0.1))


def shapes_error(x: dict) -> float:
    return samplics_error(follows(x, "shape"), follows(x, "shape", "texture"))


def proportions_error(*cues: str) -> Callable[[dict], float]:
    """Half the width over 1.96: of answers that follow either cue among all, or of ``cues`` among those."""

    def value(x: dict) -> float:
        from statsmodels.stats.proportion import proportion_confint

        either = follows(x, "shape", "texture").sum()
        counts = (follows(x, *cues).sum(), either) if cues else (either, 400)
        low, high = proportion_confint(*counts)
        return float((high - low) / 2 / 1.959963985)

    return value


def their_adjusted(x: dict) -> float:
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(x["shape_labels"], x["first_answers"], adjusted=True))


def their_kappa(x: dict) -> float:
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(x["first_answers"], x["second_answers"]))


def models_similarity(name: str, **options) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from lmsim import metrics

        answers = (list(np.eye(10)[x[name]]) for name in BOTH)
        return float(getattr(metrics, name)(**options).compute_k(*answers, x["shape_labels"]))

    return value


def their_jaccard(x: dict) -> float:
    from error_consistency.functional import error_consistencies

    found = error_consistencies([x["first_answers"], x["second_answers"]], x["shape_labels"])
    return float(found[0].mean())


def their_alpha(x: dict) -> float:
    from krippendorff import alpha

    return float(alpha(reliability_data=x["hits"].astype(int), level_of_measurement="nominal"))


def their_disagreement(x: dict) -> float:
    import torch
    from torch_uncertainty.metrics.classification import Disagreement

    answers = [np.eye(10)[x[name]] for name in BOTH]
    metric = Disagreement()
    metric.update(torch.from_numpy(np.stack(answers, 1)))
    return 1 - metric.compute().item()


def our_brier(x: dict) -> float:
    """As MEASURES["brier"] has it, of what the records keep."""
    confidence, right = x["confidence"], x["confidence"][np.arange(2000), x["answers"]]
    return float(((confidence**2).sum(1) - 2 * right + 1).mean())


def their_brier(x: dict) -> float:
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(x["answers"], x["confidence"], labels=range(10)))


def torch_uncertainty_brier(x: dict) -> float:
    from torch_uncertainty.metrics.classification import BrierScore

    metric = BrierScore(num_classes=10)
    metric.update(*tensors(x, "confidence", "answers"))
    return metric.compute().item()


def our_invariance(x: dict) -> float:
    from kdlib.bias.representations import invariance

    return float(invariance(*x["embeddings"]).mean())


def their_cosine(x: dict) -> float:
    from torchmetrics.functional import pairwise_cosine_similarity

    return pairwise_cosine_similarity(*tensors(x, "embeddings")[0]).diagonal().mean().item()


SAMPLICS, STATSMODELS, SCIKIT = "samplics 0.6.1", "statsmodels 0.15.0", "scikit-learn 1.9.1"
LMSIM, UNCERTAINTY = "lm-sim 0.1.1", "torch-uncertainty 0.13.0"
RETENTION_ERROR, SHAPE_ERROR = standard_error(our_retention), standard_error(our_shape_bias)
CUE_ERROR = standard_error(our_cue_rate)
BOTH = ("first_answers", "second_answers")
HITS = ("error_consistency", "first_hits", "second_hits")
ANSWERS = [
    Row(LMSIM, "EC", "statistics", from_answers(*HITS), models_similarity("EC")),
    Row(
        LMSIM,
        "CAPA(prob=False)",
        "statistics",
        from_answers(*HITS),
        models_similarity("CAPA", prob=False),
        "Equal answers, not equal hits, so that equal mistakes count. Goel et al. 2025; ours is Geirhos et "
        "al. 2020, with agreement beside it.",
        OTHER,
    ),
    Row(
        "error-consistency 0.3.1",
        "error_consistencies",
        "statistics",
        from_answers(*HITS),
        their_jaccard,
        "Mistakes in common over mistakes of either: not beyond chance, and larger for weak networks. Ours "
        "is the measure of that name by Geirhos et al. 2020.",
        OTHER,
    ),
    Row(
        "krippendorff 0.9.0",
        "alpha of hits",
        "statistics",
        our_kappa,
        their_alpha,
        "What is expected is pooled over both networks, so a difference in accuracy counts against them. "
        "Geirhos et al. 2020: Cohen's kappa, ours.",
        OTHER,
    ),
    *(
        Row(package, function, "statistics", our, their, tolerance=3e-3 if package == STATSMODELS else 2e-5)
        for package, function, our, their in (
            (SCIKIT, "cohen_kappa_score of answers", from_answers("agreement_kappa", *BOTH), their_kappa),
            (UNCERTAINTY, "1 - Disagreement", from_answers("agreement", *BOTH), their_disagreement),
            (SCIKIT, "brier_score_loss", our_brier, their_brier),
            (UNCERTAINTY, "BrierScore", our_brier, torch_uncertainty_brier),
            (
                SCIKIT,
                "balanced_accuracy_score(adjusted=True), shapes under conflict",
                our_sensitivity,
                their_adjusted,
            ),
            (SAMPLICS, "TaylorEstimator, standard error of a retention", RETENTION_ERROR, retentions_error),
            (SAMPLICS, "TaylorEstimator, standard error of shape bias", SHAPE_ERROR, shapes_error),
            (
                STATSMODELS,
                "proportion_confint, standard error of shape bias",
                SHAPE_ERROR,
                proportions_error("shape"),
            ),
            (STATSMODELS, "proportion_confint, standard error of cue rate", CUE_ERROR, proportions_error()),
        )
    ),
    Row(
        "torchmetrics 1.9.0",
        "pairwise_cosine_similarity of an image and its scrambled version",
        "statistics",
        our_invariance,
        their_cosine,
        "All embeddings share a large mean, so any two images are alike. Ours takes it off, and what other "
        "images have in common.",
        OTHER,
    ),
]
