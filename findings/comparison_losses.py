"""Rows about losses of libraries that are not about distillation alone."""

from collections.abc import Callable

from comparison_base import AFTER, OTHER, Row, T, gradient_of, tensors
from comparison_ours import divergence, our_dist, our_gradient


def keras_loss(gradient: bool = False, by_name: bool = True) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        import os

        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        options = {} if by_name else {"loss": keras.losses.KLDivergence()}
        loss = keras.distillation.LogitsDistillation(temperature=T, **options)
        if gradient:
            return gradient_of(lambda student, teacher: loss.compute_loss(teacher, student), x)
        student, teacher = tensors(x, "student", "teacher")
        return float(loss.compute_loss(teacher, student))

    return value


def their_jensen(x: dict) -> float:
    from trl.experimental.gkd import GKDTrainer

    logits = (values[:, None] for values in tensors(x, "student", "teacher"))
    return GKDTrainer.generalized_jsd_loss(*logits, beta=0.0, temperature=T).item()


def razor(module: str, name: str, labelled: bool, **options) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        import importlib.util
        import sys
        import types
        from pathlib import Path

        # Its __init__ asks for the compiled half of mmcv; a loss needs only a registry to be entered in.
        registry = types.ModuleType("mmrazor.registry")
        registry.MODELS = types.SimpleNamespace(register_module=lambda: lambda made: made)
        root = Path(importlib.util.find_spec("mmrazor").submodule_search_locations[0])
        spec = importlib.util.spec_from_file_location(module, root / "models" / "losses" / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules["mmrazor.registry"] = registry
        spec.loader.exec_module(loaded)
        given = tensors(x, "student", "teacher", *(["labels"] if labelled else []))
        return getattr(loaded, name)(**options)(*given).item()

    return value


def our_decoupled(x: dict) -> float:
    from kdlib.methods.dkd import decoupled_divergences

    target, others = decoupled_divergences(*tensors(x, "student", "teacher", "labels"), T)
    return T**2 * (target.mean() + 2 * others.mean()).item()


def our_redundancy(x: dict) -> float:
    from kdlib.methods.rsd import redundancy_loss

    return redundancy_loss(*tensors(x, "first_units", "second_units"), 0.01).item()


def their_twins(x: dict) -> float:
    from lightly.loss import BarlowTwinsLoss

    second, first = tensors(x, "second_units", "first_units")
    return BarlowTwinsLoss(lambda_param=0.01)(second, first).item()


def our_stage(x: dict) -> float:
    """SSKD's first stage, of 16 images in four views each."""
    import torch
    from torch.nn import functional as F

    from kdlib.methods.sskd import similarity

    found = similarity(tensors(x, "views")[0][0])
    return F.cross_entropy(found / 0.5, torch.arange(16).repeat_interleave(3)).item()


def views(x: dict):
    """Upright views and rotated ones, (16, 12) and (48, 12)."""
    parts = tensors(x, "views")[0][0].unflatten(0, (-1, 4))
    return parts[:, 0], parts[:, 1:].flatten(0, 1)


def their_contrast_of_views(x: dict) -> float:
    import torch
    from pytorch_metric_learning.losses import NTXentLoss

    upright, rotated = views(x)
    labels = torch.arange(16)
    loss = NTXentLoss(temperature=0.5)
    return loss(rotated, labels.repeat_interleave(3), ref_emb=upright, ref_labels=labels).item()


def lightlys_contrast(x: dict) -> float:
    from lightly.loss import NTXentLoss

    upright, rotated = views(x)
    return NTXentLoss(temperature=0.5)(rotated, upright.repeat_interleave(3, 0)).item()


def our_smoothing(x: dict) -> float:
    import torch
    from torch.nn import functional as F

    student, labels = tensors(x, "student", "labels")
    certain = torch.zeros_like(student).scatter_(1, labels[:, None], 1.0)
    return F.cross_entropy(student, 0.9 * certain + 0.1 / 10).item()


def their_smoothing(x: dict) -> float:
    from timm.loss import LabelSmoothingCrossEntropy

    return LabelSmoothingCrossEntropy(0.1)(*tensors(x, "student", "labels")).item()


KERAS, LIGHTLY = "keras 3.15.1", "lightly 1.6.0"
OTHER_LOSSES = [
    Row(
        KERAS,
        "LogitsDistillation",
        "losses",
        divergence,
        keras_loss(),
        "The default, a name, isn't taken for a divergence: scaled logits, cut to [0, 1], stand for "
        "probabilities, without T². Hinton et al. 2015: ours.",
    ),
    Row(
        KERAS,
        "LogitsDistillation, norm of the gradient",
        "losses",
        our_gradient,
        keras_loss(True),
        "Logits of the student below 0 or above T get none, and the others another one.",
        AFTER,
    ),
    Row(
        KERAS,
        "LogitsDistillation(loss=KLDivergence())",
        "losses",
        divergence,
        keras_loss(by_name=False),
        guess=AFTER,
    ),
    Row(
        "trl 1.16.0",
        "generalized_jsd_loss, beta 0",
        "losses",
        divergence,
        their_jensen,
        "Without T²: 16 times smaller at T 4. Hinton et al. 2015: ours.",
        OTHER,
    ),
    Row(
        "mmrazor 1.0.0",
        "DKDLoss",
        "losses",
        our_decoupled,
        razor("decoupled_kd", "DKDLoss", True, tau=T, beta=2.0),
    ),
    Row("mmrazor 1.0.0", "DISTLoss", "losses", our_dist, razor("dist_loss", "DISTLoss", False, tau=T)),
    Row(LIGHTLY, "BarlowTwinsLoss beside RSD's", "losses", our_redundancy, their_twins, tolerance=1e-3),
    Row(
        "pytorch-metric-learning 2.9.0",
        "NTXentLoss beside SSKD's first stage",
        "losses",
        our_stage,
        their_contrast_of_views,
    ),
    Row(
        LIGHTLY,
        "NTXentLoss beside SSKD's first stage",
        "losses",
        our_stage,
        lightlys_contrast,
        "All other views are negatives, other rotations of the same image too. Xu et al. 2020: upright views "
        "alone, ours.",
        OTHER,
    ),
    Row("timm 1.0.31", "LabelSmoothingCrossEntropy", "losses", our_smoothing, their_smoothing),
]
