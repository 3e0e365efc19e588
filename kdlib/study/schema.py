"""The keys that a profile may contain, their types and limits, and which of them must fit together."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt

from kdlib.data import DataSpec
from kdlib.data.properties import PROPERTIES, Treatment
from kdlib.messages import check, closest
from kdlib.methods import METHODS, add_from, hyperparameters
from kdlib.models import ModelSpec
from kdlib.probes import PROBES, series
from kdlib.probes.external import EXTERNAL
from kdlib.study.controls import CONTROLS, OTHERS, roles
from kdlib.study.profile import TEACHERS, overridden_profile, profile_names, read_overrides
from kdlib.train import PRECISIONS, Training


class Strict(BaseModel):
    """No key but these, no text for a number, no NaN."""

    model_config = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


def _like(kind: type, **limits) -> type[Strict]:
    """The keys of a dataclass; nothing that is left out gets a value here, and a name must be given."""
    kinds = {
        key.name: (limits.get(key.name, key.type), ... if key.name == "name" else None)
        for key in fields(kind)
    }
    return pydantic.create_model(kind.__name__, __base__=Strict, **kinds)


def _one_of(kind: str, valid):
    """A name that is in ``valid``, or in what it returns now: a profile may add methods."""
    known = valid if callable(valid) else lambda: valid
    return Annotated[str, AfterValidator(lambda name: check(kind, name, known()))]


def _unlike(values: list) -> list:
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} more than once")
    return values


def _some(kind, least: int = 1):
    return Annotated[list[kind], Field(min_length=least), AfterValidator(_unlike)]


def _hyper(values: dict) -> dict:
    for method, changes in values.items():
        hyperparameters(method, changes)
    return values


def _direction(name: str) -> str:
    if not re.fullmatch(r"\w+_to_\w+", name) or name.count("_to_") > 1:  # it names files and figures
        raise ValueError(f"{name!r} is not a direction; call it <teacher>_to_<student>, like cnn_to_vit")
    return name


def _doses(properties: dict[str, float]) -> dict[str, float]:
    for name, dose in properties.items():
        Treatment(name, dose)
    return properties


DirectionName = Annotated[str, AfterValidator(_direction)]
Taught = _one_of("method", lambda: [key for key, kind in METHODS.items() if kind.uses_teacher])
# Controls with the direction's own teacher too.
MadeBy = _one_of("method", lambda: [key for key, role in roles().items() if role.teacher == "teacher"])
Share = Annotated[float, Field(ge=0, lt=1)]
Data = _like(DataSpec, train_images=PositiveInt | None, image_size=PositiveInt)
Model = _like(ModelSpec, image_size=PositiveInt)
Recipe = _like(
    Training,
    epochs=PositiveInt,
    batch_size=PositiveInt,
    optimizer=_one_of("optimizer", ("sgd", "adamw")),
    learning_rate=PositiveFloat,
    weight_decay=Annotated[float, Field(ge=0)],
    warmup=Share,
    clip=PositiveFloat,
    precision=_one_of("precision", PRECISIONS),
)


class Treated(Strict):
    property: _one_of("property", PROPERTIES)
    dose: PositiveFloat = None  # the full one, if not given

    @pydantic.model_validator(mode="after")
    def _possible(self) -> "Treated":
        Treatment(self.property, self.dose or 0.0)
        return self


class Trained(Strict):
    model: Model
    training: Recipe = None  # what differs from the profile's
    treatment: Treated = None  # of its training images, to make a property


class Direction(Strict):
    teacher: str  # one of the profile's teachers
    same_family: str = None  # likewise, for controls
    matched: str = None
    student: str  # one of the profile's students
    methods: _some(Taught)
    controls: _some(_one_of("control", CONTROLS), least=0) = None


class Made(Strict):
    properties: Annotated[
        dict[_one_of("property", PROPERTIES), PositiveFloat], Field(min_length=1), AfterValidator(_doses)
    ]
    methods: _some(MadeBy)
    # With the methods that are taught in this direction only; null: left out.
    directions: Annotated[dict[DirectionName, list[MadeBy] | None], Field(min_length=1)]


class Profile(Strict):
    title: str
    methods_from: str | None = None  # a file of Python that adds methods: a path from the profile's folder
    data: Data
    # Three or more for intervals; from 500 on they are teachers', who start from other weights.
    seeds: _some(Annotated[NonNegativeInt, Field(lt=500)])
    training: Recipe
    students: dict[str, Trained]
    teachers: dict[str, Trained]
    directions: dict[DirectionName, Direction | None] = None  # one that is null is left out, of made too
    hyper: Annotated[dict[str, dict], AfterValidator(_hyper)] = None  # by method
    probes: _some(_one_of("probe or series", [*PROBES, *series()]))
    external: _some(_one_of("external stimuli", EXTERNAL), least=0) = None
    made: Made | list[str] | None = None  # teachers with a property, or profiles that have them; null: none
    longer: dict = None  # overrides for the same study with a longer schedule
    test_images: PositiveInt | None = None  # that the probes are made of; None: all
    inside_images: NonNegativeInt | None = None  # that networks are looked into with; 0: not at all
    # That networks with known biases are trained on, in batches of 32; null: none.
    yardstick_images: Annotated[int, Field(ge=32)] | None = None

    @pydantic.model_validator(mode="after")
    def _fit(self) -> "Profile":
        left_out = self._leave_out()
        for name in _unlike(self.made) if isinstance(self.made, list) else ():
            check("profile in made", name, profile_names())
        problems, named = [], []  # what is wrong; of every network's name where it is, its group, and itself
        if not self.directions and not isinstance(self.made, Made):
            problems.append("directions: none is left, and made has no experiment")
        for direction, plan in (self.directions or {}).items():
            place = f"directions.{direction}"
            named += [(f"{place}.{key}", "teachers", getattr(plan, key)) for key in TEACHERS]
            named.append((f"{place}.student", "students", plan.student))
            for control in plan.controls or []:
                key = CONTROLS[control].teacher
                if key and not getattr(plan, key):
                    problems.append(f"control {control} needs {place}.{key}: one of the profile's teachers")
        for direction in self.made.directions if isinstance(self.made, Made) else ():
            pair = zip(("teachers", "students"), direction.split("_to_"), strict=True)
            named += [(f"made.directions.{direction}", group, name) for group, name in pair]
        for place, group, name in named:
            if name and name not in getattr(self, group):
                hint = closest(name, getattr(self, group))
                problems.append(f"{place}: no {name!r} in {group}.{hint}")
        used = {(group, name) for _, group, name in named}
        for group in ("students", "teachers"):
            unused = [name for name in getattr(self, group) if (group, name) not in used]
            for name in unused:
                if left_out:
                    del getattr(self, group)[name]
                else:
                    problems.append(f"{group}.{name} is in no direction; use it in one or drop it")
        if self.inside_images == 1:
            problems.append("inside_images is 1, which has no interval; give 2 or more, or 0 for none")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _leave_out(self) -> bool:
        """Drop directions that are null; whether there is one, or made is null, so that networks go too."""
        plans = [part.directions for part in (self, self.made) if getattr(part, "directions", None)]
        null = {name for part in plans for name in part if part[name] is None}
        for part in plans:
            for name in null & part.keys():
                del part[name]
        if isinstance(self.made, Made) and not self.made.directions:
            self.made = None
        return bool(null) or ("made" in self.model_fields_set and self.made is None)


KEYS = {
    key for model in (Profile, Made, Direction, Trained, Recipe, Model, Data) for key in model.model_fields
}


def read_profile(name: str, overrides: dict | Iterable[str] = ()) -> dict:
    """As :func:`overridden_profile`, with floats where floats are wanted.

    Raises ValueError for everything in it that is wrong, each by its key, in one line.
    """
    profile = overridden_profile(name, overrides)
    if own := profile.get("methods_from"):
        add_from(Path(own), (*CONTROLS, *OTHERS))
    try:
        found = Profile.model_validate_json(json.dumps(profile)).model_dump(exclude_unset=True)
    except pydantic.ValidationError as error:
        raise ValueError(f"profile {name}: {'; '.join(map(_told, error.errors()))}") from error
    if found.get("longer"):
        try:
            read_profile(name, read_overrides(overrides) | found["longer"] | {"longer": {}})
        except ValueError as error:
            raise ValueError(f"in longer, which longer={{}} switches off: {error}") from error
    return found


def _told(error: dict) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"no such key.{closest(error['loc'][-1], KEYS)}"
    elif error["type"] != "value_error" and not isinstance(error["input"], dict | list):
        message += f" (it is {error['input']!r:.60})"
    if error["type"] == "list_type":  # papermill writes a tuple as text
        message += "; write a list, like [0, 1]"
    return ": ".join(filter(None, (".".join(map(str, error["loc"])), message)))
