"""How far a study is: what each of its runs is, and how long the rest may take."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from kdlib import disk
from kdlib.study import Study
from kdlib.study.runs import Run, RunSpec, RunStore


def status_table(study: Study) -> pd.DataFrame:
    """A row for every part that a run plays in a study.

    Columns: run, direction, role, seed; state, which is one of "running" (another process has it), "failed"
    (its last attempt ended in an error), "done", "diverged", "damaged", "stopped" (after some of its epochs)
    and "left"; epochs ("2/5"); answers (to how many of the study's probes they are kept, "30/31"); seconds
    that the missing epochs may take, by what finished runs took, NaN before there is one; error.
    """
    rows, took = [], {}
    for direction, role, spec in _parts(study):
        state, epochs = _state(study.store, spec)
        # Runs of one kind take equally long; without the repr of what they share no two of them would.
        kind = f"{spec.method} {spec.student} {spec.data}"
        if state in ("done", "diverged"):
            timing = Run(spec, study.store.path(spec)).timing.drop(columns="epoch")
            took.setdefault(kind, []).append(timing.sum(axis=1).mean())
        rows.append(
            {
                "run": spec.id,
                "direction": direction,
                "role": role,
                "seed": spec.seed,
                "state": state,
                "epochs": f"{epochs}/{spec.training.epochs}",
                "answers": "" if role == "yardstick" else _answers(study, spec),
                "seconds": 0.0 if state == "diverged" else spec.training.epochs - epochs,
                "error": study.store.failure(spec) or "",
                "kind": kind,
            }
        )
    table = pd.DataFrame(rows)
    an_epoch = pd.Series({kind: sum(seconds) / len(seconds) for kind, seconds in took.items()}, dtype=float)
    table["seconds"] *= table.pop("kind").map(an_epoch).fillna(an_epoch.mean())
    return table


def summary(table: pd.DataFrame) -> str:
    """How many runs are what, and the time that is left if as many processes go on as are running now."""
    runs = table.drop_duplicates("run")
    counts = runs["state"].value_counts()
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    seconds = runs["seconds"].sum(skipna=False)
    if seconds == 0:
        return told
    if math.isnan(seconds):
        return f"{told}; no estimate yet of the time that is left"
    processes = max(1, counts.get("running", 0))
    hours, minutes = divmod(math.ceil(seconds / processes / 60), 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return f"{told}; training may take {left} more with {processes} at a time, probes not counted"


def _parts(study: Study) -> Iterator[tuple[str, str, RunSpec]]:
    """Direction, role and spec of all that ``train`` makes; the role of what is no member says what it is."""
    members = study.members()
    seen = {member.spec.id for member in members}
    yield from ((member.direction, member.role, member.spec) for member in members)
    if study.longer:
        later = [member for member in study.longer.members() if member.spec.id not in seen]
        seen |= {member.spec.id for member in later}
        yield from ((member.direction, f"{member.role}, longer", member.spec) for member in later)
    for member in members:
        for spec in member.spec.lineage():
            if spec.id not in seen:
                seen.add(spec.id)
                yield member.direction, "other teacher", spec
    yield from (("", "yardstick", spec) for spec in study.yardsticks)


def _state(store: RunStore, spec: RunSpec) -> tuple[str, int]:
    """What a run is, and how many of its epochs are kept; no weights are read."""
    path = store.path(spec)
    try:
        run = Run(spec, path) if path.is_dir() else None
        epochs = len(run.timing) if run else _epochs(store.beside(spec, "checkpoint"))
        finished = "diverged" if run and run.diverged else "done"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged", 0
    if _held(store.beside(spec, "lock")):
        return "running", epochs
    if store.failure(spec):
        return "failed", epochs
    if run:
        return finished, epochs
    return "stopped" if epochs else "left", epochs


def _epochs(checkpoint: Path) -> int:
    return len(json.loads(disk.read_texts(checkpoint)["history"])) if checkpoint.exists() else 0


def _held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _answers(study: Study, spec: RunSpec) -> str:
    kept = {path.name.rpartition("-")[0] for path in study.store.path(spec).glob("predictions/*.npz")}
    return f"{len(kept & set(study.probes))}/{len(study.probes)}"
