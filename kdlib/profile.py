"""Profiles: a study's whole content as plain YAML, read, overridden and checked."""

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import yaml

from kdlib.data import DataSpec
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec
from kdlib.names import check
from kdlib.probes import PROBES, series
from kdlib.probes.external import EXTERNAL
from kdlib.roles import CONTROLS
from kdlib.train import Training

PROFILES = Path(__file__).with_name("profiles")
KEYS = (
    *("title", "data", "seeds", "training", "students", "teachers", "directions", "hyper"),
    *("probes", "test_images", "inside_images", "external", "yardstick_images"),
)
NEEDED = ("title", "data", "seeds", "training", "students", "teachers", "directions", "probes")
TEACHERS = ("teacher", "same_family", "matched")  # the networks that may teach in a direction
PLAN = (*TEACHERS, "student", "methods", "controls")


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def read_profile(name: str, overrides: dict | Iterable[str] = ()) -> dict:
    """A profile's content: one of :func:`profile_names`, or the path of a YAML file.

    Args:
        overrides: ``{"training.epochs": 1}`` or ``["training.epochs=1"]``; values are read as YAML.

    Raises:
        UnknownName: for a profile or a key that doesn't exist.
        ValueError: for an override that isn't ``key=value``.
    """
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = PROFILES / f"{check('profile', name, profile_names())}.yml"
    # Through JSON: YAML's anchors share one object, and an override is meant for one place.
    profile = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for key, value in read_overrides(overrides).items():
        *parents, last = key.split(".")
        place = profile
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    _validate(profile)
    return profile


def read_overrides(overrides: dict | Iterable[str]) -> dict:
    """``["training.epochs=1"]`` as ``{"training.epochs": 1}``; a mapping as it is.

    Raises:
        ValueError: for a text that isn't ``key=value``.
    """
    if isinstance(overrides, dict):
        return overrides
    pairs = [text.partition("=") for text in overrides]
    for key, equals, value in pairs:
        if not equals:
            raise ValueError(f"override {key + value!r} is not of the form key=value")
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def _validate(profile: dict) -> None:
    """Find what would otherwise fail late, or be ignored."""
    _check_keys(profile, KEYS, "a profile", NEEDED)
    used = set()
    for direction, plan in profile["directions"].items():
        _check_keys(plan, PLAN, f"directions.{direction}", ("teacher", "student", "methods"))
        for key in [key for key in plan if key in (*TEACHERS, "student")]:
            group = "students" if key == "student" else "teachers"
            used.add((group, check(f"network in the profile's {group}", plan[key], profile[group])))
        for method in plan["methods"]:
            check("method", method, METHODS)
        for control in plan.get("controls", []):
            needed = CONTROLS[check("control", control, CONTROLS)].teacher
            if needed and needed not in plan:
                raise ValueError(
                    f"control {control} needs directions.{direction}.{needed}: one of the profile's teachers"
                )
    for group in ("students", "teachers"):
        for name, network in profile[group].items():
            _check_keys(network, ("model", "training"), f"{group}.{name}", ("model",))
            if (group, name) not in used:
                raise ValueError(
                    f"{group}.{name} is in no direction of the profile; use it in one or drop it"
                )
            make(ModelSpec, network["model"], f"{group}.{name}.model")
            make(Training, profile["training"] | network.get("training", {}), f"{group}.{name}.training")
    make(DataSpec, profile["data"], "data")
    for method, overrides in profile.get("hyper", {}).items():
        hyperparameters(method, overrides)
    for probe in profile["probes"]:
        check("probe or series", probe, [*PROBES, *series()])
    for name in profile.get("external", []):
        check("external stimuli", name, EXTERNAL)
    if not profile["seeds"]:
        raise ValueError("the profile has no seeds; give at least one, and three or more for intervals")


def _check_keys(values: dict, valid: Iterable[str], where: str, needed: Iterable[str] = ()) -> None:
    for key in values:
        check(f"key in {where}", key, valid)
    for key in needed:
        if key not in values:
            raise ValueError(f"{where} has no {key}; add it (it may hold: {', '.join(valid)})")


def make(kind: type, values: dict, where: str):
    """A dataclass from a profile's mapping.

    Raises:
        UnknownName: for a key that the dataclass doesn't have.
        ValueError: for a value of another type.
    """
    kinds = {field.name: field.type for field in fields(kind)}
    _check_keys(values, kinds, where)
    values = dict(values)
    for key, value in values.items():
        if kinds[key] is float:
            try:
                values[key] = float(value)  # YAML reads 1e-3 as text
                continue
            except (TypeError, ValueError):
                pass
        if not isinstance(value, kinds[key]):
            wanted = getattr(kinds[key], "__name__", kinds[key])
            raise ValueError(f"{where}.{key} is {value!r}; it must be of type {wanted}")
    return kind(**values)
