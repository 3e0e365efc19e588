"""The command line: ``python -m kdlib --help``."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        if options.traceback:
            raise
        print(f"kdlib: {' '.join(str(error).split())}", file=sys.stderr)  # torch's have several lines
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdlib", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    def with_study(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--profile", default="quick", help="a profile's name, or a YAML file (quick)")
        sub.add_argument("--output", help="where everything goes (outputs, in the project's directory)")
        sub.add_argument("--data", help="where data sets lie (KDLIB_DATA, else data in the same place)")
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override the profile, e.g. training.epochs=1",
        )
        return sub

    def with_training(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--jobs", type=int, default=1, help="processes that share the runs (1)")
        sub.add_argument("--time-limit", type=float, metavar="MINUTES", help="stop at the next checkpoint")

    study = with_study(command("study", run_study, "train, run all notebooks, write the report"))
    with_training(study)
    with_training(with_study(command("train", train, "train what is missing; needs no Jupyter")))
    with_study(command("probes", build_probes, "make the probes' images, with the time they take"))
    with_study(command("report", report, "join the executed notebooks into one HTML file (and PDF)"))
    timing = with_study(command("bench", bench, "time a step of every method beside the independent student"))
    timing.add_argument("--rounds", type=int, default=7, help="how often the methods take turns (7)")
    with_study(command("status", status, "what is done and what is left"))
    packing = with_study(command("export", export, "pack the finished runs of a study into one file"))
    packing.add_argument("archive", type=Path, help="the file to write, e.g. quick.zip")
    packing.add_argument(
        "--no-weights", action="store_true", help="only what the runs have been asked so far"
    )
    packing.add_argument("--part-size", type=float, metavar="MB", help="in parts of at most this size")
    unpacking = command("import", import_runs, "put the runs of a packed file among one's own")
    unpacking.add_argument("archive", type=Path, help="the file, or any of its parts")
    unpacking.add_argument("--output", help="where everything goes (outputs, in the project's directory)")
    listing = command("list", list_names, "list what can be named")
    listing.add_argument("kind", choices=("methods", "probes", "profiles", "models"))
    return parser


def _study(options: argparse.Namespace, **more):
    from kdlib.study import Study

    return Study(options.profile, options.output, options.data, options.set, **more)


def train(options: argparse.Namespace) -> int:
    """Train in this process; with ``--jobs n`` in n, which take runs from one list by their locks."""
    if options.jobs < 1:
        raise ValueError(f"--jobs {options.jobs}: give at least 1")
    from kdlib.runs import Stopped

    deadline = time.monotonic() + 60 * options.time_limit if options.time_limit else float("inf")
    study = _study(options, should_stop=lambda: time.monotonic() > deadline)
    study.dataset  # decoded once, before the helpers look for it  # noqa: B018
    helpers = []
    if options.jobs > 1:
        threads = max(1, (os.cpu_count() or 1) // options.jobs)
        torch.set_num_threads(threads)
        words = [sys.executable, "-m", "kdlib", "train", f"--profile={options.profile}"]
        words += [f"--set={text}" for text in options.set]
        for name in ("output", "data", "time_limit"):
            value = getattr(options, name)
            words += [f"--{name.replace('_', '-')}={value}"] if value is not None else []
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        helpers = [
            subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
            for _ in range(options.jobs - 1)
        ]
    try:
        runs = study.train()
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return 3
    except BaseException:
        for helper in helpers:
            helper.send_signal(signal.SIGTERM)
        raise
    finally:
        failed = [helper for helper in helpers if helper.wait()]
    if failed:
        print(f"{len(failed)} of {options.jobs} processes failed; their messages are above", file=sys.stderr)
    for run in runs:
        if run.diverged:
            print(f"diverged: {run.spec.label} ({run.path})", file=sys.stderr)
    print(f"{len(runs)} runs are complete under {study.store.root}")
    return 0


def run_study(options: argparse.Namespace) -> int:
    from kdlib.study import run_notebooks

    failed = train(options)
    if failed:
        return failed
    study = _study(options)
    run_notebooks(study)
    return report(options)


def report(options: argparse.Namespace) -> int:
    from kdlib.study import make_report

    for path in make_report(_study(options)):
        print(path)
    return 0


def build_probes(options: argparse.Namespace) -> int:
    study = _study(options)
    print(f"{len(study.test)} test images of {study.dataset.source}")
    for name in study.probes:
        start = time.perf_counter()
        stimuli = study.make_stimuli(name)
        seconds = time.perf_counter() - start
        print(f"{name:20} {len(stimuli.labels):6} images {seconds:7.2f} s  sha256 {stimuli.sha256[:12]}")
    return 0


def bench(options: argparse.Namespace) -> int:
    import pandas as pd

    from kdlib.bench import step_costs

    study = _study(options)
    table = pd.concat([step_costs(study, name, options.rounds) for name in study.directions])
    study.folder.mkdir(parents=True, exist_ok=True)
    path = study.folder / "bench.csv"
    table.to_csv(path, index=False)
    print(table.to_string(index=False, float_format="{:.2f}".format))
    print(f"{study.store.device}, {torch.get_num_threads()} threads; kept in {path}", file=sys.stderr)
    return 0


def status(options: argparse.Namespace) -> int:
    table = _study(options).status()
    print(table.to_string(index=False))
    counts = table.drop_duplicates("run")["state"].value_counts()
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 0


def export(options: argparse.Namespace) -> int:
    from kdlib.archive import write_archive

    if options.part_size is not None and options.part_size < 1:
        raise ValueError(f"--part-size {options.part_size:g}: give at least 1 MB")
    study = _study(options)
    specs = study.specs()
    runs = [run for run in map(study.store.load, specs) if run]
    if not runs:
        raise ValueError(f"none of the study's {len(specs)} runs is finished; train them first")
    size = options.part_size and int(options.part_size * 1e6)
    for path in write_archive(runs, options.archive, not options.no_weights, size):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    print(f"{len(runs)} runs; {len(specs) - len(runs)} of the study aren't finished and were left out")
    return 0


def import_runs(options: argparse.Namespace) -> int:
    from kdlib.archive import read_archive
    from kdlib.data import PROJECT
    from kdlib.runs import RunStore

    store = RunStore(Path(options.output or PROJECT / "outputs") / "runs")
    found = read_archive(options.archive, store)
    print(
        f"{found['new']} runs are new under {store.root}, {found['completed']} got what they lacked, "
        f"{found['left']} were left as they are"
    )
    return 0


def list_names(options: argparse.Namespace) -> int:
    def methods() -> None:
        from kdlib.methods import METHODS

        for name, method in METHODS.items():
            print(f"{name:16} {method.title:16} {method.paper:22} matches {method.matches}")

    def probe_names() -> None:
        from kdlib.probes import PROBES

        for name, probe in PROBES.items():
            print(f"{name:20} {probe.family:12} {probe.question}")

    def profiles() -> None:
        from kdlib.profile import profile_names, read_profile

        for name in profile_names():
            print(f"{name:14} {read_profile(name)['title']}")

    def models() -> None:
        import timm

        print("\n".join(timm.list_models()))

    kinds = {"methods": methods, "probes": probe_names, "profiles": profiles, "models": models}
    kinds[options.kind]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
