"""Report everything that would stop a study, at once and before anything trains.

Every run left to train takes one step on two images, as in :func:`kdlib.train.fit`, and every probe changes
two. Seeds, numbers of epochs and what teachers were trained on make no difference here.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from kdlib.bias.representations import interactions
from kdlib.data import Dataset
from kdlib.data.properties import changed
from kdlib.messages import grouped, one_line
from kdlib.methods import METHODS
from kdlib.models import ModelSpec, Network
from kdlib.probes import PROBES
from kdlib.probes.cue_conflict import cue_conflict, pair_ids
from kdlib.study.internals import fields_of
from kdlib.study.specs import RunSpec
from kdlib.study.study import Study
from kdlib.train import Training, fit, must_fill_a_batch


def preflight(study: Study) -> None:
    """Try everything that a study has yet to train, and its probes; nothing if all its runs are there.

    Raises ValueError: every problem once, with all that has it.
    """
    study.must_be_published()  # the experiments that it names
    left = [spec for spec in study.specs() if not study.store.path(spec).is_dir()]
    if not left:
        return
    kinds: dict[str, RunSpec] = {}
    for spec in left:
        kinds.setdefault(_kind(spec), spec)
    errors: list[tuple[str, str]] = []

    @contextmanager
    def trying(what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            kind = "" if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: "
            hint = "; name the stages or qkv that a method uses in its reads, or reads_student"
            errors.append((what, kind + one_line(error) + hint * isinstance(error, IndexError)))

    for name in study.probes:
        with trying(f"probe {name}"):
            if PROBES[name].function is cue_conflict:  # conflicts take long, and are only drawn by lot
                pair_ids(study.test.labels, 1, torch.Generator())
            else:
                PROBES[name](study.test.images[:2], study.test.labels[:2])
    for treatment in {spec.treatment for spec in left if spec.treatment}:
        with trying(f"property {treatment.property}"):
            changed(study.dataset.train.images[:2], torch.arange(2), treatment, seed=0, epoch=0)
    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):  # training warns anew
        networks, seen = {}, {}  # every network, or its error, once; what is looked into, and what it is
        for spec in kinds.values():
            data = study.store.dataset(spec.data)
            few = replace(data, train=data.train.subset(2), test=data.test.subset(2))
            with trying(spec.what):
                must_fill_a_batch(spec.training, data.train)
            with trying(spec.what):
                student = _step(spec, few, networks, study.store.device)
                if study.profile.get("inside_images") and spec.id in study.looked_into:
                    seen.setdefault(student, spec.what)
    for place, (network, what) in enumerate(seen.items()):
        with trying(f"inside_images, {what}"):
            fields_of(network, study.few.images[:2])
            if place == 0:  # it is about the images alone, and takes long
                interactions(network, study.few.images[:1], study.few.labels[:1])
    if errors:
        raise ValueError(f"nothing is trained yet: {grouped(errors)}")


def _kind(spec: RunSpec) -> str:
    """Equal for runs whose steps are alike."""
    teacher = replace(spec.teacher, seed=0, training=Training(), treatment=None) if spec.teacher else None
    recipe = replace(spec.training, epochs=1)
    return replace(spec, teacher=teacher, training=recipe, seed=0, treatment=None).id


def _step(spec: RunSpec, data: Dataset, networks: dict, device: torch.device) -> Network:
    """The student after an epoch of one step, with networks that are built once."""
    method = METHODS[spec.method](**spec.hyper)

    def network(part: str, model: ModelSpec, heads: tuple[str, ...] = ("class",)) -> Network:
        key, plain = f"{part} {model} {heads} {data.spec}", f"{model} {data.spec}"
        if plain in networks:
            raise networks[plain]  # as weights that can't be had, which is tried for a minute
        try:
            if key not in networks:
                networks[key] = Network(model, len(data.classes), *data.statistics, heads=heads).to(device)
        except Exception as error:
            if heads == ("class",):  # with more heads it would fail too
                networks[plain] = error
            raise
        return networks[key]

    student = network("student", spec.student, method.heads)
    teacher = network("teacher", spec.teacher.student).eval().requires_grad_(False) if spec.teacher else None
    method.build(student, teacher, data.train)
    # Only networks compute in the recipe's precision, so their baselines show whether they can: on a CPU
    # without instructions for bfloat16 a step takes 8 times as long in it.
    precision = spec.training.precision if spec.method == "baseline" else "float32"
    recipe = replace(spec.training, epochs=1, batch_size=len(data.train), precision=precision)
    fit(student, teacher, method.to(device), data, recipe, seed=0, quiet=True)
    return student
