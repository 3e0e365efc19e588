"""What the other libraries compute of the arrays of compare_libraries.py, where kdlib is not installed."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from comparison_base import T, gradient_of, tensors


def torchdistill(loss: str, **options) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from torchdistill.losses import mid_level

        student, teacher, labels = tensors(x, "student", "teacher", "labels")
        terms = getattr(mid_level, loss)("z", "output", "z", "output", **options)
        return terms({"z": {"output": student}}, {"z": {"output": teacher}}, labels).item()

    return value


def their_channels(x: dict) -> float:
    from torchdistill.losses.mid_level import DISTPlusLoss

    (maps,) = tensors(x, "map_teacher")
    paths = ["z", "output", "z", "output", "map", "output", "map", "output"]
    given = {"z": {"output": tensors(x, "teacher")[0]}, "map": {"output": maps}}
    return DISTPlusLoss(*paths, iota=1.0, kappa=0.0)(given, given).item()


def their_contrast(x: dict) -> float:
    import torch
    from torchdistill.losses.mid_level import CRDLoss

    units, negatives = tensors(x, "units", "negatives")
    contrast = CRDLoss("v", "index", "v", 32, 256, 20, 256, temperature=0.07)
    contrast.memory_v1, contrast.memory_v2 = units[2].clone(), units[3].clone()
    index = {"pos_idx": torch.arange(8), "contrast_idx": torch.cat([torch.arange(8)[:, None], negatives], 1)}
    student = {"v": {"output": units[0, :8]}, "index": {"input": index}}
    return contrast(student, {"v": {"output": units[1, :8]}}).item()


def their_ranked(weights: list[float], ratio: float) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from torchdistill.losses.mid_level import SSKDLoss

        student, teacher = tensors(x, "views")[0]
        options = {"kl_temp": 4.0, "ss_temp": 0.5, "tf_temp": 4.0, "ss_ratio": ratio, "tf_ratio": ratio}
        terms = SSKDLoss("z", "z", "v", "v", **options, loss_weights=weights)
        given = ({"z": {"output": z}, "v": {"output": z}} for z in (student, teacher))
        return terms(*given, tensors(x, "labels")[0][:16]).item()

    return value


def their_timm(x: dict, teacher_std: float = 0.25, seen_only: bool = False) -> float:
    import torch
    from timm.task import LogitDistillationTask

    class Fixed(torch.nn.Module):
        """A network that gives the logits it was made with, and keeps what it is shown."""

        def __init__(self, name: str, std: float):
            super().__init__()
            self.logits = torch.nn.Parameter(tensors(x, name)[0])
            self.pretrained_cfg = {"mean": (0.5,) * 3, "std": (std,) * 3}
            self.num_classes, self.in_chans = 10, 3

        def forward(self, images):
            self.seen = images
            return self.logits

    networks = Fixed("student", 0.25), Fixed("teacher", teacher_std)
    loss = torch.nn.CrossEntropyLoss()
    task = LogitDistillationTask(*networks, criterion=loss, temperature=T, verbose=False)
    images = torch.randn(64, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = task(images, tensors(x, "labels")[0])
    return (networks[1].seen.std() / images.std()).item() if seen_only else found["kd_loss"].item()


def their_textbrewer(x: dict) -> float:
    import importlib.util
    import types

    # Its __init__ asks for much of a text pipeline; the losses need nothing of it.
    root = Path(importlib.util.find_spec("textbrewer").submodule_search_locations[0])
    sys.modules["textbrewer"] = package = types.ModuleType("textbrewer")
    package.__path__ = [str(root)]
    from textbrewer.losses import kd_ce_loss

    return gradient_of(lambda s, t: kd_ce_loss(s, t, T), x)


def their_divergence_mean(x: dict) -> float:
    import torch

    student, teacher = tensors(x, "student", "teacher")
    terms = (student / T).log_softmax(1), (teacher / T).softmax(1)
    return T**2 * torch.nn.KLDivLoss()(*terms).item()


def their_modelopt(x: dict) -> float:
    from modelopt.torch.distill import LogitsDistillationLoss

    return LogitsDistillationLoss(temperature=T)(*tensors(x, "student", "teacher")).item()


def kd_lib(module: str, method: str, gradient: bool, **options) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        import importlib
        import types

        import KD_Lib
        from torch import nn

        # The text half needs a torchtext that no longer exists, so only the vision half is loaded.
        sys.modules["KD_Lib.KD"] = package = types.ModuleType("KD_Lib.KD")
        package.__path__ = [str(Path(KD_Lib.__file__).parent / "KD")]
        make = getattr(importlib.import_module(f"KD_Lib.KD.vision.{module}"), method)
        distil = make(nn.Linear(1, 1), nn.Linear(1, 1), [], [], None, None, temp=T, **options)
        teacher, labels = tensors(x, "teacher", "labels")
        if gradient:
            return gradient_of(lambda s, t: distil.calculate_kd_loss(s, t, labels), x)
        return distil.calculate_kd_loss(teacher, teacher, teacher.argmax(1)).item()

    return value


def ckatorch(x: dict, **options) -> float:
    from ckatorch.core import cka_base, cka_batch

    first, second = tensors(x, "first", "second")
    return (
        cka_base(first, second, **options).item() if options else cka_batch(first[None], second[None]).item()
    )


def their_torch_cka(x: dict) -> float:
    import torch
    from torch_cka import CKA

    grams = [z @ z.T for z in tensors(x, "first", "second")]
    for gram in grams:
        gram.fill_diagonal_(0)
    comparison = CKA(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), "a", "b")
    torch.set_default_dtype(torch.float64)  # its vectors of ones have the default's
    across, one, two = (comparison._HSIC(a, b) for a, b in (grams, grams[:1] * 2, grams[1:] * 2))
    return across / (one * two) ** 0.5


def their_pytorch_cka(x: dict, second: str = "second") -> float:
    from cka import cka_from_features

    return cka_from_features(*tensors(x, "first", second)).item()


def their_cka_pytorch(x: dict) -> float:
    from cka_pytorch.hsic import hsic1

    one, two = ((z @ z.T)[None] for z in tensors(x, "first", "second"))
    return (hsic1(one, two) / (hsic1(one, one) * hsic1(two, two)).sqrt()).item()


def their_repsim(x: dict, **options) -> float:
    import repsim

    return float(repsim.cka([x["first"], x["second"]], **options)[0, 1])


def their_dcor(x: dict) -> float:
    from dcor import u_centered, u_product

    grams = [z @ z.T for z in (x["first"], x["second"])]
    one, two = (u_centered(gram - np.diag(np.diag(gram))) for gram in grams)
    return float(u_product(one, two) / np.sqrt(u_product(one, one) * u_product(two, two)))


def their_distances(x: dict) -> float:
    from dcor import u_distance_correlation_sqr

    return float(u_distance_correlation_sqr(x["first"], x["second"]))


def their_kappa(package: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        first, second = x["hits"].astype(int)
        if package == "scikit-learn":
            from sklearn.metrics import cohen_kappa_score

            return float(cohen_kappa_score(first, second))
        if package == "statsmodels":
            from statsmodels.stats.inter_rater import cohens_kappa, to_table

            return float(cohens_kappa(to_table(np.stack([first, second], 1), bins=2)[0]).kappa)
        import torch
        from torchmetrics.classification import BinaryCohenKappa

        return BinaryCohenKappa()(torch.from_numpy(first), torch.from_numpy(second)).item()

    return value


def their_calibration(package: str, **options) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        if package == "netcal":
            from netcal.metrics import ECE

            return float(ECE(15, **options).measure(x["confidence"], x["answers"]))
        if package == "uncertainty-calibration":
            import calibration

            return float(calibration.get_calibration_error(x["confidence"], x["answers"], **options))
        from torchmetrics.classification import MulticlassCalibrationError

        return MulticlassCalibrationError(10, n_bins=15)(*tensors(x, "confidence", "answers")).item()

    return value


def their_likelihood(x: dict) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(x["answers"], x["confidence"], labels=range(10)))


def their_proportion(method: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from statsmodels.stats.proportion import proportion_confint

        return float(proportion_confint(x["hits"][0].sum(), 400, method=method)[0])

    return value


def their_width(x: dict) -> float:
    from statsmodels.stats.weightstats import DescrStatsW

    low, high = DescrStatsW(x["seeds"]).tconfint_mean()
    return float(high - low)


def their_bootstrap(x: dict) -> float:
    from scipy import stats

    low, high = stats.bootstrap((x["seeds"],), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return float(high - low)


def their_rliable(x: dict) -> float:
    from rliable import library

    np.random.seed(0)
    scores = {"a": x["seeds"][:, None]}
    intervals = library.get_interval_estimates(scores, lambda s: np.array([s.mean()]), reps=5000)[1]["a"]
    return float(np.ptp(intervals))


def their_squares(x: dict) -> float:
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    seeds, images = x["table"].shape
    long = pd.DataFrame({"y": x["table"].ravel().astype(float)})
    long["seed"], long["image"] = np.repeat(np.arange(seeds), images), np.tile(np.arange(images), seeds)
    return float(anova_lm(ols("y ~ C(seed) + C(image)", long).fit())["mean_sq"].iloc[:2].sum())


def their_holm(package: str, name: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        if package == "pingouin":
            from pingouin import multicomp

            return float(multicomp(x[name], method="holm")[1][1])
        from statsmodels.stats.multitest import multipletests

        return float(multipletests(x[name], method="holm")[1][1])

    return value
