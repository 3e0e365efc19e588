"""Measurements inside a study's networks, stored with their runs."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pandas as pd
from torch import Tensor

from kdlib.bias import representations
from kdlib.disk import Arrays
from kdlib.models import Network, is_vit
from kdlib.probes import PROBES
from kdlib.study.specs import Run

STAGES = (*"1234", "out")  # four stages and the embedding


def _kept(study, run: Run, what: str, compute: Callable[[Network], Arrays]) -> Arrays:
    """``compute`` of the run's network, kept under a name that covers the images."""
    return study.store.kept(run, f"inside/{what}", lambda: compute(run.network(study.store.device)))


def traits(study, run: Run) -> Arrays:
    """Interactions between patches, and how much of its embedding each scrambled image keeps.

    Returns:
        "near" and "far" as :func:`kdlib.bias.representations.interactions`, and
        "invariance <probe>" for each of the scrambling probes, all (n,).
    """
    few = study.few.images, study.few.labels
    moved = [name for name in study.probes if PROBES[name].family == "scramble" and PROBES[name].level]

    def invariances(network: Network) -> Arrays:
        embed = cache(lambda name: representations.features(network, PROBES[name](*few).images)[-1])
        return {
            f"invariance {name}": representations.invariance(embed(PROBES[name].reference), embed(name))
            for name in moved
        }

    named = hashlib.sha256(" ".join(moved).encode()).hexdigest()[:8]
    name = f"interactions-{study.few_digest}"
    found = _kept(study, run, name, lambda network: representations.interactions(network, *few))
    return found | _kept(study, run, f"invariance-{named}-{study.few_digest}", invariances)


def fields_of(network: Network, images: Tensor) -> Arrays:
    """Receptive fields (4, H, W), "maps", and of a ViT how far its attention reaches."""
    found = {"maps": representations.receptive_maps(network, images).astype(np.float32)}
    if is_vit(network.backbone):
        table = representations.attention_distance(network, images)
        found |= {f"attention_{name}": table[name].to_numpy() for name in table}
    return found


def fields(study, run: Run) -> Arrays:
    """:func:`fields_of` the run's network, kept with the run."""
    return _kept(study, run, f"fields-{study.few_digest}", lambda net: fields_of(net, study.few.images))


def _looked_into(study, direction: str) -> Iterator[tuple[str, int, Arrays]]:
    """Role, seed and fields of every run, and of the first baseline before its first step."""
    found = study.runs(direction)
    for role, runs in found.items():
        for run in runs:
            yield role, run.spec.seed, fields(study, run)
    first, data = min(found["baseline"], key=lambda run: run.spec.seed), study.dataset

    def untrained() -> Arrays:
        network = Network(first.spec.student, len(data.classes), *data.statistics, seed=first.spec.seed)
        return fields_of(network.to(study.store.device), study.few.images)

    place = f"inside/untrained-{study.few_digest}"
    if not study.parameters["results"] or place in first.packed:  # a part of the seeds may be without it
        yield "untrained", first.spec.seed, study.store.kept(first, place, untrained)


def inside_table(study, direction: str) -> pd.DataFrame:
    """Radius of receptive fields by stage, reach of attention by block; an untrained student's too.

    Columns: direction, role, seed, measure, place (stage or block, from 1), value. Measures: "rms", px, of
    :func:`kdlib.bias.representations.receptive_field`, and "attention", the relative distance of each head.
    """
    columns = ["direction", "role", "seed", "measure", "place", "value"]
    tables = [pd.DataFrame(columns=columns)]
    for role, seed, found in _looked_into(study, direction) if len(study.few) else ():
        parts = {"rms": (range(1, 5), representations.receptive_field(found["maps"]))}
        if "attention_block" in found:
            parts["attention"] = found["attention_block"], found["attention_relative"]
        for measure, (place, value) in parts.items():
            rows = {"role": role, "seed": seed, "measure": measure, "place": place, "value": value}
            tables.append(pd.DataFrame({"direction": direction} | rows))
    return pd.concat(tables, ignore_index=True)


def likeness_table(study, direction: str) -> pd.DataFrame:
    """CKA between four stages and the embedding of each student and of its teacher, on the test images.

    Columns: direction, role, seed, student_stage, teacher_stage (1 to 4, "out"), cka.
    """
    runs, rows, images = study.runs(direction), [], study.test.images
    for place, teacher in enumerate(runs.pop("teacher")):

        @cache
        def theirs(teacher: Run = teacher) -> list[np.ndarray]:
            return representations.features(teacher.network(study.store.device), images)

        def compare(network: Network, theirs=theirs) -> Arrays:
            return {"cka": _ckas(representations.features(network, images), theirs())}

        for role, students in runs.items():
            run = students[place]
            kept = _kept(study, run, f"cka-{teacher.spec.id}-{study.test_digest}", compare)
            rows += [
                (direction, role, run.spec.seed, STAGES[i], STAGES[j], value)
                for (i, j), value in np.ndenumerate(kept["cka"])
            ]
    return pd.DataFrame(rows, columns=["direction", "role", "seed", "student_stage", "teacher_stage", "cka"])


def _ckas(student: list[np.ndarray], teacher: list[np.ndarray]) -> np.ndarray:
    size = min(250, len(student[0]))
    return np.array([[representations.cka(ours, theirs, size) for theirs in teacher] for ours in student])
