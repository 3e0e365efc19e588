"""A study: a profile names the runs and the probes, notebooks show them, a report joins the notebooks.

study = Study("quick", output="outputs")
study.train()                                   # what is missing
evidence = study.evidence("cnn_to_vit")         # every model's answers to every probe
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor

from kdlib import disk, probes
from kdlib.bias.influence import Answers, Measures, stack
from kdlib.data import DataError, Dataset, DataSpec, Split, augment, cache_folder, data_root, epoch_plan, load
from kdlib.data.base import PROJECT
from kdlib.data.properties import Treatment
from kdlib.messages import check
from kdlib.models import ModelSpec
from kdlib.probes import PROBES, Stimuli
from kdlib.probes.cue_conflict import drawn_anew
from kdlib.probes.external import EXTERNAL
from kdlib.study.controls import READ, Role, roles
from kdlib.study.internals import fields, traits
from kdlib.study.known_bias import yardstick_specs
from kdlib.study.made import Made, translates
from kdlib.study.profile import TEACHERS, digest_of, folder_of, overridden_profile, read_overrides
from kdlib.study.records import RecordStore
from kdlib.study.runs import RunStore
from kdlib.study.schema import read_profile
from kdlib.study.specs import TEACHER_SEEDS, Run, RunSpec
from kdlib.train import Training

PICTURED = DataSpec("shape_texture", train_images=200, options={"test_images": 200})


@dataclass(frozen=True)
class Member:
    """A run and its part in the study."""

    direction: str
    role: str  # "teacher", or one of kdlib.study.controls.roles()
    seed: int
    spec: RunSpec


class Study:
    """The runs, stimuli and answers of a profile.

    Args:
        profile: a profile's name, or the path of a YAML file.
        output: where everything goes, ``outputs`` beside the package if not given; profiles share
            ``<output>/runs``.
        data: the data root, as for :func:`kdlib.data.load`.
        overrides: as for :func:`kdlib.study.profile.overridden_profile`.
        should_stop, quiet: as for :class:`kdlib.study.runs.RunStore`.
        results: a folder of published records, as :func:`kdlib.study.records.publish` writes it: all is read
            from there, and no images are needed.
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
    ):
        # papermill's -r gives all parameters as text
        output, data, results = (None if given == "None" else given for given in (output, data, results))
        self.folder = folder_of(profile, output)
        # What another process, such as a notebook's, needs to make the same study.
        self.parameters = {
            "profile": str(Path(profile).absolute() if Path(profile).suffix else profile),
            "output": str(self.folder.parent),
            "data": str(data_root(data).absolute()) if data else None,
            "overrides": read_overrides(overrides),
            "results": str(results) if results else None,
        }
        given, options = self.parameters["overrides"], {"should_stop": should_stop, "quiet": quiet}
        root = self.folder.parent / "runs"
        if results:
            self.store = RecordStore(results, Path(profile).stem, data, **options)
            given = self.store.about["overrides"] | given
        else:
            self.store = RunStore(root, data, **options)
        self.profile = read_profile(profile, given)
        self.profile_digest = digest_of(overridden_profile(profile, given))
        self.seeds: list[int] = self.profile["seeds"]
        self.directions: dict[str, dict] = self.profile.get("directions", {})
        # Training images of the networks whose biases are known; None: there are no such networks.
        self.yardstick_images: int | None = self.profile.get("yardstick_images")

    @property
    def command(self) -> str:
        """What makes the study on the command line."""
        given = {"profile": self.parameters["profile"], "from-results": self.parameters["results"]}
        words = [f"--{key} {value}" for key, value in given.items() if value]
        words += [f"--set '{key}={json.dumps(value)}'" for key, value in self.parameters["overrides"].items()]
        return " ".join(["python -m kdlib study", *words])

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

    def spec(
        self, group: str, network: str, seed: int, role: Role | None = None, teacher: RunSpec | None = None
    ) -> RunSpec:
        """A run of one of the profile's ``teachers`` or ``students``; the baseline, if no role is given."""
        told, role = self.profile[group][network], role or roles()["baseline"]
        training = Training(**self.profile["training"] | told.get("training", {}))
        hyper = self.profile.get("hyper", {}).get(role.method, {}) if group == "students" else {}
        return RunSpec(
            data=self.dataset.spec,
            student=ModelSpec(**{"image_size": self.dataset.spec.image_size} | told["model"]),
            method=role.method,
            hyper=hyper | role.hyper,
            teacher=teacher,
            training=replace(training, epochs=max(1, round(role.epochs * training.epochs))),
            seed=seed if group == "students" else TEACHER_SEEDS + seed,
            treatment=Treatment(**told["treatment"]) if "treatment" in told else None,
        )

    def teachers(self, direction: str, seed: int) -> dict[str, RunSpec]:
        """Those of a direction: its own, and its controls'."""
        plan = self.directions[direction]
        return {key: self.spec("teachers", plan[key], seed) for key in TEACHERS if key in plan}

    def members(self, direction: str | None = None) -> list[Member]:
        """Every run of the study, or of one direction, teachers first within a seed."""
        names = [check("direction", direction, self.directions)] if direction else self.directions
        return [member for seed in self.seeds for name in names for member in self._members(name, seed)]

    def _members(self, direction: str, seed: int) -> Iterator[Member]:
        plan, teachers = self.directions[direction], self.teachers(direction, seed)
        yield Member(direction, "teacher", seed, teachers["teacher"])
        for name in ("baseline", *plan["methods"], *plan.get("controls", [])):
            role = roles()[name]
            spec = self.spec("students", plan["student"], seed, role, teachers.get(role.teacher))
            yield Member(direction, name, seed, spec)

    @cached_property
    def longer(self) -> "Study | None":
        """The same study with a longer schedule, if the profile has one; its runs lie with these."""
        changes = self.profile.get("longer")
        if not changes:
            return None
        overrides = self.parameters["overrides"] | changes | {"longer": {}}
        longer = Study(**self.parameters | {"overrides": overrides})
        longer.store = self.store  # one progress display, one way to stop
        return longer

    @cached_property
    def experiments(self) -> list[Made]:
        """Those with trained-in properties: the profile's own, or the published ones that it names."""
        named, results = self.profile.get("made") or [], self.parameters["results"]
        if isinstance(named, dict):
            return [Made(self)]
        root = Path(results).parent if results else PROJECT / "results"
        return [Made(Study(name, self.folder.parent, results=root / name)) for name in named]

    @property
    def made(self) -> Made | None:
        """The first of them, which the answer is about."""
        return next(iter(self.experiments), None)

    def parts(self) -> list[Member]:
        """Every run that the study needs, once, teachers before their students and the yardsticks last."""
        members = self.members()
        if self.longer:
            members += [replace(one, role=f"{one.role}, longer") for one in self.longer.members()]
        if isinstance(self.profile.get("made"), dict):
            for (direction, name, role, seed), spec in self.made.specs.items():
                members.append(Member(direction, f"{role}, {name}", seed, spec))
        if self.yardstick_images:
            known = yardstick_specs(self.store, self.yardstick_images)
            members += [Member("", "yardstick", spec.seed, spec) for spec in known]
        found = {member.spec.id: member for member in reversed(members)}  # of several parts the first
        others = ((member, spec) for member in members for spec in member.spec.lineage())
        every = {spec.id: replace(member, role="other teacher", spec=spec) for member, spec in others}
        return list((every | found).values())

    def specs(self) -> list[RunSpec]:
        return [part.spec for part in self.parts()]

    def plan(self) -> dict:
        """What :func:`kdlib.study.status.states` needs to know: every run and a part of it."""
        parts = [
            {
                "run": part.spec.id,
                "direction": part.direction,
                "role": part.role,
                "seed": part.spec.seed,
                "epochs": part.spec.training.epochs,
                # An epoch takes equally long in runs of one kind.
                "kind": f"{part.spec.method} {part.spec.student} {part.spec.data}",
            }
            for part in self.parts()
        ]
        return {"probes": self.probes, "runs": parts}

    def train(self) -> list[Run]:
        """Load or train every run, and keep its answers; see :meth:`kdlib.study.runs.RunStore.get_all`."""
        plan = self.folder / f"plan-{self.profile_digest}.json"
        with disk.lock(self.folder / "plan.lock", plan), disk.written(plan) as path:
            path.write_text(json.dumps(self.plan(), indent=1))
        return list(self.store.get_all(self.specs(), self.ask_all))

    def ask_all(self, run: Run) -> None:
        """Keep what the evaluation will ask of a run's network."""
        if run.spec.data != self.dataset.spec:  # a yardstick, which is asked other things
            return
        self.store.predictions(run, self.stimuli)
        if translates(run.spec.method):
            self.store.predictions(run, self.stimuli, by_teacher=True)
        if self.profile.get("inside_images") and run.spec.id in self.looked_into:
            traits(self, run)
            fields(self, run)

    @cached_property
    def looked_into(self) -> set[str]:
        """Runs whose inside a table shows: the natural comparison's."""
        members = self.members() + (self.longer.members() if self.longer else [])
        return {member.spec.id for member in members}

    def must_be_published(self) -> None:
        """Raise DataError if published records lack a run, or answers about these test images."""
        for one in (self, *(made.study for made in self.experiments)):
            if one.parameters["results"]:
                one.store.get_each(one.specs())
                one.test_digest  # noqa: B018

    def runs(self, direction: str, names: Iterable[str] = ()) -> dict[str, list[Run]]:
        """The finished runs by role, all or some only, one for each seed; trains what is missing."""
        wanted = [member for member in self.members(direction) if not names or member.role in names]
        return self.store.by_role((member.role, member.spec) for member in wanted)

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
        self.test_digest  # refuses another number of images than published  # noqa: B018
        draw = {name: partial(self._draw, name, self.test) for name in self.probes}
        own = {name: self.store.stimuli(self.dataset, name, make) for name, make in draw.items()}
        return own | self._external[0]

    @property
    def missing(self) -> list[str]:
        """For the stimuli by others that aren't there: what is missing and how to get it."""
        return self._external[1]

    @cached_property
    def _external(self) -> tuple[dict[str, Stimuli], list[str]]:
        found, missing, root = {}, [], data_root(self.store.data_root)
        for name in [] if self.parameters["results"] else self.profile.get("external", []):
            folder, read = EXTERNAL[name]
            try:
                found |= read(root / folder, self.dataset.classes)
            except (DataError, ValueError) as error:  # not there, or of classes that these data haven't
                missing.append(str(error))
        return found, missing

    def _draw(self, probe: str, test: Split) -> Stimuli:
        drawn = probe == "cue_conflict" and self.dataset.spec.name == "shape_texture"
        name, cache = PROBES[probe].control if drawn else probe, cache_folder(self.store.data_root)
        made = probes.stimuli(name, test.images, test.labels, cache=cache / "probes")
        return drawn_anew(made) if drawn else made

    @cached_property
    def pictures(self) -> tuple[Dataset, dict[str, Stimuli]]:
        """The images that notebooks show: the study's own; of published records, which have none, others."""
        if not self.parameters["results"]:
            return self.dataset, self.stimuli
        data = load(PICTURED)
        return data, {name: self._draw(name, data.test) for name in self.probes}

    def augmented(self, epoch: int) -> Tensor:
        """The first 8 training images as the first seed's runs see them in an epoch: (8, 3, H, W)."""
        train = self.pictures[0].train
        _, crop, flip = epoch_plan(len(train), self.seeds[0], epoch)
        return augment(train.images[:8], crop[:8], flip[:8])

    def evidence(self, direction: str) -> Measures:
        """Every measure of every network of a direction, from its answers and from what is seen inside it."""
        inside = bool(self.profile.get("inside_images"))
        return Measures(self.answers(direction, self.runs(direction), self.stimuli, inside))

    def references(self) -> dict[str, Answers]:
        """What the baselines alone answer, by direction: probes are accepted on them."""
        alone = ("baseline",)
        return {name: self.answers(name, self.runs(name, alone), self.stimuli) for name in self.directions}

    def answers(
        self, direction: str, runs: dict[str, list[Run]], stimuli: dict[str, Stimuli], inside: bool = False
    ) -> Answers:
        """What the runs of each role say; of one that ends in READ what its teacher's head does."""
        answers, looks = {}, {}
        for role, seeds in runs.items():
            said = [self.store.predictions(run, stimuli, role.endswith(READ)) for run in seeds]
            answers[role] = {probe: stack([answer[probe] for answer in said]) for probe in stimuli}
            if inside:
                looks[role] = stack([traits(self, run) for run in seeds])
        return Answers(direction, stimuli, answers, looks, self.dataset.chance)
