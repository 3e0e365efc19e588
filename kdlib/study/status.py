"""How far a study is, told by its runs' files: what each run is, and how long the rest may take."""

import math
from collections import Counter
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from kdlib.study.runs import RunStore
from kdlib.study.specs import Run, RunSpec
from kdlib.study.study import Study
from kdlib.train import Progress

SHOWN = ["run", "direction", "role", "seed", "state", "epochs", "answers"]


def states(study: Study) -> pd.DataFrame:
    """A row for every run of a study.

    Columns: run, direction, role, seed; state: "running" (another process has it), "failed" (its last
    attempt), "done", "diverged", "damaged", "stopped" (after some epochs) or "left"; epochs ("2/5"); answers
    (to how many of the study's probes, "30/31"); seconds that the missing epochs may take, by what finished
    runs took, NaN before there is one; error.
    """
    rows, asked = [], set(study.probes)
    for part in study.parts():
        spec, epochs = part.spec, part.spec.training.epochs
        state, seconds = _state(study.store, spec)
        kept = {path.name.rpartition("-")[0] for path in study.store.path(spec).glob("predictions/*.npz")}
        rows.append(
            {
                "run": spec.id,
                "direction": part.direction,
                "role": part.role,
                "seed": spec.seed,
                "state": state,
                "epochs": f"{len(seconds)}/{epochs}",
                "answers": f"{len(kept & asked)}/{len(asked)}" if part.role != "yardstick" else "",
                "error": study.store.failure(spec),
                "kind": f"{spec.method} {spec.student} {spec.data}",  # whose epochs take equally long
                "epoch": seconds.mean() if state in ("done", "diverged") else math.nan,
                "left": 0 if state == "diverged" else epochs - len(seconds),
            }
        )
    table = pd.DataFrame(rows)
    epoch = table.groupby("kind")["epoch"].transform("mean").fillna(table["epoch"].mean())
    return table.assign(seconds=table["left"] * epoch).drop(columns=["kind", "epoch", "left"])


def _state(store: RunStore, spec: RunSpec) -> tuple[str, pd.Series]:
    """What a run is, and the seconds of each of its epochs that are kept."""
    run, timing = Run(spec, store.path(spec)), pd.DataFrame()
    if run.path.is_dir():
        if run.damage():
            return "damaged", pd.Series()
        state, timing = "diverged" if run.diverged else "done", run.timing
    elif progress := Progress.read(store.beside(spec, "checkpoint")):
        state, timing = "stopped", pd.DataFrame(progress.timing)
    else:
        state = "left"
    if _held(store.beside(spec, "lock")):
        state = "running"
    elif store.failure(spec):
        state = "failed"
    return state, timing.drop(columns="epoch", errors="ignore").sum(axis=1)


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


def summary(table: pd.DataFrame) -> str:
    """How many runs are what, and the time that is left if as many processes go on as are running now."""
    counts = Counter(table["state"])
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    seconds = table["seconds"].sum(skipna=False)
    if seconds == 0:
        return told
    if math.isnan(seconds):
        return f"{told}; no estimate yet of the time that is left"
    processes = max(1, counts["running"])
    hours, minutes = divmod(math.ceil(seconds / processes / 60), 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return f"{told}; training may take {left} more with {processes} at a time, probes not counted"


def as_text(table: pd.DataFrame) -> str:
    """The rows in columns, and the errors below them."""
    errors = [f"{row.run} failed: {row.error}" for row in table.itertuples() if row.error]
    return "\n".join([table[SHOWN].to_string(index=False), *errors])
