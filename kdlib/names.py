"""Look a thing up by its name; a wrong name gets the list of right ones and the closest."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


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
