"""A study's progress, read from its files alone: the state of each run, and how long the rest may take.

Training leaves a plan of the study's runs, :meth:`kdlib.study.study.Study.plan`; with it no network, no image
and no library for either is needed.
"""

import csv
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

BESIDE = {"lock": "lock", "checkpoint": "checkpoint.npz", "failed": "failed.txt"}
SHOWN = ("run", "direction", "role", "seed", "state", "epochs", "answers")


def beside(root: Path, run: str, kind: str) -> Path:
    """What lies beside a run: its "lock", its "checkpoint", or the error its last attempt "failed" with."""
    return root / f"{run}.{BESIDE[kind]}"


def failure(root: Path, run: str) -> str | None:
    """The error that the run's last attempt ended in, if it did: a line."""
    path = beside(root, run, "failed")
    return path.read_text(errors="replace").partition("\n")[0] if path.exists() else None


def read_plan(folder: Path, digest: str) -> dict | None:
    """The plan that training left in a study's folder, if it is of this profile."""
    path = folder / f"plan-{digest}.json"
    return json.loads(path.read_text()) if path.exists() else None


def states(root: Path, plan: dict) -> list[dict]:
    """A row for every run of a study.

    Keys: run, direction, role, seed; state: "running" (another process has it), "failed" (its last attempt),
    "done", "diverged", "damaged", "stopped" (after some epochs) or "left"; epochs ("2/5"); answers (to how
    many of the study's probes, "30/31"); seconds that the missing epochs may take, by what finished runs
    took, NaN before there is one; error.
    """
    rows, took, asked = [], {}, set(plan["probes"])
    for part in plan["runs"]:
        state, timing = _state(root, part["run"])
        if state in ("done", "diverged"):
            took.setdefault(part["kind"], []).append(sum(timing) / len(timing))
        kept = {path.name.rpartition("-")[0] for path in (root / part["run"]).glob("predictions/*.npz")}
        rows.append(
            {key: part[key] for key in ("run", "direction", "role", "seed")}
            | {
                "state": state,
                "epochs": f"{len(timing)}/{part['epochs']}",
                "answers": f"{len(kept & asked)}/{len(asked)}" if part["role"] != "yardstick" else "",
                "seconds": 0 if state == "diverged" else part["epochs"] - len(timing),
                "error": failure(root, part["run"]) or "",
            }
        )
    an_epoch = {kind: sum(seconds) / len(seconds) for kind, seconds in took.items()}
    mean = sum(an_epoch.values()) / len(an_epoch) if an_epoch else math.nan
    for row, part in zip(rows, plan["runs"], strict=True):
        row["seconds"] *= an_epoch.get(part["kind"], mean)
    return rows


def summary(rows: list[dict]) -> str:
    """How many runs are what, and the time that is left if as many processes go on as are running now."""
    counts = Counter(row["state"] for row in rows)
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    seconds = sum(row["seconds"] for row in rows)
    if seconds == 0:
        return told
    if math.isnan(seconds):
        return f"{told}; no estimate yet of the time that is left"
    processes = max(1, counts["running"])
    hours, minutes = divmod(math.ceil(seconds / processes / 60), 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return f"{told}; training may take {left} more with {processes} at a time, probes not counted"


def as_text(rows: list[dict]) -> str:
    """The rows in columns, and the errors below them."""
    cells = [SHOWN, *([str(row[key]) for key in SHOWN] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join([*lines, *(f"{row['run']} failed: {row['error']}" for row in rows if row["error"])])


def _state(root: Path, run: str) -> tuple[str, list[float]]:
    """What a run is, and the seconds of each of its epochs that are kept."""
    path, checkpoint = root / run, beside(root, run, "checkpoint")
    try:
        if path.is_dir():
            timing = [*csv.DictReader((path / "timing.csv").read_text().splitlines())]
            diverged = json.loads((path / "record.json").read_text())["status"] == "diverged"
            state = "diverged" if diverged else "done"
            timing[0]  # there is one
        else:
            timing = json.loads(str(np.load(checkpoint)["timing"])) if checkpoint.exists() else []
            state = "stopped" if timing else "left"
        seconds = [sum(float(row[part]) for part in row if part != "epoch" and row[part]) for row in timing]
    except Exception:  # whatever a damaged file makes its readers raise
        return "damaged", []
    if _held(beside(root, run, "lock")):
        return "running", seconds
    return "failed" if failure(root, run) else state, seconds


def _held(lock: Path) -> bool:
    try:
        if lock.exists():
            with FileLock(lock, timeout=0):
                pass
    except Timeout:
        return True
    except OSError:  # another user's, which can't be told
        pass
    return False
