"""Distillation methods by name. A new one is a file in this folder and a line in the table.

Or it is a file of one's own, which a profile's ``methods_from`` names and :func:`add_from` runs.
"""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType

from kdlib.messages import lookup, one_line, overridden
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

OWN: dict[str, str] = {}  # of methods from a file of one's own: 12 digits that name its content


def add_from(path: Path, taken: Iterable[str] = ()) -> None:
    """Run a file of Python that puts methods into METHODS; once in a process, however often it is named.

    Raises ValueError if it can't be run, puts nothing there, or not a method, or one under a name that is in
    METHODS or ``taken``; METHODS is then as before.
    """
    content, before = path.read_bytes(), dict(METHODS)
    digest = hashlib.sha256(content).hexdigest()[:12]
    module = ModuleType(f"methods_from_{digest}")
    if module.__name__ in sys.modules:
        return
    sys.modules[module.__name__] = module  # where dataclasses look for what it imports
    try:
        exec(compile(content, str(path), "exec"), vars(module))
        found = {name: kind for name, kind in METHODS.items() if before.get(name) is not kind}
        if not found:
            raise ValueError('it adds no method; end it with METHODS["my_method"] = MyMethod')
        for name, kind in found.items():
            if name in (*before, *taken):
                told = "choose another, or restart Python if the file has changed"
                raise ValueError(f"the name {name} is taken; {told}")
            if not (isinstance(kind, type) and issubclass(kind, Method) and hasattr(kind, "title")):
                raise ValueError(f"{name} is not a subclass of kdlib.methods.Method with a title")
            if kind.title in {one.title for one in before.values()}:
                raise ValueError(f"{name}: the title {kind.title} is taken; choose another")
            if not kind.__hash__ or any(field.default is MISSING for field in fields(kind)):
                told = "write @dataclass(eq=False) above the class, and give each hyper-parameter a default"
                raise ValueError(f"{name}: {told}, a number, a text or a truth value")
    except Exception as error:
        del sys.modules[module.__name__]
        METHODS.clear()
        METHODS.update(before)
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"methods_from: {path}: {kind}{one_line(error)}") from error
    OWN.update(dict.fromkeys(found, digest))


def hyperparameters(name: str, overrides: dict) -> dict:
    """All hyper-parameters of a method: its defaults and the overrides.

    Raises UnknownName for another method or hyper-parameter, ValueError for a value that can't be one.
    """
    known, kind = fields(lookup("method", name, METHODS)), f"hyper-parameter of {name}"
    defaults = {field.name: field.default for field in known}
    for field in known:
        if field.type in (float, "float") and type(field.default) is int:  # 1 in place of 1.0
            defaults[field.name] = float(field.default)
    found = overridden(defaults, overrides, kind)
    for key in (key for key in overrides if key.endswith("temperature")):
        if found[key] <= 0:
            raise ValueError(f"{kind} {key} is {found[key]}; it must be above 0")
    return found
