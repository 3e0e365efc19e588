"""The experiment with trained-in properties: does a student inherit what its teacher was trained to have?

docs/profiles.md says what a profile's ``made`` holds. The plain teacher beside a made one has the same
network, seed and number of steps; kdlib.bias.inheritance compares their students.
"""

from dataclasses import replace
from functools import cached_property

from kdlib.bias.influence import Measures
from kdlib.data.properties import Treatment
from kdlib.methods import METHODS
from kdlib.study.controls import READ, roles
from kdlib.study.specs import Run, RunSpec

PLAIN = "plain"  # in place of a property: teachers that saw ordinary images only


class Made:
    """The runs and answers of a study's ``made``, by direction, property and role.

    Roles are "teacher"; "baseline"; "ceiling", a student trained on the changed images itself; and the
    methods. A direction is ``<teacher>_to_<student>``, by their names in the profile.
    """

    def __init__(self, study):
        self.study = study
        design = study.profile.get("made")
        if not isinstance(design, dict):
            raise ValueError(f"{study.folder.name} trains no teachers with a property; leave it out of made")
        self.properties = list(design["properties"])
        self.treatments = {PLAIN: None} | {
            name: Treatment(name, dose) for name, dose in design["properties"].items()
        }
        self.directions: dict[str, list[str]] = {
            name: [*design["methods"], *own] for name, own in design["directions"].items()
        }

    @cached_property
    def specs(self) -> dict[tuple[str, str, str, int], RunSpec]:
        """By (direction, property, role, seed): one method after the other, over all seeds.

        So what a study has finished when it is stopped can be compared.
        """
        taught = dict.fromkeys(method for methods in self.directions.values() for method in methods)
        return {
            (direction, made, role, seed): self._spec(direction, made, role, seed)
            for role in ("teacher", "baseline", "ceiling", *taught)
            for seed in self.study.seeds
            for direction, methods in self.directions.items()
            for made in self.treatments
            if role not in taught or role in methods
        }

    def _spec(self, direction: str, made: str, role: str, seed: int) -> RunSpec:
        (source, target), spec, treatment = direction.split("_to_"), self.study.spec, self.treatments[made]
        teacher = replace(spec("teachers", source, seed), treatment=treatment)
        student = spec("students", target, seed)
        alone = {"teacher": teacher, "baseline": student, "ceiling": replace(student, treatment=treatment)}
        return alone.get(role) or spec("students", target, seed, roles()[role], teacher)

    def evidence(self, direction: str, made: str = PLAIN) -> Measures:
        """Every measure of every network of a direction, where ``made`` names the teachers' property."""
        runs = self.runs(direction, made)
        runs |= {role + READ: runs[role] for role in filter(translates, runs)}
        return Measures(self.study.answers(direction, runs, self.study.stimuli))

    def runs(self, direction: str, made: str) -> dict[str, list[Run]]:
        """By role, one for each seed; trains what is missing."""
        here = (direction, made)
        return self.study.store.by_role((key[2], spec) for key, spec in self.specs.items() if key[:2] == here)


def translates(role: str) -> bool:
    """Whether it is a method with a map from the student's embedding to the teacher's."""
    return hasattr(METHODS.get(role), "translate")
