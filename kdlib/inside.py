"""What is seen inside a study's networks, kept with their runs."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

import numpy as np
import pandas as pd
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from kdlib.arrays import Arrays, shaped
from kdlib.bias import representations
from kdlib.data import Split
from kdlib.models import Network
from kdlib.probes import PROBES
from kdlib.runs import Run, RunStore

STAGES = (*"1234", "out")  # four stages and the embedding
ATTENTION = {"attention_block", "attention_relative", "attention_entropy"}


def _kept(
    store: RunStore,
    run: Run,
    images: Tensor,
    what: str,
    compute: Callable[[Network], Arrays],
    shapes: Mapping[str, tuple[int, ...]],
) -> Arrays:
    """``compute`` of the run's network, kept under a name that covers the images, and its arrays' shapes."""
    digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()[:12]
    name, fits = f"{what}-{digest}", lambda found: shaped(found, shapes)
    return store.kept(run, name, lambda: compute(run.network(store.device)), fits)


def interactions(store: RunStore, run: Run, few: Split) -> Arrays:
    """:func:`kdlib.bias.representations.interactions` of the run's network, kept with it."""
    return _kept(
        store,
        run,
        few.images,
        "interactions",
        lambda network: representations.interactions(network, few.images, few.labels),
        dict.fromkeys(("near", "far", "weighted", "mass"), few.labels.shape),
    )


def traits(store: RunStore, run: Run, few: Split, probes: Iterable[str]) -> Arrays:
    """Interactions between patches, and how much of its embedding each scrambled image keeps.

    Returns:
        "near", "far", "weighted" and "mass" as :func:`kdlib.bias.representations.interactions`, and
        "invariance <probe>" for each of the scrambling probes, all (n,).
    """
    moved = [name for name in probes if PROBES[name].family == "scramble" and PROBES[name].level]
    pairs = {name: PROBES[name].baseline for name in moved}

    def invariances(network: Network) -> Arrays:
        embed = cache(lambda name: _embeddings(network, PROBES[name](few.images, few.labels).images))
        return {
            f"invariance {name}": representations.invariance(embed(baseline), embed(name))
            for name, baseline in pairs.items()
        }

    named = hashlib.sha256(" ".join(pairs).encode()).hexdigest()[:8]
    shapes = {f"invariance {name}": few.labels.shape for name in pairs}
    kept = _kept(store, run, few.images, f"invariance-{named}", invariances, shapes)
    return interactions(store, run, few) | kept


def _embeddings(network: Network, images: Tensor) -> np.ndarray:
    return representations.features(network, images)[-1]


def _fields(network: Network, images: Tensor) -> Arrays:
    """Receptive fields and, of a ViT, how far its attention reaches."""
    found = {"maps": representations.receptive_maps(network, images).astype(np.float32)}
    if isinstance(network.backbone, VisionTransformer):
        table = representations.attention_distance(network, images)
        found |= {f"attention_{name}": table[name].to_numpy() for name in table}
    return found


def fields(store: RunStore, run: Run, images: Tensor) -> Arrays:
    """Receptive fields (4, H, W), "maps", and of a ViT how far its attention reaches; kept with the run."""
    shapes = {"maps": (4, *images.shape[2:])}
    return _kept(store, run, images, "fields", lambda network: _fields(network, images), shapes)


def _looked_into(study, direction: str) -> Iterator[tuple[str, int, Arrays]]:
    """Role, seed and fields of every run, and of an untrained student."""
    images, found = study.few.images, study.runs(direction)
    for role, runs in found.items():
        for run in runs:
            yield role, run.spec.seed, fields(study.store, run, images)
    spec = found["independent"][0].spec
    plain = Network(spec.student, len(study.dataset.classes), *study.dataset.statistics, seed=spec.seed)
    yield "untrained", spec.seed, _fields(plain.to(study.store.device), images)


def inside_table(study, direction: str) -> pd.DataFrame:
    """Size of receptive fields by stage, reach of attention by block, of every run and an untrained student.

    Columns: role, seed, measure, place (stage or block, from 1), value. Measures: "rms", "share_50" and
    "share_90" of :func:`kdlib.bias.representations.receptive_field`, "attention" (relative) and "entropy"
    of each head.
    """
    tables = []
    for role, seed, found in _looked_into(study, direction):
        sizes = representations.receptive_field(found["maps"])
        parts = {name: (sizes.stage, sizes[name]) for name in ("rms", "share_50", "share_90")}
        if set(found) >= ATTENTION:
            parts["attention"] = found["attention_block"], found["attention_relative"]
            parts["entropy"] = found["attention_block"], found["attention_entropy"]
        for measure, (place, value) in parts.items():
            rows = {"role": role, "seed": seed, "measure": measure, "place": place, "value": value}
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def receptive_maps(study, direction: str) -> Arrays:
    """Receptive fields (4, H, W) of the first seed's references and methods, and of an untrained student."""
    wanted = ("teacher", "independent", "untrained", *study.directions[direction]["methods"])
    found = {}
    for role, _, seen in _looked_into(study, direction):
        if role in wanted:
            found.setdefault(role, seen["maps"])
    return found


def likeness_table(study, direction: str) -> pd.DataFrame:
    """CKA between four stages and the embedding of each student and of its teacher, on the test images.

    Columns: role, seed, student_stage, teacher_stage (1 to 4, "out"), cka.
    """
    images, runs, rows = study.test.images, study.runs(direction), []
    for place, teacher in enumerate(runs.pop("teacher")):
        theirs = cache(lambda run=teacher: representations.features(run.network(study.store.device), images))
        for role, students in runs.items():
            kept = _kept(
                study.store,
                students[place],
                images,
                f"cka-{teacher.spec.id}",
                lambda network, theirs=theirs: {
                    "cka": _ckas(representations.features(network, images), theirs())
                },
                {"cka": (5, 5)},
            )
            for (i, j), value in np.ndenumerate(kept["cka"]):
                row = {"role": role, "seed": students[place].spec.seed, "student_stage": STAGES[i]}
                rows.append(row | {"teacher_stage": STAGES[j], "cka": value})
    return pd.DataFrame(rows)


def _ckas(student: list[np.ndarray], teacher: list[np.ndarray]) -> np.ndarray:
    size = min(250, len(student[0]))
    return np.array([[representations.cka(ours, theirs, size) for theirs in teacher] for ours in student])
