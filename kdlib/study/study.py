"""A study: a profile names the runs and the probes, notebooks show them, a report joins the notebooks.

study = Study("quick", output="outputs")
study.train()                                   # what is missing
evidence = study.evidence("cnn_to_vit")         # every model's answers to every probe
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from kdlib import disk, probes
from kdlib.bias.answers import Answers, stack
from kdlib.bias.influence import Measures
from kdlib.data import (
    DataError,
    Dataset,
    DataSpec,
    Split,
    augment,
    cache_folder,
    data_root,
    epoch_plan,
    procedural,
)
from kdlib.data.properties import Treatment
from kdlib.models import ModelSpec
from kdlib.names import check
from kdlib.probes import PROBES, Stimuli
from kdlib.probes.external import EXTERNAL
from kdlib.study.controls import roles
from kdlib.study.internals import fields, traits
from kdlib.study.known_bias import yardstick_specs
from kdlib.study.made import Made, translates
from kdlib.study.profile import (
    TEACHERS,
    digest_of,
    folder_of,
    overridden_profile,
    read_overrides,
    read_profile,
)
from kdlib.study.records import Records, RecordStore
from kdlib.study.runs import RunStore
from kdlib.study.specs import TEACHER_SEEDS, Run, RunSpec
from kdlib.study.tables import StudyTables
from kdlib.train import Training

CONFLICT_SEED = 1 << 32  # of no training or test images


@dataclass(frozen=True)
class Member:
    """A run and its part in the study."""

    direction: str
    role: str  # "teacher", or one of kdlib.study.controls.roles()
    seed: int
    spec: RunSpec


class Study(StudyTables):
    """The runs, stimuli and answers of a profile.

    Args:
        profile: a profile's name, or the path of a YAML file.
        output: where everything goes, ``outputs`` beside the package if not given; profiles share
            ``<output>/runs``.
        data: the data root, as for :func:`kdlib.data.load`.
        overrides: as for :func:`kdlib.study.profile.read_profile`.
        should_stop, quiet: as for :class:`kdlib.study.runs.RunStore`.
        results: a folder of published records, as :func:`kdlib.study.records.publish` writes it: its runs are
            taken over, and no images are needed.
        scheduler: the address of a Dask scheduler whose workers train the runs, the variable
            DASK_SCHEDULER_ADDRESS if not given; without one, or where it is empty, this process does.
    """

    def __init__(
        self,
        profile: str = "quick",
        output: str | Path | None = None,
        data: str | Path | None = None,
        overrides: dict | Iterable[str] = (),
        should_stop: Callable[[], bool] = lambda: False,
        quiet: bool = False,
        results: str | Path | None = None,
        scheduler: str | None = None,
    ):
        self.records = Records(results) if results else None
        published = self.records.overrides(Path(profile).stem) if self.records else {}
        given = published | read_overrides(overrides)
        self.profile = read_profile(profile, given)
        self.profile_digest = digest_of(overridden_profile(profile, given))
        self.folder = folder_of(profile, output)
        scheduler = os.environ.get("DASK_SCHEDULER_ADDRESS") if scheduler is None else scheduler
        # What another process, a worker or a notebook needs to make the same study, wherever it runs.
        self.parameters = {
            "profile": str(Path(profile).absolute() if Path(profile).suffix else profile),
            "output": str(self.folder.parent),
            "data": str(data_root(data).absolute()) if data else None,
            "overrides": overrides if isinstance(overrides, dict) else list(overrides),
            "results": str(results) if results else None,
            "scheduler": scheduler,
        }
        make_store = partial(RecordStore, self.records) if self.records else RunStore
        if scheduler and not self.records:
            from kdlib.study.cluster import ClusterStore

            make_store = partial(ClusterStore, scheduler, self.parameters)
        # Records may hold one run as different machines have trained it: each of their stores is apart.
        root = self.folder if self.records else self.folder.parent
        self.store = make_store(root / "runs", data, should_stop=should_stop, quiet=quiet)
        self.seeds: list[int] = self.profile["seeds"]
        self.directions: dict[str, dict] = self.profile.get("directions", {})

    @property
    def command(self) -> str:
        """What makes the study on the command line."""
        given = {"profile": self.parameters["profile"], "from-results": self.parameters["results"]}
        sets = self.parameters["overrides"]
        sets = [f"{key}={value}" for key, value in sets.items()] if isinstance(sets, dict) else sets
        words = [f"--{key} {value}" for key, value in given.items() if value]
        return " ".join(["python -m kdlib study", *words, *(f"--set '{text}'" for text in sets)])

    @cached_property
    def dataset(self) -> Dataset:
        return self.store.dataset(DataSpec(**self.profile["data"]))

    @cached_property
    def test(self) -> Split:
        """The test images that every network is asked about; no run depends on how many they are."""
        return self.dataset.test.subset(self.profile.get("test_images"))

    @cached_property
    def few(self) -> Split:
        """The test images on which networks are looked into."""
        return self.dataset.test.subset(self.profile.get("inside_images"))

    @cached_property
    def test_digest(self) -> str:
        return self.store.digest(self.test)

    @cached_property
    def few_digest(self) -> str:
        return self.store.digest(self.few)

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
        for name in ("baseline", *plan["methods"], *plan.get("controls", [])):
            role = roles()[name]
            network = self.network("students", plan["student"])
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
            key: RunSpec(**self.network("teachers", plan[key]), seed=TEACHER_SEEDS + seed)
            for key in TEACHERS
            if key in plan
        }

    def network(self, group: str, name: str) -> dict:
        """What a run with one of the profile's networks is, but for its method, teacher and seed."""
        network = self.profile[group][name]
        return {
            "data": self.dataset.spec,
            "student": ModelSpec(**network["model"]),
            "training": Training(**self.profile["training"] | network.get("training", {})),
            "treatment": Treatment(**network["treatment"]) if "treatment" in network else None,
        }

    @cached_property
    def longer(self) -> "Study | None":
        """The same study with a longer schedule, if the profile has one; its runs lie with these."""
        changes = self.profile.get("longer")
        if not changes:
            return None
        given = read_overrides(self.parameters["overrides"])
        same = {name: self.parameters[name] for name in ("profile", "output", "data", "results", "scheduler")}
        longer = Study(**same, overrides=given | changes | {"longer": {}})
        longer.store = self.store  # one progress display, one way to stop
        return longer

    @cached_property
    def made(self) -> Made | None:
        """The experiment with made properties: the profile's own, or the published one that it names."""
        named, results = self.profile.get("made"), self.parameters["results"]
        if isinstance(named, str):
            output = self.folder.parent
            return Study(named, output, results=Path(results).parent / named).made if results else None
        return Made(self) if named else None

    @property
    def _own_made(self) -> Made | None:
        return self.made if isinstance(self.profile.get("made"), dict) else None

    @property
    def yardsticks(self) -> list[RunSpec]:
        """The networks with known biases; a study of made properties alone has none."""
        known = yardstick_specs(self.store, self.yardstick_images) if self.directions else {}
        return [spec for seeds in known.values() for spec in seeds]

    @property
    def yardstick_images(self) -> int:
        """How many training images the networks have whose biases are known."""
        return self.profile.get("yardstick_images", 4000)

    def specs(self) -> list[RunSpec]:
        """Every run that the study needs, once, teachers before their students and the yardsticks last."""
        members = self.members() + (self.longer.members() if self.longer else [])
        made = list(self._own_made.specs.values()) if self._own_made else []
        wanted = [*(member.spec for member in members), *made, *self.yardsticks]
        return list({one.id: one for spec in wanted for one in spec.lineage()}.values())

    def plan(self) -> dict:
        """What :func:`kdlib.study.status.states` needs to know: each part that a run plays, once."""
        members = self.members()
        parts = {(member.direction, member.role, member.spec.id): member.spec for member in members}
        seen = {member.spec.id for member in members}
        later = self.longer.members() if self.longer else []
        more = [(member.direction, f"{member.role}, longer", member.spec) for member in later]
        more += [(member.direction, "other teacher", member.spec.teacher) for member in members]
        made = self._own_made.specs if self._own_made else {}
        more += [(direction, f"{role}, {name}", spec) for (direction, name, role, _), spec in made.items()]
        for direction, role, spec in [*more, *(("", "yardstick", spec) for spec in self.yardsticks)]:
            if spec and spec.id not in seen:
                seen.add(spec.id)
                parts[direction, role, spec.id] = spec
        runs = [
            {
                "run": run,
                "label": spec.label,
                "direction": direction,
                "role": role,
                "seed": spec.seed,
                "epochs": spec.training.epochs,
                # An epoch takes equally long in runs of one kind.
                "kind": hashlib.sha256(f"{spec.method} {spec.student} {spec.data}".encode()).hexdigest()[:8],
            }
            for (direction, role, run), spec in parts.items()
        ]
        return {"profile": self.profile_digest, "probes": self.probes, "runs": runs}

    def train(self) -> list[Run]:
        """Load or train every run, and keep its answers; see :meth:`kdlib.study.runs.RunStore.get_all`."""
        with self.store.lock("plan"), disk.written(self.folder / f"plan-{self.profile_digest}.json") as path:
            path.write_text(json.dumps(self.plan(), indent=1))
        return list(self.store.get_all(self.specs(), self.ask_all))

    def ask_all(self, run: Run) -> None:
        """Keep what the evaluation will ask of a run's network."""
        if run.spec.data != self.dataset.spec:  # a yardstick, which is asked other things
            return
        self.store.predictions(run, self.stimuli)
        if self._own_made and translates(run.spec.method):
            self.store.predictions(run, self.stimuli, by_teacher=True)
        if self.profile.get("inside_images") and run.spec.id in self._looked_into:
            traits(self, run)
            fields(self, run)

    @cached_property
    def _looked_into(self) -> set[str]:
        """Runs whose inside a table shows: the natural comparison's."""
        members = self.members() + (self.longer.members() if self.longer else [])
        return {member.spec.id for member in members}

    def finished(self) -> list[Run]:
        """Those of :meth:`specs` that are complete on disk."""
        return [run for run in map(self.store.load, self.specs()) if run]

    def runs(self, direction: str, names: Iterable[str] = ()) -> dict[str, list[Run]]:
        """The finished runs by role, all or some only, one for each seed; trains what is missing."""
        found: dict[str, list[Run]] = {}
        wanted = [member for member in self.members(direction) if not names or member.role in names]
        for member, run in zip(wanted, self.store.get_each(member.spec for member in wanted), strict=True):
            found.setdefault(member.role, []).append(run)
        return found

    # ---------------------------------------------------------------------------------------- answers

    @cached_property
    def probes(self) -> list[str]:
        """The profile's probes, each after the reference and before the control that it is compared with."""
        levels = probes.series()
        named = [name for entry in self.profile["probes"] for name in levels.get(entry, [entry])]
        found = {}
        for name in named:
            found |= dict.fromkeys(filter(None, (PROBES[name].reference, name, PROBES[name].control)))
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
        for name in [] if self.records else self.profile.get("external", []):
            source = EXTERNAL[name]
            try:
                found |= source.load(root / source.folder, self.dataset.classes)
            except DataError as error:
                missing.append(str(error))
        return found, missing

    def make_stimuli(self, probe: str) -> Stimuli:
        """The images of one probe, from the cache where it has them; of published records only the labels."""
        self.test_digest  # refuses another number of images than published  # noqa: B018
        drawn = probe == "cue_conflict" and self.dataset.spec.name == "shape_texture"
        name = PROBES[probe].control if drawn else probe
        make = partial(probes.stimuli, name, self.test.images, self.test.labels, cache=self._probe_cache)
        return self.store.stimuli(self.dataset, probe, (lambda: _drawn(make())) if drawn else make)

    @property
    def _probe_cache(self) -> Path:
        return cache_folder(self.store.data_root) / "probes"

    @cached_property
    def pictures(self) -> tuple[Dataset, dict[str, Stimuli]]:
        """The images that notebooks show: the study's own, or the procedural set's where it has none."""
        if self.records:
            return self.records.pictures(self.probes, self._probe_cache)
        return self.dataset, self.stimuli

    def augmented(self, epoch: int, count: int = 8) -> Tensor:
        """The first training images as the first seed's runs see them in an epoch: (count, 3, H, W)."""
        train = self.pictures[0].train
        plan = epoch_plan(len(train), self.seeds[0], epoch)
        return augment(train.images[:count], plan.crop[:count], plan.flip[:count])

    def evidence(self, direction: str) -> Measures:
        """Every measure of every network of a direction, from its answers and from what is seen inside it."""
        inside = bool(self.profile.get("inside_images"))
        return Measures(self._ask(direction, self.runs(direction), self.stimuli, inside))

    def references(self) -> dict[str, Answers]:
        """What the baselines alone answer, by direction: probes are accepted on them."""
        alone = ("baseline",)
        return {name: self._ask(name, self.runs(name, alone), self.stimuli) for name in self.directions}

    def _ask(
        self, direction: str, runs: dict[str, list[Run]], stimuli: dict[str, Stimuli], inside: bool = False
    ) -> Answers:
        answers, looks = {}, {}
        for role, seeds in runs.items():
            said = [self.store.predictions(run, stimuli) for run in seeds]
            answers[role] = {probe: stack([answer[probe] for answer in said]) for probe in stimuli}
            if inside:
                looks[role] = stack([traits(self, run) for run in seeds])
        return Answers(direction, stimuli, answers, looks, self.dataset.chance)


def _drawn(conflict: Stimuli) -> Stimuli:
    """The same pairs of classes as images of the procedural set: of the first texture nothing is left."""
    generator, size = torch.Generator().manual_seed(CONFLICT_SEED), conflict.images.shape[-1]
    images = procedural.draw(conflict.labels, conflict.texture_labels, generator, size)
    return replace(conflict, images=images, meta={})
