"""Progress: a bar in a terminal or a notebook, a line a minute in a log file."""

import sys
from collections.abc import Iterable

from tqdm.auto import tqdm


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
