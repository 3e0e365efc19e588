"""Distillation methods by name. A new one is a file in this folder and a line in the table."""

from dataclasses import fields

from kdlib.messages import lookup, overridden
from kdlib.methods.base import Batch, Method
from kdlib.methods.baseline import Baseline
from kdlib.methods.capd import CAPD
from kdlib.methods.class_part import ClassMeans, WithinClass
from kdlib.methods.crd import CRD
from kdlib.methods.cskd import CSKD
from kdlib.methods.cue_versions import CounterAugment, Gate, Marginalise
from kdlib.methods.deit import DeiT
from kdlib.methods.dist import DIST
from kdlib.methods.dkd import DKD
from kdlib.methods.fitnet import FitNet
from kdlib.methods.fitnet_last import FitNetLast
from kdlib.methods.label_smoothing import LabelSmoothing
from kdlib.methods.lm import LogitMatching, ShuffledLogitMatching
from kdlib.methods.lskd import LSKD
from kdlib.methods.ofa import OFA
from kdlib.methods.rsd import RSD
from kdlib.methods.sskd import SSKD
from kdlib.methods.vlfkd import VLFKD

METHODS: dict[str, type[Method]] = {
    "baseline": Baseline,
    "lm": LogitMatching,
    "crd": CRD,
    "cskd": CSKD,
    "vlfkd": VLFKD,
    "deit": DeiT,
    "dkd": DKD,
    "dist": DIST,
    "lskd": LSKD,
    "ofa": OFA,
    "fitnet": FitNet,
    "sskd": SSKD,
    "capd": CAPD,
    "label_smoothing": LabelSmoothing,
    "lm_shuffled": ShuffledLogitMatching,
    "class_means": ClassMeans,
    "within_class": WithinClass,
    "rsd": RSD,
    "fitnet_last": FitNetLast,
    "marginalise": Marginalise,
    "gate": Gate,
    "counter": CounterAugment,
}

__all__ = ["METHODS", "Batch", "Method", "hyperparameters"]


def hyperparameters(name: str, overrides: dict) -> dict:
    """All hyper-parameters of a method: its defaults and the overrides.

    Raises UnknownName for another method or hyper-parameter, ValueError for a value that can't be one.
    """
    known, kind = fields(lookup("method", name, METHODS)), f"hyper-parameter of {name}"
    found = overridden({field.name: field.default for field in known}, overrides, kind)
    for key in (key for key in overrides if key.endswith("temperature")):
        if found[key] <= 0:
            raise ValueError(f"{kind} {key} is {found[key]}; it must be above 0")
    return found
