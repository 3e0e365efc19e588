"""Look names up and check values that come from files; what is wrong gets to know what is right."""

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Literal, get_args, get_origin


class UnknownName(ValueError):
    """A name that is not in its registry."""


def check(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``valid``.

    Raises:
        UnknownName: names the closest valid name, if one is close, and all valid names.
    """
    valid = list(valid)
    if name in valid:
        return name
    close = get_close_matches(str(name), valid, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UnknownName(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(valid)}.")


def lookup(kind: str, name: str, table: Mapping):
    """Return ``table[name]``, or raise :class:`UnknownName` as :func:`check` does."""
    return table[check(kind, name, table)]


def overridden(defaults: Mapping, values: Mapping, kind: str) -> dict:
    """The defaults, with ``values`` in place of some of them.

    Args:
        kind: what a key is, like "hyper-parameter of lm".

    Raises:
        UnknownName: for a key that isn't in ``defaults``.
        ValueError: for a value of another type than the default, for NaN and infinity, and for a whole number
            below 1 where the default isn't 0.
    """
    for key, value in values.items():
        default = lookup(kind, key, defaults)
        allowed = (int, float) if type(default) is float else (type(default),)
        if type(value) not in allowed:
            raise ValueError(f"{kind} {key} is {value!r:.60}; it must be of type {type(default).__name__}")
        if type(value) is int and type(default) is int and value < min(default, 1):
            raise ValueError(f"{kind} {key} is {value}; it must be at least {min(default, 1)}")
        if type(value) is float and not abs(value) <= sys.float_info.max:
            raise ValueError(f"{kind} {key} is {value}; it must be a finite number")
    return {**defaults, **values}


def fits(value: object, kind) -> bool:
    """Whether a value of YAML or JSON is of a kind: a type, a union, ``list[str]``, ``Literal["a", "b"]``.

    True is no number, and neither are NaN and infinity; a whole number will do for a float.
    """
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    if kind is int:
        return type(value) is int
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return value in inner
    if get_origin(kind) is UnionType:
        return any(fits(value, one) for one in inner)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    return isinstance(value, kind)


def check_kinds(
    values: object, kinds: Mapping, where: str, needed: Iterable[str] = (), least: int = 0
) -> None:
    """Refuse what is no mapping, lacks a needed key, or has a value of another kind; other keys may be there.

    Args:
        kinds: what each key holds, as for :func:`fits`.
        least: the smallest whole number.

    Raises:
        ValueError: which key, what it holds, what it must be.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r:.60}; it must be a mapping")
    for key in needed:
        if key not in values:
            raise ValueError(f"{where} has no {key}; add it (it may hold: {', '.join(kinds)})")
    for key in values.keys() & kinds:
        if not fits(values[key], kinds[key]):
            wanted = kinds[key].__name__ if isinstance(kinds[key], type) else kinds[key]
            raise ValueError(f"{where}.{key} is {values[key]!r:.60}; it must be of type {wanted}")
        if type(values[key]) is int and values[key] < least:
            raise ValueError(f"{where}.{key} is {values[key]}; it must be at least {least}")


def one_line(error: BaseException) -> str:
    """What an error says, on one line that isn't too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__
