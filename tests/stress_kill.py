"""Kill a tiny study again and again, damage its files in between, and compare what comes out in the end.

    python -m tests.stress_kill --kills 200 --seed 0 --minutes 60

A study is run to its end undisturbed, and once more with kills: of the command, of a helper or of a kernel of
a notebook, at random moments and in the middle of writing. In between, files of its runs are cut short or get
a bit flipped; whenever it comes to its end, half of its runs are thrown away. In the end weights, histories,
answers and what is seen inside must be the same to the bit, and the notebooks' tables too, but for times. Not
part of the test suite: it takes as long as it is given.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from filelock import FileLock, Timeout

from kdlib import disk
from kdlib.__main__ import main

from .common import write_tiny_profile

FORK = multiprocessing.get_context("fork")
TIMES = {
    "seconds",
    "data",
    "teacher",
    "student",
    "method",
    "update",
    "evaluation",
    "stage",
    "epoch",
    "relative",
}
TIMED = ("cost", "gains", "claims", "effects")  # tables with times in other columns, or in words


def command(arguments: dict[str, str], jobs: int, log: Path, deadly: int | None = None):
    """Start ``study`` in a process of its own; with a seed in ``deadly`` it dies in one of its writes."""

    def run() -> None:
        os.setpgid(0, 0)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if deadly is not None:
            disk.written = dying(disk.written, random.Random(deadly), log.with_name("deaths.txt"))
        words = [f"--{name}={value}" for name, value in arguments.items()]
        for direction in ("cnn_to_vit", "vit_to_cnn"):
            words += [f"--set=directions.{direction}.methods=[lm, crd]"]
            words += [f"--set=directions.{direction}.controls=[label_smoothing, fewer_epochs]"]
        words += [
            "--set=longer={}",
            "--set=probes=[clean, cue_conflict, no_conflict, superpixels_100, scramble_4, local_noise]",
        ]
        sys.exit(main(["study", *words, f"--jobs={jobs}"]))

    process = FORK.Process(target=run)
    process.start()
    return process


def dying(written, rng: random.Random, deaths: Path):
    """``kdlib.disk.written`` that kills its process in one of the next writes, half-way or before the end."""
    left = rng.randrange(1, 40)

    @contextmanager
    def deadly(path: Path):
        nonlocal left
        left -= 1
        with written(path) as partial:
            yield partial
            if left == 0:
                files = list(partial.rglob("*")) if partial.is_dir() else [partial]
                if rng.random() < 0.5:
                    os.truncate(rng.choice(files), rng.randrange(100))
                with deaths.open("a") as file:
                    file.write(f"writing {kind_of(path)}\n")
                os.kill(os.getpid(), signal.SIGKILL)

    return deadly


def kind_of(path: Path) -> str:
    if path.name.endswith(".checkpoint.npz"):
        return "a checkpoint"
    return {"runs": "a run", "predictions": "answers", "inside": "a look inside"}.get(
        path.parent.name, "probes"
    )


def place(output: Path, log: Path, start: int) -> str:
    """What is going on just now."""
    with log.open() as file:
        file.seek(start)
        notebooks = [line.split()[1] for line in file if line.startswith("notebook ")]
    if notebooks:
        return f"notebook {notebooks[-1][:2]}"
    doing = set()
    for lock in output.glob("runs/*.lock"):
        try:
            with FileLock(lock, timeout=0):
                pass
        except Timeout:
            doing.add("answers" if lock.with_suffix("").is_dir() else "training")
    return " and ".join(sorted(doing)) or "starting, loading, or data"


def damage_one(output: Path, rng: random.Random) -> str | None:
    """Cut a random file short, or flip one of its bits."""
    files = [path for path in output.glob("runs/**/*") if path.is_file() and path.stat().st_size]
    files = sorted(path for path in files if path.suffix != ".lock" and ".damaged-" not in str(path))
    if not files:
        return None
    path = rng.choice(files)
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return kind_of(path) if path.parent.name in ("predictions", "inside") else f"{path.suffix} of a run"


def family(parent: int, output: Path) -> list[psutil.Process]:
    """Helpers and kernels, also of a parent that is dead."""
    found = []
    for process in psutil.process_iter():
        try:
            words, kernel_of = process.cmdline(), process.environ().get("JPY_PARENT_PID")
        except psutil.Error:
            continue
        if kernel_of == str(parent) or {"--helper", f"--output={output}"} <= set(words):
            found.append(process)
    return found


def wait_until_gone(processes: list[psutil.Process], seconds: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    if alive:
        raise SystemExit(f"orphans {seconds} s after their parent was killed: {alive}")


def disturb(arguments: dict[str, str], options: argparse.Namespace, log: Path) -> tuple[Counter, Counter]:
    rng, output = random.Random(options.seed), Path(arguments["output"])
    deaths, kills, damages = log.with_name("deaths.txt"), Counter(), Counter()
    deadline, span = time.monotonic() + 60 * options.minutes, options.span
    log.touch()
    while kills.total() < options.kills and time.monotonic() < deadline:
        start, jobs = log.stat().st_size, rng.choice((1, 2))
        in_a_write = rng.random() < 0.4
        process = command(arguments, jobs, log, rng.randrange(10**9) if in_a_write else None)
        process.join(span * rng.random() * (20 if in_a_write or rng.random() < 0.2 else 1))
        others, killed = family(process.pid, output), kills.total()
        if process.is_alive():
            where = place(output, log, start)
            if others and rng.random() < 0.4:  # a helper, or a kernel
                rng.choice(others).kill()
                kills[f"{where}, a helper or a kernel"] += 1
                process.join(span * rng.random())
                where = place(output, log, start)
            if process.is_alive():
                process.kill()
                kills[where] += 1
        process.join()
        if deaths.exists():
            kills.update(deaths.read_text().splitlines())
            deaths.unlink()
        if list(output.glob("runs/*.failed.txt")) or (process.exitcode and kills.total() == killed):
            raise SystemExit(log.read_text()[start:])
        if process.exitcode == 0:  # so that there is work again
            for run in [path.parent for path in output.glob("runs/*/spec.json") if rng.random() < 0.5]:
                shutil.rmtree(run)
        wait_until_gone(family(process.pid, output), 600)
        if rng.random() < 0.4 and (damaged := damage_one(output, rng)):
            damages[damaged] += 1
        print(f"{kills.total()} kills, {damages.total()} damages", end="\r", file=sys.stderr, flush=True)
    return kills, damages


def compare(whole: Path, disturbed: Path) -> Counter:
    """Count what is the same; raise at what differs."""
    same = Counter()
    for run in sorted(path.parent for path in whole.glob("runs/*/spec.json")):
        other = disturbed / "runs" / run.name
        for name in ("weights.safetensors", "history.csv", "spec.json"):
            assert (run / name).read_bytes() == (other / name).read_bytes(), other / name
            same[name] += 1
        for path in sorted(run.glob("*/*.npz")):
            with np.load(path) as ours, np.load(other / path.parent.name / path.name) as theirs:
                assert set(ours) == set(theirs), path
                assert all(np.array_equal(ours[key], theirs[key]) for key in ours), path
            same[path.parent.name] += 1
    tables = sorted(path for path in whole.glob("*/tables/*.csv") if path.stem[3:].split("_")[0] not in TIMED)
    for path in tables:
        ours, theirs = (pd.read_csv(root / path.relative_to(whole)) for root in (whole, disturbed))
        shown = ours.columns.drop("seconds", errors="ignore")
        pd.testing.assert_frame_equal(ours[shown], theirs[shown], check_exact=True)
        same["tables"] += 1
    return same


def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        roots = [Path(place) / name for name in ("whole", "disturbed")]
        studies = []
        for root in roots:
            root.mkdir()
            studies.append(write_tiny_profile(root, epochs=4, images=options.images))
        start = time.monotonic()
        whole = command(studies[0], 1, roots[0] / "log.txt")
        whole.join()
        if whole.exitcode:
            raise SystemExit((roots[0] / "log.txt").read_text())
        print(f"undisturbed: {time.monotonic() - start:.0f} s")
        kills, damages = disturb(studies[1], options, roots[1] / "log.txt")
        last = command(studies[1], 1, roots[1] / "log.txt")
        last.join()
        if last.exitcode:
            raise SystemExit((roots[1] / "log.txt").read_text()[-5000:])
        print(f"survived {kills.total()} kills:")
        for where, count in sorted(kills.items()):
            print(f"  {count:4} {where}")
        print(f"and {damages.total()} damaged files: {dict(damages)}")
        print(f"the same to the bit: {dict(compare(*(Path(study['output']) for study in studies)))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how many, if there is the time (200)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of what happens, as far as the clock lets it (0)"
    )
    parser.add_argument("--minutes", type=float, default=60, help="after which no more are made (60)")
    parser.add_argument("--span", type=float, default=60, help="seconds within which most kills fall (60)")
    parser.add_argument("--images", type=int, default=200, help="test images (200)")
    run(parser.parse_args())
