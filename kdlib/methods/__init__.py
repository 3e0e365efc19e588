"""Distillation methods by name. A new one is a file in this folder and a line in the table."""

from dataclasses import fields

from kdlib.methods.base import Batch, Method
from kdlib.methods.capd import CAPD
from kdlib.methods.crd import CRD
from kdlib.methods.cskd import CSKD
from kdlib.methods.deit import DeiT
from kdlib.methods.dist import DIST
from kdlib.methods.dkd import DKD
from kdlib.methods.fitnet import FitNet
from kdlib.methods.independent import Independent
from kdlib.methods.label_smoothing import LabelSmoothing
from kdlib.methods.lm import LogitMatching, ShuffledLogitMatching
from kdlib.methods.lskd import LSKD
from kdlib.methods.ofa import OFA
from kdlib.methods.sskd import SSKD
from kdlib.methods.vlfkd import VLFKD
from kdlib.names import check, check_kinds, lookup

METHODS: dict[str, type[Method]] = {
    "independent": Independent,
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
}

__all__ = ["METHODS", "Batch", "Method", "hyperparameters"]


def hyperparameters(name: str, overrides: dict) -> dict:
    """All hyper-parameters of a method: its defaults and the overrides.

    Raises:
        UnknownName: if there is no such method, or the method has no such hyper-parameter.
        ValueError: for a value of another type, or a number of something below 1.
    """
    known = fields(lookup("method", name, METHODS))
    check_kinds(overrides, {field.name: field.type for field in known}, f"hyper.{name}", least=1)
    defaults = {field.name: field.default for field in known}
    for key in overrides:
        check(f"hyper-parameter of {name}", key, defaults)
    return defaults | overrides
