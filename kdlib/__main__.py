"""The command line: ``python -m kdlib --help``."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from kdlib.study.interrupt import STOPPED, Stop, Stopped


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except BrokenPipeError:
        return 0
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return STOPPED
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
        sub.add_argument("--jobs", type=int, default=1, help="processes here that share the runs (1)")
        sub.add_argument("--time-limit", type=float, metavar="MINUTES", help="stop at the next checkpoint")
        sub.add_argument("--helper", action="store_true", help=argparse.SUPPRESS)  # started by --jobs
        sub.add_argument(
            "--scheduler",
            metavar="ADDRESS",
            help="of a Dask cluster that trains, like tcp://host:8786 (DASK_SCHEDULER_ADDRESS)",
        )

    study = with_study(command("study", run_study, "train, run all notebooks, write the report"))
    with_training(study)
    study.add_argument(
        "--from-results",
        metavar="FOLDER",
        help="make notebooks and report from published records: no training, no data, and the profile's name "
        "is the folder's",
    )
    with_training(with_study(command("train", train, "train what is missing; needs no Jupyter")))
    study.add_argument(
        "--notebooks", nargs="+", default=[], metavar="NAME", help="only these, e.g. 04_bias_analysis"
    )
    publishing = with_study(command("publish", publish, "write the records that all figures follow from"))
    publishing.add_argument("--to", help="the folder (results/<profile>, in the project's directory)")
    pages = with_study(command("pages", pages_of, "bring notebooks/, figures/ and README up to date"))
    pages.add_argument("--from-results", metavar="FOLDER", required=True, help="as for study")
    with_study(command("probes", build_probes, "make the probes' images, with the time they take"))
    with_study(command("report", report, "join the executed notebooks into one HTML file (and PDF)"))
    timing = with_study(
        command("bench", bench, "time a step of every method beside what its networks alone take")
    )
    timing.add_argument(
        "--rounds", type=int, default=15, help="how often each takes turns with its floor (15)"
    )
    state = with_study(command("status", status, "what is done, what is left, and how long that may take"))
    state.add_argument("--json", action="store_true", help="the table for programs")
    listing = command("list", list_names, "list what can be named")
    listing.add_argument("kind", choices=("methods", "probes", "profiles", "models"))
    return parser


def _study(options: argparse.Namespace, **more):
    from kdlib.study.profile import overridden_profile

    overridden_profile(options.profile, options.set)  # a wrong name is told before torch is loaded
    from kdlib.study import Study

    return Study(options.profile, options.output, options.data, options.set, **more)


def train(options: argparse.Namespace) -> None:
    with Stop(options.time_limit, options.helper) as stop:
        _train(options, stop)


def _train(options: argparse.Namespace, stop: Stop):
    """Train in this process; with ``--jobs n`` in n, which take runs from one list by their locks.

    With a scheduler's address, its workers train instead.
    """
    import torch

    from kdlib.study.runs import RunsFailed

    if options.jobs < 1:
        raise ValueError(f"--jobs {options.jobs}: give at least 1")
    study = _study(options, should_stop=stop, scheduler=options.scheduler)
    study.dataset  # decoded once, before the helpers look for it  # noqa: B018
    if options.jobs > 1 and not study.parameters["scheduler"]:
        threads = max(1, (os.cpu_count() or 1) // options.jobs)
        torch.set_num_threads(threads)
        words = [sys.executable, "-m", "kdlib", "train", "--helper", "--scheduler="]
        words += [f"--profile={options.profile}"]
        words += [f"--set={text}" for text in options.set]
        for name in ("output", "data", "time_limit"):
            value = getattr(options, name)
            words += [f"--{name.replace('_', '-')}={value}"] if value is not None else []
        for _ in range(options.jobs - 1):
            stop.help(words, os.environ | {"OMP_NUM_THREADS": str(threads)})
    try:
        runs = study.train()
    except RunsFailed:
        if options.helper:  # who started it finds the same, and tells
            return None
        raise
    for run in runs:
        if run.diverged:
            print(f"diverged: {run.spec.label} ({run.path})", file=sys.stderr)
    print(f"{len(runs)} runs are complete under {study.store.root}")
    return study


def run_study(options: argparse.Namespace) -> int:
    from kdlib.report.notebooks import run_notebooks

    if options.from_results:
        options.profile = Path(options.from_results).name
        study = _study(options, results=options.from_results)
        run_notebooks(study, options.notebooks)
    else:
        with Stop(options.time_limit) as stop:
            study = _train(options, stop)
            run_notebooks(study, options.notebooks)
    return _report(study)


def pages_of(options: argparse.Namespace) -> int:
    from kdlib.report.pages import refresh

    options.profile = Path(options.from_results).name
    for path in refresh(_study(options, results=options.from_results)):
        print(path)
    return 0


def report(options: argparse.Namespace) -> int:
    return _report(_study(options))


def _report(study) -> int:
    from kdlib.report.notebooks import make_report

    for path in make_report(study):
        print(path)
    return 0


def publish(options: argparse.Namespace) -> int:
    from kdlib.data import PROJECT
    from kdlib.study.records import publish as write
    from kdlib.study.status import status_table

    study = _study(options)
    states = status_table(study).state.value_counts()
    if set(states.index) - {"done", "diverged"}:
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        raise ValueError(f"the study is not finished ({told}); train it before it is published")
    print(write(study, options.to or PROJECT / "results" / study.folder.name))
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
    from kdlib.study.bench import keep

    table, paths = keep(_study(options), options.rounds)
    print(table.drop(columns="role").to_string(index=False, float_format="{:.2f}".format))
    print("kept in", *paths, file=sys.stderr)
    return 0


def status(options: argparse.Namespace) -> int:
    from kdlib.study.profile import digest_of, folder_of, overridden_profile
    from kdlib.study.status import as_text, read_plan, states, summary

    folder = folder_of(options.profile, options.output)
    plan = read_plan(folder, digest_of(overridden_profile(options.profile, options.set)))
    if plan is None:
        print(f"no plan of this study under {folder}: made anew, from its data", file=sys.stderr)
        plan = _study(options).plan()
    rows = states(folder.parent / "runs", plan)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print(as_text(rows), summary(rows), sep="\n")
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
        from kdlib.study.profile import overridden_profile, profile_names

        for name in profile_names():
            print(f"{name:14} {overridden_profile(name)['title']}")

    def models() -> None:
        import timm

        print("\n".join(timm.list_models()))

    kinds = {"methods": methods, "probes": probe_names, "profiles": profiles, "models": models}
    kinds[options.kind]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
