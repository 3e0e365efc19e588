"""Messages to the user: one-line errors that say what is accepted, and progress."""

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from tqdm.auto import tqdm


class UnknownName(ValueError):
    """A name that is not in its registry."""


def closest(name: str, valid: Iterable[str]) -> str:
    """ " Did you mean 'epochs'?", or nothing where no name is close; upper and lower case count alike."""
    lower = {one.lower(): one for one in valid}
    close = get_close_matches(str(name).lower(), lower, n=1)
    return f" Did you mean {lower[close[0]]!r}?" if close else ""


def check(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``valid``.

    Raises UnknownName, which names the closest valid name, if one is close, and all valid names.
    """
    valid = list(valid)
    if name in valid:
        return name
    raise UnknownName(f"unknown {kind} {name!r}.{closest(name, valid)} Valid: {', '.join(valid)}.")


def lookup(kind: str, name: str, table: Mapping):
    """Return ``table[name]``, or raise :class:`UnknownName` as :func:`check` does."""
    return table[check(kind, name, table)]


def overridden(defaults: Mapping, values: Mapping, kind: str) -> dict:
    """The defaults, with ``values`` in place of some; ``kind`` is a key's, like "hyper-parameter of lm".

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


def one_line(error: BaseException) -> str:
    """What an error says, on one line that isn't too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def grouped(errors: Iterable[tuple[str, str]]) -> str:
    """Pairs of what failed and why, in one line: each reason once, with the first that has it."""
    found: dict[str, list[str]] = {}
    for what, why in errors:
        found.setdefault(why, []).append(what)
    return "; ".join(
        f"{first}{f' and {len(more)} more' * bool(more)}: {why}" for why, (first, *more) in found.items()
    )


class _Log:
    """Standard error as tqdm may write to it: each state on a line of its own, none drawn over another."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(f"{text.strip()}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(items: Iterable | None = None, **options) -> tqdm:
    """tqdm, by its own options; where nobody watches, at most one line a minute, and one at the end."""
    if sys.stderr is sys.__stderr__ and not sys.stderr.isatty():  # a notebook has another stderr
        options |= {"file": _Log(), "mininterval": 60, "maxinterval": 60}
    return tqdm(items, **options)
