"""A study: a profile names the runs and the probes, notebooks show them, a report joins the notebooks.

study = Study("quick", output="outputs")
study.train()                                   # what is missing
evidence = study.evidence("cnn_to_vit")         # every model's answers to every probe
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from kdlib import probes
from kdlib.bias.evidence import Evidence
from kdlib.bias.tables import measure_table
from kdlib.data import (
    PROJECT,
    DataError,
    Dataset,
    DataSpec,
    Split,
    augment,
    cache_folder,
    data_root,
    epoch_plan,
)
from kdlib.inside import fields, traits
from kdlib.models import ModelSpec
from kdlib.names import check
from kdlib.probes import PROBES, Stimuli
from kdlib.probes.external import EXTERNAL
from kdlib.profile import TEACHERS, make, read_profile
from kdlib.roles import roles
from kdlib.runs import Run, RunSpec, RunStore
from kdlib.train import Training
from kdlib.yardstick import yardstick_specs

NOTEBOOKS = PROJECT / "notebooks"
TEACHER_SEEDS = 500  # teachers start from other weights than students, also where they are the same network


@dataclass(frozen=True)
class Member:
    """A run and its part in the study."""

    direction: str
    role: str  # "teacher", or one of kdlib.roles.roles()
    seed: int
    spec: RunSpec


class Study:
    """The runs, stimuli and answers of a profile.

    Args:
        profile: a profile's name, or the path of a YAML file.
        output: where everything goes, ``outputs`` beside the package if not given; profiles share
            ``<output>/runs``.
        data: the data root, as for :func:`kdlib.data.load`.
        overrides: as for :func:`kdlib.profile.read_profile`.
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
        return self.store.dataset(make(DataSpec, self.profile["data"], "data"))

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
            network = self._network("students", plan["student"])
            epochs = max(1, round(role.epochs * network["training"].epochs))
            network["training"] = replace(network["training"], epochs=epochs)
            spec = RunSpec(
                **network,
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
            "student": make(ModelSpec, network["model"], f"{group}.{name}.model"),
            "training": make(Training, recipe, f"{group}.{name}.training"),
        }

    def specs(self) -> list[RunSpec]:
        """Every run that the study needs, once, teachers before their students and the yardsticks last."""
        known = yardstick_specs(self.store, self.yardstick_images)
        wanted = [member.spec for member in self.members()] + [
            spec for seeds in known.values() for spec in seeds
        ]
        return list({one.id: one for spec in wanted for one in spec.lineage()}.values())

    def train(self) -> list[Run]:
        """Load or train every run, and keep its answers; see :meth:`kdlib.runs.RunStore.get_all`."""
        specs = [member.spec for member in self.members()]
        known = yardstick_specs(self.store, self.yardstick_images)
        trained = list(self.store.get_all(specs, self._ask_all))
        return trained + list(self.store.get_all(spec for seeds in known.values() for spec in seeds))

    @property
    def yardstick_images(self) -> int:
        """How many training images the networks have whose biases are known."""
        return self.profile.get("yardstick_images", 4000)

    def _ask_all(self, run: Run) -> None:
        self.store.predictions(run, self.stimuli)
        if self.profile.get("inside_images"):
            traits(self.store, run, self.few, self.probes)
            fields(self.store, run, self.few.images)

    def runs(self, direction: str, names: Iterable[str] = ()) -> dict[str, list[Run]]:
        """The finished runs by role, all or some only, one for each seed; trains what is missing."""
        found: dict[str, list[Run]] = {}
        wanted = [member for member in self.members(direction) if not names or member.role in names]
        ready = {run.spec.id: run for run in self.store.get_all(member.spec for member in wanted)}
        for member in wanted:
            found.setdefault(member.role, []).append(ready[member.spec.id])
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

    @cached_property
    def probes(self) -> list[str]:
        """The profile's probes, each after the baseline and before the control that it is compared with."""
        levels = probes.series()
        named = [name for entry in self.profile["probes"] for name in levels.get(entry, [entry])]
        found = {}
        for name in named:
            found |= dict.fromkeys(filter(None, (PROBES[name].baseline, name, PROBES[name].control)))
        return list(found)

    @cached_property
    def stimuli(self) -> dict[str, Stimuli]:
        """The images of every probe, from the cache where it has them, and those published by others."""
        return {name: self.make_stimuli(name) for name in self.probes} | self._external[0]

    @property
    def missing(self) -> list[str]:
        """For the stimuli by others that aren't there: what is missing and how to get it."""
        return self._external[1]

    @cached_property
    def _external(self) -> tuple[dict[str, Stimuli], list[str]]:
        found, missing, root = {}, [], data_root(self.store.data_root)
        for name in self.profile.get("external", []):
            source = EXTERNAL[name]
            try:
                found |= source.load(root / source.folder, self.dataset.classes)
            except DataError as error:
                missing.append(str(error))
        return found, missing

    def make_stimuli(self, probe: str) -> Stimuli:
        """The images of one probe, from the cache where it has them."""
        cache = cache_folder(self.store.data_root) / "probes"
        return probes.stimuli(probe, self.test.images, self.test.labels, cache=cache)

    def evidence(self, direction: str) -> Evidence:
        """What every model of a direction answers to every probe, and what is seen inside it."""
        inside = bool(self.profile.get("inside_images"))
        return self._ask(direction, self.runs(direction), self.stimuli, inside)

    def references(self) -> dict[str, Evidence]:
        """What the independent students alone answer, by direction: probes are accepted on them."""
        alone = ("independent",)
        return {name: self._ask(name, self.runs(name, alone), self.stimuli) for name in self.directions}

    def _ask(
        self, direction: str, runs: dict[str, list[Run]], stimuli: dict[str, Stimuli], inside: bool = False
    ) -> Evidence:
        answers = {
            role: [self.store.predictions(run, stimuli) for run in seeds] for role, seeds in runs.items()
        }
        return Evidence(
            direction,
            stimuli,
            {
                role: {probe: _stack(answer[probe] for answer in seeds) for probe in stimuli}
                for role, seeds in answers.items()
            },
            {
                role: _stack(traits(self.store, run, self.few, self.probes) for run in seeds)
                for role, seeds in runs.items()
            }
            if inside
            else {},
            self.dataset.chance,
        )

    @cached_property
    def few(self) -> Split:
        """The test images on which networks are looked into."""
        return self.dataset.test.subset(self.profile.get("inside_images"))

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
        for name in self.probes:
            stimuli, probe = self.stimuli[name], PROBES[name]
            rows.append(
                {
                    "probe": name,
                    "family": probe.family,
                    "question": probe.question,
                    "compared with": probe.baseline,
                    "images": len(stimuli.labels),
                    "clipped values": stimuli.meta.get("clipped", 0.0),
                    "seconds": stimuli.meta.get("seconds", 0.0) / len(stimuli.labels) * 10_000,
                    "sha256": stimuli.sha256[:12],
                }
            )
        return pd.DataFrame(rows)

    def network_table(self, direction: str) -> pd.DataFrame:
        """What teacher and student are and how they are trained, side by side."""
        columns = {}
        for member in self._direction_members(direction, self.seeds[0])[:2]:
            both = asdict(member.spec.student) | asdict(member.spec.training)
            name = "teacher" if member.role == "teacher" else "every student"
            columns[name] = {key: str(value) for key, value in both.items()}
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
                        "epochs": len(run.timing),
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


def _stack(runs: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One row a run."""
    runs = list(runs)
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


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
