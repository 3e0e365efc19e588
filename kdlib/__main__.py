"""Can knowledge distillation transfer inductive biases between CNNs and ViTs? Train, measure and report."""

import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from kdlib.study.interrupt import STOPPED, Stop, Stopped
from kdlib.study.profile import (
    NOTEBOOKS,
    digest_of,
    folder_of,
    overridden_profile,
    profile_names,
    records_folder,
)

# What takes seconds to import, torch above all, is imported by the commands that need it.
CGROUPS = Path("/sys/fs/cgroup")  # where Linux keeps what containers and schedulers grant


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code: 0, 1 (an error), 3 (stopped, can be resumed), 130 (interrupted).

    Raises SystemExit: 2 for a command or an option that doesn't exist; 0 after --help.
    """
    options = _parser().parse_args(arguments)
    # Variables, since what this process starts, helpers and notebooks' kernels, is to do as it does.
    if (granted := granted_processors()) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))
    if getattr(options, "device", None) == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        if "profile" in options:  # report a wrong one before torch is loaded
            if options.from_results:
                options.profile = options.profile or records_folder(options.from_results).name
            options.profile = options.profile or "quick"
            overridden_profile(options.profile, options.set)
            if options.command in (run_study, train, report, bench):
                _must_be_writable(folder_of(options.profile, options.output))
        options.command(options)
    except BrokenPipeError:
        return 0
    except Stopped as stopped:
        if not getattr(options, "helper", False):  # who started it tells
            print(f"{stopped}; the same command resumes from there", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        if options.traceback:
            raise
        print(f"kdlib: {' '.join(str(error).split())}", file=sys.stderr)  # torch's have several lines
        return 1
    return 0


def _must_be_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        told = f"--output: {folder} can't be written ({error.strerror})"
        raise ValueError(f"{told}; give a folder that you can write to") from error


def granted_processors() -> int:
    """How many processors this process may use: by its affinity, and by its control groups (version 2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError):
        group = CGROUPS / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # none is set here, or "max"
                quota, period = map(int, (folder / "cpu.max").read_text().split())
                count = min(count, quota // period)
    return max(1, count)


class _Parser(ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"kdlib: {message}; see {self.prog} --help\n")


def _parser() -> ArgumentParser:
    study = _Parser(add_help=False)
    study.set_defaults(from_results=None)
    study.add_argument("--profile", help="a profile's name, or a YAML file (quick)")
    study.add_argument("--output", type=_folder, help="folder for all outputs (outputs)")
    study.add_argument("--data", type=_folder, help="folder of data sets (KDLIB_DATA, else data)")
    study.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the profile")
    training = _Parser(add_help=False, parents=[study])
    training.add_argument("--jobs", type=_at_least(1), default=1, help="parallel processes (1)")
    training.add_argument("--device", choices=("auto", "cpu", "cuda"), help="auto: the GPU if CUDA has one")
    limit = {"type": _at_least(0.0), "metavar": "MINUTES", "help": "stop then; the same command resumes"}
    training.add_argument("--time-limit", **limit)
    training.add_argument("--helper", action="store_true", help=SUPPRESS)  # started by --jobs
    results = {"metavar": "FOLDER", "help": "published records, in a folder of the profile's name"}
    parser = _Parser(prog="python -m kdlib", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(function, *parents: ArgumentParser, name: str = "") -> ArgumentParser:
        made = commands.add_parser(name or function.__name__, parents=parents, help=function.__doc__)
        made.description = function.__doc__
        made.set_defaults(command=function)
        return made

    everything = command(run_study, training, name="study")
    everything.add_argument("--from-results", **results)
    names = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
    some = {"choices": names, "metavar": "NAME", "help": "run only these, without a report"}
    everything.add_argument("--notebooks", nargs="+", default=[], **some)
    command(train, training)
    for function in (status, publish):
        command(function, study)
    command(report, study).add_argument("--from-results", **results)
    rounds = {"type": _at_least(1), "default": 15, "help": "how often each method is timed (15)"}
    command(bench, study).add_argument("--rounds", **rounds)
    command(list_names, name="list").add_argument("kind", choices=("methods", "probes", "profiles", "models"))
    return parser


def _folder(text: str) -> str:
    if Path(text).is_file():
        raise ArgumentTypeError(f"{text} is a file; give a folder")
    return text


def _at_least(least: float):
    def number(text: str) -> float:
        value = type(least)(text)
        if not value >= least:  # as NaN is not
            raise ArgumentTypeError(f"{text} is too small; give at least {least:g}")
        return value

    return number


def run_study(options: Namespace) -> None:
    """Train, run all notebooks, write the report."""
    from kdlib.report.notebooks import make_report, run_notebooks
    from kdlib.study.schema import read_profile

    if not read_profile(options.profile, options.set).get("directions"):
        raise ValueError(
            f"profile {options.profile} has no directions for the notebooks to show; train and publish it, "
            "then list it under made: in another profile (it must lie in kdlib/profiles)"
        )
    with Stop(options.time_limit) as stop:
        study = _study(options, should_stop=stop) if options.from_results else _train(options, stop)
        if options.from_results:
            study.must_be_published()
        executed = run_notebooks(study, options.notebooks)
    print(*(executed if options.notebooks else make_report(study)), sep="\n")


def train(options: Namespace) -> None:
    """Train what is missing; needs no Jupyter."""
    from kdlib.study.runs import RunsFailed

    with Stop(options.time_limit, options.helper) as stop:
        if not options.helper:
            _train(options, stop)
            return
        with suppress(RunsFailed):  # who started this helper finds the same, and tells
            _study(options, should_stop=stop).train()


def status(options: Namespace) -> None:
    """Show what is done, what is left, and how long that may take."""
    from kdlib.study.status import as_text, read_plan, states, summary

    folder = folder_of(options.profile, options.output)
    plan = read_plan(folder, digest_of(overridden_profile(options.profile, options.set)))
    if plan is None:
        print(f"no plan of this study under {folder}: making one from its data", file=sys.stderr)
        plan = _study(options).plan()
    rows = states(folder.parent / "runs", plan)
    print(as_text(rows), summary(rows), sep="\n")


def report(options: Namespace) -> None:
    """Join the executed notebooks into one HTML file (and PDF)."""
    from kdlib.report.notebooks import make_report

    print(*make_report(_study(options)), sep="\n")


def publish(options: Namespace) -> None:
    """Write the records from which all figures can be remade."""
    from kdlib.data import PROJECT
    from kdlib.study.records import publish as write
    from kdlib.study.status import states, summary

    name = folder_of(options.profile, None).name
    if Path(options.profile).suffix and name in profile_names():
        raise ValueError(f"{options.profile}: results/{name} is of kdlib's profile; call yours otherwise")
    study = _study(options)
    rows = states(study.store.root, study.plan())
    if {row["state"] for row in rows} - {"done", "diverged"}:
        raise ValueError(f"the study is not finished ({summary(rows)}); train it before publishing")
    print(write(study, PROJECT / "results" / study.folder.name))


def bench(options: Namespace) -> None:
    """Time a training step of every method, and of its networks alone."""
    from kdlib.study.bench import keep

    table, path = keep(_study(options), options.rounds)
    print(table.drop(columns="role").to_string(index=False, float_format="{:.2f}".format))
    print("kept in", path, file=sys.stderr)


def list_names(options: Namespace) -> None:
    """List methods, probes, profiles or models."""
    if options.kind == "profiles":
        for name in profile_names():
            print(f"{name:14} {overridden_profile(name)['title']}")
    elif options.kind == "methods":  # from their table, without torch
        for line in (Path(__file__).parent / "methods" / "README.md").read_text().splitlines():
            if line.startswith("| `"):
                name, title, paper, way, matches = (cell.strip(" `") for cell in line.split("|")[1:6])
                print(f"{name:16} {title:22} {paper:22} {way:12} matches {matches}")
    elif options.kind == "probes":
        from kdlib.probes import PROBES

        for name, probe in PROBES.items():
            print(f"{name:20} {probe.family:12} {probe.question}")
    else:
        import timm

        print(*timm.list_models(), sep="\n")


def _study(options: Namespace, **more):
    from kdlib.study import Study

    given = (options.profile, options.output, options.data, options.set)
    return Study(*given, results=options.from_results, **more)


def _train(options: Namespace, stop: Stop):
    """Train in this process; with ``--jobs n`` in n, which take runs from one list by their locks."""
    import torch

    from kdlib.study.preflight import preflight
    from kdlib.study.specs import environment

    study = _study(options, should_stop=stop)
    if options.device == "cuda" and study.store.device.type != "cuda":
        raise ValueError("--device cuda: torch finds no GPU; give --device cpu to train without one")
    preflight(study)  # and decodes the images, before the helpers look for them
    if options.jobs > 1:
        threads = max(1, torch.get_num_threads() // options.jobs)
        torch.set_num_threads(threads)
        given = {name: getattr(options, name) for name in ("profile", "output", "data", "time_limit")}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
        words += ["--helper", *(f"--set={text}" for text in options.set)]
        for _ in range(options.jobs - 1):
            command = [sys.executable, "-m", "kdlib", "train", *words]
            stop.help(command, os.environ | {"OMP_NUM_THREADS": str(threads)})
    found = environment(study.store.device)
    told = f"device: {found['device']}; processes: {options.jobs}; threads of each: {found['threads']}"
    print(told, file=sys.stderr)
    runs = study.train()
    if diverged := [run.spec.label for run in runs if run.diverged]:
        told = f"{len(diverged)} of {len(runs)} runs diverged, so no measure uses them: {'; '.join(diverged)}"
        print(told, file=sys.stderr)
    print(f"{len(runs)} runs are complete under {study.store.root}")
    return study


if __name__ == "__main__":
    sys.exit(main())
