"""A study: a profile names the runs and the probes, notebooks show them, a report joins the notebooks.

study = Study("quick", output="outputs")
study.train()                                   # what is missing
evidence = study.evidence("cnn_to_vit")         # every model's answers to every probe
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from torch import Tensor

from kdlib import probes
from kdlib.bias.tables import Evidence, measure_table
from kdlib.data import PROJECT, Dataset, DataSpec, Split, augment, cache_folder, epoch_plan
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec
from kdlib.names import check
from kdlib.probes import PROBES, Stimuli
from kdlib.roles import CONTROLS, roles
from kdlib.runs import Run, RunSpec, RunStore
from kdlib.train import Training

PROFILES = Path(__file__).with_name("profiles")
NOTEBOOKS = PROJECT / "notebooks"
KEYS = (
    *("title", "data", "seeds", "training", "students", "teachers", "directions", "hyper"),
    *("probes", "test_images"),
)
TEACHERS = ("teacher", "same_family", "matched")  # the networks that may teach in a direction
PLAN = (*TEACHERS, "student", "methods", "controls")
TEACHER_SEEDS = 500  # teachers start from other weights than students, also where they are the same network


@dataclass(frozen=True)
class Member:
    """A run and its part in the study."""

    direction: str
    role: str  # "teacher", or one of kdlib.roles.roles()
    seed: int
    spec: RunSpec


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def read_profile(name: str, overrides: dict | Iterable[str] = ()) -> dict:
    """A profile's content: one of :func:`profile_names`, or the path of a YAML file.

    Args:
        overrides: ``{"training.epochs": 1}`` or ``["training.epochs=1"]``; values are read as YAML.

    Raises:
        UnknownName: for a profile or a key that doesn't exist.
        ValueError: for an override that isn't ``key=value``.
    """
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = PROFILES / f"{check('profile', name, profile_names())}.yml"
    # Through JSON: YAML's anchors share one object, and an override is meant for one place.
    profile = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    if not isinstance(overrides, dict):
        pairs = [text.partition("=") for text in overrides]
        for key, equals, value in pairs:
            if not equals:
                raise ValueError(f"override {key + value!r} is not of the form key=value")
        overrides = {key: yaml.safe_load(value) for key, _, value in pairs}
    for key, value in overrides.items():
        *parents, last = key.split(".")
        place = profile
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    _validate(profile)
    return profile


def _validate(profile: dict) -> None:
    """Find what would otherwise fail late, or be ignored."""
    _check_keys(profile, KEYS, "a profile")
    used = set()
    for direction, plan in profile["directions"].items():
        _check_keys(plan, PLAN, f"directions.{direction}")
        for key in [key for key in plan if key in (*TEACHERS, "student")]:
            group = "students" if key == "student" else "teachers"
            used.add((group, check(f"network in the profile's {group}", plan[key], profile[group])))
        for method in plan["methods"]:
            check("method", method, METHODS)
        for control in plan.get("controls", []):
            needed = CONTROLS[check("control", control, CONTROLS)].teacher
            if needed and needed not in plan:
                raise ValueError(
                    f"control {control} needs directions.{direction}.{needed}: one of the profile's teachers"
                )
    for group in ("students", "teachers"):
        for name, network in profile[group].items():
            _check_keys(network, ("model", "training"), f"{group}.{name}")
            if (group, name) not in used:
                raise ValueError(
                    f"{group}.{name} is in no direction of the profile; use it in one or drop it"
                )
            _make(ModelSpec, network["model"], f"{group}.{name}.model")
            _make(Training, profile["training"] | network.get("training", {}), f"{group}.{name}.training")
    _make(DataSpec, profile["data"], "data")
    for method, overrides in profile.get("hyper", {}).items():
        hyperparameters(method, overrides)
    for probe in profile["probes"]:
        check("probe", probe, PROBES)
    if not profile["seeds"]:
        raise ValueError("the profile has no seeds; give at least one, and three or more for intervals")


def _check_keys(values: dict, valid: Iterable[str], where: str) -> None:
    for key in values:
        check(f"key in {where}", key, valid)


def _make(kind: type, values: dict, where: str):
    """A dataclass from a profile's mapping.

    Raises:
        UnknownName: for a key that the dataclass doesn't have.
        ValueError: for a value of another type.
    """
    kinds = {field.name: field.type for field in fields(kind)}
    _check_keys(values, kinds, where)
    values = dict(values)
    for key, value in values.items():
        if kinds[key] is float:
            try:
                values[key] = float(value)  # YAML reads 1e-3 as text
                continue
            except (TypeError, ValueError):
                pass
        if not isinstance(value, kinds[key]):
            wanted = getattr(kinds[key], "__name__", kinds[key])
            raise ValueError(f"{where}.{key} is {value!r}; it must be of type {wanted}")
    return kind(**values)


class Study:
    """The runs, stimuli and answers of a profile.

    Args:
        profile: a profile's name, or the path of a YAML file.
        output: where everything goes, ``outputs`` beside the package if not given; profiles share
            ``<output>/runs``.
        data: the data root, as for :func:`kdlib.data.load`.
        overrides: as for :func:`read_profile`.
        should_stop, quiet: as for :class:`kdlib.runs.RunStore`.
    """

    def __init__(
        self,
        profile: str = "quick",
        output: str | Path | None = None,
        data: str | Path | None = None,
        overrides: dict | Iterable[str] = (),
        should_stop: Callable[[], bool] = lambda: False,
        quiet: bool = False,
    ):
        self.profile = read_profile(profile, overrides)
        output = Path(output) if output else PROJECT / "outputs"
        self.folder = output / Path(profile).stem
        # What another process, or a notebook, needs to make the same study.
        self.parameters = {
            "profile": str(profile),
            "output": str(output),
            "data": str(data) if data else None,
            "overrides": overrides if isinstance(overrides, dict) else list(overrides),
        }
        self.store = RunStore(output / "runs", data, should_stop=should_stop, quiet=quiet)
        self.seeds: list[int] = self.profile["seeds"]
        self.directions: dict[str, dict] = self.profile["directions"]

    @cached_property
    def dataset(self) -> Dataset:
        return self.store.dataset(_make(DataSpec, self.profile["data"], "data"))

    @cached_property
    def test(self) -> Split:
        """The test images that every network is asked about; no run depends on how many they are."""
        return self.dataset.test.subset(self.profile.get("test_images"))

    # ------------------------------------------------------------------------------------------ runs

    def members(self, direction: str | None = None) -> list[Member]:
        """Every run of the study, or of one direction, teachers first within a seed."""
        names = [check("direction", direction, self.directions)] if direction else list(self.directions)
        return [
            member for seed in self.seeds for name in names for member in self._direction_members(name, seed)
        ]

    def _direction_members(self, direction: str, seed: int) -> list[Member]:
        plan = self.directions[direction]
        teachers = self._teachers(direction, seed)
        members = [Member(direction, "teacher", seed, teachers["teacher"])]
        for name in ("independent", *plan["methods"], *plan.get("controls", [])):
            role = roles()[name]
            spec = RunSpec(
                **self._network("students", plan["student"]),
                method=role.method,
                hyper=self.profile.get("hyper", {}).get(role.method, {}) | role.hyper,
                teacher=teachers[role.teacher] if role.teacher else None,
                seed=seed,
            )
            members.append(Member(direction, name, seed, spec))
        return members

    def _teachers(self, direction: str, seed: int) -> dict[str, RunSpec]:
        plan = self.directions[direction]
        return {
            key: RunSpec(**self._network("teachers", plan[key]), seed=TEACHER_SEEDS + seed)
            for key in TEACHERS
            if key in plan
        }

    def _network(self, group: str, name: str) -> dict:
        network = self.profile[group][name]
        recipe = self.profile["training"] | network.get("training", {})
        return {
            "data": self.dataset.spec,
            "student": _make(ModelSpec, network["model"], f"{group}.{name}.model"),
            "training": _make(Training, recipe, f"{group}.{name}.training"),
        }

    def train(self, direction: str | None = None) -> list[Run]:
        """Load or train every run; see :meth:`kdlib.runs.RunStore.get_all`."""
        return list(self.store.get_all(member.spec for member in self.members(direction)))

    def runs(self, direction: str) -> dict[str, list[Run]]:
        """The finished runs by role, one for each seed; trains what is missing."""
        found: dict[str, list[Run]] = {}
        self.train(direction)
        for member in self.members(direction):
            found.setdefault(member.role, []).append(self.store.get(member.spec))
        return found

    def status(self) -> pd.DataFrame:
        """Every run, and how far it is."""
        rows = []
        for member in self.members():
            done = self.store.path(member.spec).is_dir()
            rows.append(
                {
                    "run": member.spec.id,
                    "direction": member.direction,
                    "role": member.role,
                    "seed": member.seed,
                    "state": "done" if done else "left",
                }
            )
        return pd.DataFrame(rows)

    # ---------------------------------------------------------------------------------------- answers

    @property
    def probes(self) -> list[str]:
        """The profile's probes, each after the baseline that it is compared with."""
        pairs = [(PROBES[name].baseline, name) for name in self.profile["probes"]]
        return list(dict.fromkeys(name for pair in pairs for name in pair))

    @cached_property
    def stimuli(self) -> dict[str, Stimuli]:
        """The images of every probe, from the cache where it has them."""
        return {name: self.make_stimuli(name) for name in self.probes}

    def make_stimuli(self, probe: str) -> Stimuli:
        """The images of one probe, from the cache where it has them."""
        cache = cache_folder(self.store.data_root) / "probes"
        return probes.stimuli(probe, self.test.images, self.test.labels, cache=cache)

    def evidence(self, direction: str) -> Evidence:
        """What every model of a direction answers to every probe."""
        return self._ask(direction, self.runs(direction), self.stimuli)

    def _ask(self, direction: str, runs: dict[str, list[Run]], stimuli: dict[str, Stimuli]) -> Evidence:
        predicted = {}
        for role, seeds in runs.items():
            answers = [self.store.predictions(run, stimuli) for run in seeds]
            predicted[role] = {
                probe: np.stack([answer[probe]["predicted"] for answer in answers]) for probe in stimuli
            }
        return Evidence(direction, stimuli, predicted, self.dataset.chance)

    # ----------------------------------------------------------------------------------------- tables

    def data_table(self) -> pd.DataFrame:
        """Where the images come from, how many there are, and their fingerprint."""
        data = self.dataset
        entries = {
            "data": data.source,
            "fingerprint": data.spec.fingerprint,
            "training images": len(data.train),
            "test images": len(self.test),
            "classes": ", ".join(data.classes),
            "chance": data.chance,
        }
        return pd.DataFrame({"what": entries.keys(), "value": [str(value) for value in entries.values()]})

    def augmented(self, epoch: int, count: int = 8) -> Tensor:
        """The first training images as the first seed's runs see them in an epoch: (count, 3, H, W)."""
        plan = epoch_plan(len(self.dataset.train), self.seeds[0], epoch)
        return augment(self.dataset.train.images[:count], plan.crop[:count], plan.flip[:count])

    def probe_table(self) -> pd.DataFrame:
        """Every probe with its question, its baseline, its size and the name of its images."""
        rows = []
        for name, stimuli in self.stimuli.items():
            probe = PROBES[name]
            rows.append(
                {
                    "probe": name,
                    "family": probe.family,
                    "question": probe.question,
                    "compared with": probe.baseline,
                    "images": len(stimuli.labels),
                    "clipped values": stimuli.meta.get("clipped", 0.0),
                    "sha256": stimuli.sha256[:12],
                }
            )
        return pd.DataFrame(rows)

    def network_table(self, direction: str) -> pd.DataFrame:
        """What teacher and student are and how they are trained, side by side."""
        columns = {}
        for member in self._direction_members(direction, self.seeds[0])[:2]:
            network = {field.name: getattr(member.spec.student, field.name) for field in fields(ModelSpec)}
            recipe = {field.name: getattr(member.spec.training, field.name) for field in fields(Training)}
            name = "teacher" if member.role == "teacher" else "every student"
            columns[name] = {key: str(value) for key, value in (network | recipe).items()}
        return pd.DataFrame(columns).rename_axis("what").reset_index()

    def teacher_table(self, direction: str) -> pd.DataFrame:
        """How accurate every teacher of a direction is, the controls' too, on the clean test images."""
        specs = [self._teachers(direction, seed) for seed in self.seeds]
        runs = {key: [self.store.get(found[key]) for found in specs] for key in specs[0]}
        table = measure_table(self._ask(direction, runs, {"clean": self.stimuli["clean"]}))
        table = table[table.measure == "accuracy"]
        teachers = [specs[0][role] for role in table.role]
        return pd.DataFrame(
            {
                "teacher": [role.replace("_", " ") for role in table.role],
                "network": [spec.student.name for spec in teachers],
                "epochs": [spec.training.epochs for spec in teachers],
                **{column: table[column].to_numpy() for column in ("estimate", "low", "high")},
            }
        )

    def history_table(self, direction: str) -> pd.DataFrame:
        """One row for each run, epoch, and term of the loss or accuracy, with its value."""
        tables = []
        for role, runs in self.runs(direction).items():
            for run in runs:
                table = run.history.melt("epoch", var_name="term")
                tables.append(table.assign(role=role, seed=run.spec.seed, diverged=run.diverged))
        return pd.concat(tables, ignore_index=True)

    def cost_table(self, direction: str) -> pd.DataFrame:
        """Seconds an epoch of every run by part, beside the independent student of the same seed.

        "stage", what a method trains on its teacher beforehand, is shared out over the epochs.
        """
        rows = []
        for role, runs in self.runs(direction).items():
            for run in runs:
                parts = run.timing.drop(columns="epoch").fillna(0).mean()
                rows.append(
                    {
                        "direction": direction,
                        "role": role,
                        "seed": run.spec.seed,
                        **parts,
                        "epoch": parts.drop("evaluation").sum(),
                        "parameters": run.record["student_parameters"] + run.record["method_parameters"],
                        "device": run.record["environment"]["device"],
                    }
                )
        table = pd.DataFrame(rows)
        alone = table[table.role == "independent"].set_index("seed")
        return table.assign(
            relative=table["epoch"] / table["seed"].map(alone["epoch"]),
            extra_parameters=(table["parameters"] - table["seed"].map(alone["parameters"])).where(
                table["role"] != "teacher"
            ),
        )


# --------------------------------------------------------------------------------- notebooks, report


def run_notebooks(study: Study, names: Iterable[str] = ()) -> list[Path]:
    """Execute the numbered notebooks with papermill; the executed copies go to ``<folder>/notebooks``."""
    import papermill

    sources = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    names = [check("notebook", name, [path.stem for path in sources]) for name in names]
    target = study.folder / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    done = []
    for source in sources:
        if names and source.stem not in names:
            continue
        print(f"notebook {source.stem}", file=sys.stderr)
        executed = target / source.name
        papermill.execute_notebook(source, executed, study.parameters, progress_bar=False)
        done.append(executed)
    return done


def make_report(study: Study) -> list[Path]:
    """Join the executed notebooks into ``<folder>/report.html``, and a PDF where there is a browser."""
    from kdlib.report import write_pdf, write_report

    notebooks = [study.folder / "notebooks" / path.name for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]
    subtitle = (
        f"{study.profile['title']} — {study.dataset.source}, fingerprint {study.dataset.spec.fingerprint}"
    )
    title = "Can inductive biases be distilled across architectures?"
    page = write_report(notebooks, study.folder / "report.html", title, subtitle)
    return [path for path in (page, write_pdf(page)) if path]
