"""Profiles: a study's whole content as YAML, with overrides. kdlib.study.schema reads and checks them."""

import hashlib
import json
import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import yaml

from kdlib.messages import check, one_line

PROFILES = Path(__file__).parents[1] / "profiles"
OUTPUTS = Path(__file__).parents[2] / "outputs"
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEACHERS = ("teacher", "same_family", "matched")  # the networks that may teach in a direction


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def folder_of(profile: str, output: str | Path | None) -> Path:
    """Where a study's tables, figures and report go: ``<output>/<profile>``."""
    return (Path(output).absolute() if output else OUTPUTS) / Path(profile).stem


def records_folder(folder: str | Path) -> Path:
    """Where published records lie: relative to the working directory, or else to the project.

    Raises ValueError if the folder holds none.
    """
    places = (Path(folder), PROFILES.parents[1] / folder)
    if found := next((place.absolute() for place in places if (place / "study.json").is_file()), None):
        return found
    raise ValueError(f"{folder} holds no published records: expected study.json, labels.npz and runs/")


def overridden_profile(name: str, overrides: dict | Iterable[str] = ()) -> dict:
    """A profile's content, not checked: one of :func:`profile_names`, or the path of a YAML file.

    Overrides are :func:`read_overrides`'s. One of ``training`` is of every network, unless a later one is of
    a single network's.
    """
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = PROFILES / f"{check('profile', name, profile_names())}.yml"
    elif not path.is_file():
        raise ValueError(f"no profile file {path}; give a path, or a name: {', '.join(profile_names())}")
    profile = _yaml(path.read_text(encoding="utf-8", errors="replace"), str(path))
    given = {}
    for key, value in read_overrides(overrides).items():
        recipe = key == "training" and isinstance(value, dict)  # what it leaves out stays as it is
        given |= {f"training.{part}": one for part, one in value.items()} if recipe else {key: value}
    for key, value in ({"": profile} | given).items():
        *parents, last = key.split(".")
        place = profile
        for part in parents:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            where = f"override {key}: {'.'.join(parents)}" if key else str(path)
            raise ValueError(f"{where} is not a mapping of keys to values")
        if key:
            place[last] = deepcopy(value)  # the next override may change it
        if parents == ["training"]:
            _drop_own(profile, last)
    if (own := profile.get("methods_from")) is not None:
        file = path.absolute().parent / str(own)
        if not file.is_file():
            raise ValueError(f"methods_from: there is no file {file}; give a path from the profile's folder")
        profile["methods_from"] = str(file)
    return profile


def _drop_own(profile: dict, key: str) -> None:
    """What is set for all networks is set for those with a recipe of their own, too."""
    for group in ("students", "teachers"):
        networks = profile.get(group)
        for network in networks.values() if isinstance(networks, dict) else ():
            if isinstance(network, dict) and isinstance(network.get("training"), dict):
                network["training"].pop(key, None)


def digest_of(profile: dict) -> str:
    """12 digits that name what :func:`overridden_profile` gave; of ``methods_from`` by the file's content."""
    if own := profile.get("methods_from"):
        profile = profile | {"methods_from": hashlib.sha256(Path(own).read_bytes()).hexdigest()}
    return hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()[:12]


def read_overrides(overrides: dict | str | Iterable[str]) -> dict:
    """``{"training.epochs": 1}`` as it is; the same of ``["training.epochs=1"]``, or of either as a text.

    A value, or a text that is a mapping or a list, is read as YAML. Raises ValueError for anything else.
    """
    if isinstance(overrides, dict) or not overrides:
        return overrides or {}
    if isinstance(overrides, str):  # as papermill's -p and -r give it
        whole = overrides.lstrip().startswith(("{", "["))
        return read_overrides(_yaml(overrides, "overrides") if whole else [overrides])
    found = {}
    for text in overrides:
        key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not (key and equals):
            raise ValueError(f"override {text!r} is not of the form key=value, like 'seeds=[0]'")
        found[key] = _yaml(value, f"override {key}")
    return found


def _yaml(text: str, where: str):
    """What YAML says, through JSON: anchors share one object, and an override is meant for one place."""
    try:
        return json.loads(json.dumps(yaml.load(text, _Loader)))  # a SafeLoader: data only
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{where} is not readable YAML: {one_line(error)}") from error
