"""Profiles: a study's whole content as plain YAML, read, overridden and checked."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import yaml

from kdlib.data import DataSpec
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec
from kdlib.names import check, check_kinds, one_line
from kdlib.probes import PROBES, series
from kdlib.probes.external import EXTERNAL
from kdlib.study.controls import CONTROLS
from kdlib.train import Training

PROFILES = Path(__file__).parents[1] / "profiles"
KEYS = {
    **{"title": str, "data": dict, "seeds": list[int], "training": dict, "students": dict, "teachers": dict},
    **{"directions": dict, "hyper": dict, "probes": list[str], "external": list[str], "longer": dict},
    **{"test_images": int | None, "inside_images": int | None, "yardstick_images": int},
}
NEEDED = ("title", "data", "seeds", "training", "students", "teachers", "directions", "probes")
TEACHERS = ("teacher", "same_family", "matched")  # the networks that may teach in a direction
PLAN = dict.fromkeys((*TEACHERS, "student"), str) | {"methods": list[str], "controls": list[str]}
LARGEST = 100_000  # characters of a profile, its anchors written out; those here have less than 3,000


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def read_profile(name: str, overrides: dict | Iterable[str] = ()) -> dict:
    """A profile's content: one of :func:`profile_names`, or the path of a YAML file.

    Args:
        overrides: ``{"training.epochs": 1}`` or ``["training.epochs=1"]``; values are read as YAML. A
            direction that is null is left out, with the networks that no other one uses.

    Raises:
        UnknownName: for a profile or a key that doesn't exist.
        ValueError: for an override that isn't ``key=value``.
    """
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = PROFILES / f"{check('profile', name, profile_names())}.yml"
    with path.open("rb") as file:
        profile = _yaml(file.read(LARGEST + 1), str(path))
    check_kinds(profile, {}, str(path))
    for key, value in read_overrides(overrides).items():
        *parents, last = key.split(".")
        place = profile
        for part in parents:
            place = place.setdefault(part, {})
            check_kinds(place, {}, f"{part} of override {key}")
        place[last] = value
    _validate(profile)
    if profile.get("longer"):
        try:
            read_profile(name, read_overrides(overrides) | profile["longer"] | {"longer": {}})
        except ValueError as error:
            raise ValueError(f"in longer, which longer={{}} leaves out: {error}") from error
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
    return {key: _yaml(value, f"override {key}") for key, _, value in pairs}


def _yaml(text: str | bytes, where: str):
    """What YAML says, through JSON: anchors share one object, and an override is meant for one place.

    Written piece by piece, since a few lines of anchors to anchors can stand for more than the memory holds.
    """
    written, too_long = "", f"longer than {LARGEST:,} characters, its anchors written out"
    try:
        if len(text) > LARGEST:
            raise ValueError(too_long)
        for piece in json.JSONEncoder().iterencode(yaml.safe_load(text)):
            written += piece
            if len(written) > LARGEST:
                raise ValueError(too_long)
        return json.loads(written)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{where} is no YAML that can be read: {one_line(error)}") from error


def _validate(profile: dict) -> None:
    """Find what would otherwise fail late, or be ignored, and leave out what is null."""
    _check(profile, KEYS, "a profile", NEEDED)
    wanted = {name: plan for name, plan in profile["directions"].items() if plan is not None}
    fewer, used = len(wanted) < len(profile["directions"]), set()
    profile["directions"] = wanted
    for direction, plan in wanted.items():
        if not re.fullmatch(r"\w+", direction):
            raise ValueError(
                f"direction {direction!r} is part of files' names; use letters, digits and _ only"
            )
        _check(plan, PLAN, f"directions.{direction}", ("teacher", "student", "methods"))
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
        if fewer:
            profile[group] = {name: net for name, net in profile[group].items() if (group, name) in used}
        for name, network in profile[group].items():
            _check(network, {"model": dict, "training": dict}, f"{group}.{name}", ("model",))
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


def _check(values: dict, kinds: dict, where: str, needed: Iterable[str] = (), least: int = 0) -> None:
    check_kinds(values, kinds, where, needed, least)
    for key in values:
        check(f"key in {where}", key, kinds)


def make(kind: type, values: dict, where: str):
    """A dataclass from a profile's mapping.

    Raises:
        UnknownName: for a key that the dataclass doesn't have.
        ValueError: for a value of another type, or a number of something below 1.
    """
    kinds = {field.name: field.type for field in fields(kind)}
    check_kinds(values, {}, where)
    values = dict(values)
    for key, value in values.items():
        if kinds.get(key) is float and type(value) in (int, str):
            with suppress(ValueError, OverflowError):
                values[key] = float(value)  # YAML reads 1e-3 as text
    _check(values, kinds, where, least=1)
    return kind(**values)
