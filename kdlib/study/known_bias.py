"""Networks whose biases are known, to try the measures on.

On the procedural set a bias can be made: where only the shape predicts the label a network must go by shape,
where only the texture does, by texture. Two architectures have a known answer too: a transformer without
blocks adds up the evidence of single patches, so that distant ones can't interact; one without position
embedding sees a set of patches, so that moving whole patches changes nothing.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from kdlib.bias import measures, representations
from kdlib.data import Dataset, DataSpec, Split, procedural
from kdlib.models import ModelSpec
from kdlib.probes import PROBES, Stimuli
from kdlib.study.runs import RunStore
from kdlib.study.specs import Run, RunSpec
from kdlib.train import Training

SEEDS = (1000, 1001)  # of no subject of any study
PER_PAIR = 5  # conflict images for each pair of classes
LOOKED_INTO = 60  # images whose patches are masked
TEST_IMAGES = 500

SMALL_CNN = ModelSpec(
    "resnet18",
    options={
        **{"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128]},
        **{"stem_type": "deep", "stem_width": 16, "output_stride": 8},
    },
)
CNN_RECIPE = Training(epochs=5, batch_size=32, learning_rate=0.05, clip=5.0)
VIT_RECIPE = Training(epochs=5, batch_size=32, optimiser="adamw", learning_rate=1e-3, weight_decay=0.05)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A network and what must be found in it."""

    title: str
    measure: str
    low: float
    high: float
    options: dict = field(default_factory=dict)  # of the procedural set
    model: ModelSpec = SMALL_CNN
    training: Training = CNN_RECIPE


YARDSTICKS = (
    Yardstick("Only shape predicts the label", "shape bias", 0.9, 1.0, {"texture_correlation": 0.0}),
    Yardstick("Only texture predicts the label", "shape bias", 0.0, 0.1, {"shape_correlation": 0.0}),
    Yardstick(
        "Bag of patches, 16 px",
        "far/near",
        0.0,
        0.001,
        model=ModelSpec(
            "vit_tiny_patch16_224",
            options={
                **{"patch_size": 16, "embed_dim": 192, "depth": 0, "num_heads": 3, "global_pool": "avg"},
                **{"class_token": False, "fc_norm": False, "pos_embed": "none"},
            },
        ),
        training=VIT_RECIPE,
    ),
    Yardstick(
        "ViT without position embedding",
        "invariance to moved patches",
        0.99,
        1.0,
        model=ModelSpec(
            "vit_tiny_patch16_224",
            options={
                **{"patch_size": 8, "embed_dim": 96, "depth": 2, "num_heads": 3, "init_values": 0.1},
                "pos_embed": "none",
            },
        ),
        training=VIT_RECIPE,
    ),
)


def yardstick_specs(store: RunStore, train_images: int) -> dict[Yardstick, list[RunSpec]]:
    """The runs of each yardstick, one a seed."""
    specs = {}
    for yardstick in YARDSTICKS:
        data = _data(store, yardstick, train_images).spec
        specs[yardstick] = [
            RunSpec(data, yardstick.model, training=yardstick.training, seed=seed) for seed in SEEDS
        ]
    return specs


def yardstick_table(store: RunStore, train_images: int) -> pd.DataFrame:
    """Train what is missing and measure: network, accuracy, measure, expected, lowest, highest, holds.

    The lowest and highest are over seeds.
    """
    rows = []
    known = yardstick_specs(store, train_images)
    ready = iter(store.get_each(spec for specs in known.values() for spec in specs))
    for yardstick, specs in known.items():
        data = _data(store, yardstick, train_images)
        asked = _asked(store, data, yardstick)
        cases = [Case(store, next(ready), data, asked) for _ in specs]
        found = [_MEASURES[yardstick.measure][1](case) for case in cases]
        clean = np.stack([case.predicted("clean") for case in cases])
        rows.append(
            {
                "network": yardstick.title,
                "accuracy": measures.accuracy(clean, data.test.labels.numpy()).mean(),
                "measure": yardstick.measure,
                "expected": f"{yardstick.low:g} to {yardstick.high:g}",
                "lowest": min(found),
                "highest": max(found),
                "holds": yardstick.low <= min(found) and max(found) <= yardstick.high,
            }
        )
    return pd.DataFrame(rows)


def asked_of_yardsticks(store: RunStore, train_images: int) -> list[tuple[Dataset, dict[str, Stimuli]]]:
    """Each data set that yardsticks are trained on, and all that they are asked about it."""
    found: dict[str, tuple[Dataset, dict[str, Stimuli]]] = {}
    for yardstick in YARDSTICKS:
        data = _data(store, yardstick, train_images)
        _, asked = found.setdefault(data.spec.fingerprint, (data, {}))
        asked |= _asked(store, data, yardstick)
    return list(found.values())


def _data(store: RunStore, yardstick: Yardstick, train_images: int) -> Dataset:
    options = yardstick.options | {"test_images": TEST_IMAGES}
    return store.dataset(DataSpec("shape_texture", train_images=train_images, options=options))


def _asked(store: RunStore, data: Dataset, yardstick: Yardstick) -> dict[str, Stimuli]:
    names = ("clean", *_MEASURES[yardstick.measure][0])
    return {name: store.stimuli(data, name, lambda name=name: _make(name, data.test)) for name in names}


def _make(name: str, test: Split) -> Stimuli:
    if name != "drawn_conflict":
        return PROBES[name](test.images, test.labels)
    # The shape of one class with the texture of another, drawn as such: no probe between.
    drawn = procedural.conflict(PER_PAIR, seed=SEEDS[0])
    return Stimuli(drawn.images, drawn.shape, torch.arange(len(drawn.shape)), drawn.texture)


@dataclass(frozen=True)
class Case:
    """A trained yardstick, its data, and what it is asked."""

    store: RunStore
    run: Run
    data: Dataset
    asked: dict[str, Stimuli]

    def predicted(self, name: str) -> np.ndarray:
        return self.store.predictions(self.run, {name: self.asked[name]})[name]["predicted"]


def _shape_bias(case: Case) -> float:
    drawn = case.asked["drawn_conflict"]
    answers = case.predicted("drawn_conflict")[None]
    return measures.shape_bias(answers, drawn.labels.numpy(), drawn.texture_labels.numpy()).mean()


def _far_near(case: Case) -> float:
    few = case.data.test.subset(LOOKED_INTO)
    found = case.store.kept(
        case.run,
        "interactions",
        lambda: representations.interactions(case.run.network(case.store.device), few.images, few.labels),
    )
    return found["far"].mean() / found["near"].mean()


def _unmoved(case: Case) -> float:
    """Agreement, beyond chance, between answers to images and to the same with their 8-px patches moved."""
    return measures.agreement_kappa(*(case.predicted(name)[None] for name in ("clean", "scramble_4"))).mean()


_MEASURES = {  # what is asked beside clean images, and what is made of the answers
    "shape bias": (("drawn_conflict",), _shape_bias),
    "far/near": ((), _far_near),
    "invariance to moved patches": (("scramble_4",), _unmoved),
}
