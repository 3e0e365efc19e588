"""Stopping when asked: work stops at its next checkpoint, and the same command resumes from there."""

import math
import os
import select
import signal
import subprocess
import sys
import time

STOPPED = 3  # the exit code of a command that was stopped
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # as schedulers send


class Stopped(RuntimeError):
    """Work stopped at a checkpoint, as asked; the same call resumes from there."""


class Stop:
    """Whether to stop: the time is up, a signal came, or the process that this one helps is gone.

    Within ``with`` it takes SIGNALS. The first is remembered until the next checkpoint, the second is a
    KeyboardInterrupt at once. Helpers stop when their standard input ends, so also if their parent dies.

    Args:
        minutes: until the time is up; None: it never is.
        helper: whether this process was started by :meth:`help`.
    """

    def __init__(self, minutes: float | None = None, helper: bool = False):
        self.deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.helper = helper
        self.signalled = False
        self.helpers: list[subprocess.Popen] = []

    def __call__(self) -> bool:
        alone = self.helper and bool(select.select([0], [], [], 0)[0])  # nothing is ever sent: it has ended
        return self.signalled or alone or time.monotonic() > self.deadline

    def help(self, words: list[str], environment: dict[str, str]) -> None:
        """Start a helper, in a process group of its own: Ctrl-C reaches it through this process alone."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "bufsize": 0, "process_group": 0}
        self.helpers.append(subprocess.Popen(words, env=environment, **options))

    def __enter__(self) -> "Stop":
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        taken = [each for each in SIGNALS if not (nohup and each == signal.SIGHUP)]
        self.handlers = {each: signal.signal(each, self._take) for each in taken}
        return self

    def __exit__(self, kind: type[BaseException] | None, *more) -> None:
        self._tell()
        codes = {helper.wait() for helper in self.helpers}
        if not kind and codes - {0, STOPPED}:
            print(f"a helper ended early (exit codes {codes}); its work was done here", file=sys.stderr)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame) -> None:
        if self.signalled:
            for helper in self.helpers:
                helper.kill()
            raise KeyboardInterrupt
        self.signalled = True
        # Not print(): the signal may have come in the middle of one.
        os.write(2, b"\nstopping at the next checkpoint; a second signal stops at once\n")
        self._tell()

    def _tell(self) -> None:
        for helper in self.helpers:
            helper.stdin.close()
