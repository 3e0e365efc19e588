"""Networks whose biases are known, to try the measures on.

On the procedural set a bias can be made: where only the shape predicts the label a network must go by shape,
where only the texture does, by texture. Two architectures have a known answer too: a transformer without
blocks adds up the evidence of single patches, so that distant ones can't interact; one without position
embedding sees a set of patches, so that moving whole patches changes nothing.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from kdlib.bias import measures, representations
from kdlib.data import DataSpec, Split, procedural
from kdlib.models import ModelSpec
from kdlib.probes import PROBES, Stimuli
from kdlib.study.runs import Run, RunSpec, RunStore
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
        options = yardstick.options | {"test_images": TEST_IMAGES}
        spec = DataSpec("shape_texture", train_images=train_images, options=options)
        data = store.dataset(spec).spec
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
        runs, data = [next(ready) for _ in specs], store.dataset(specs[0].data)
        found = [_MEASURES[yardstick.measure](store, run, data.test) for run in runs]
        asked = PROBES["clean"](data.test.images, data.test.labels)
        clean = [_ask(store, run, "clean", asked) for run in runs]
        hits = measures.accuracy(np.stack(clean), data.test.labels.numpy())
        rows.append(
            {
                "network": yardstick.title,
                "accuracy": hits.mean(),
                "measure": yardstick.measure,
                "expected": f"{yardstick.low:g} to {yardstick.high:g}",
                "lowest": min(found),
                "highest": max(found),
                "holds": yardstick.low <= min(found) and max(found) <= yardstick.high,
            }
        )
    return pd.DataFrame(rows)


def _ask(store: RunStore, run: Run, name: str, stimuli: Stimuli) -> np.ndarray:
    return store.predictions(run, {name: stimuli})[name]["predicted"]


def _shape_bias(store: RunStore, run: Run, test: Split) -> float:
    """On images that are drawn with the shape of one class and the texture of another: no probe between."""
    drawn = procedural.conflict(PER_PAIR, seed=SEEDS[0])
    predicted = _ask(store, run, "drawn_conflict", Stimuli(drawn.images, drawn.shape, None, drawn.texture))
    return measures.shape_bias(predicted[None], drawn.shape.numpy(), drawn.texture.numpy()).mean()


def _far_near(store: RunStore, run: Run, test: Split) -> float:
    few = test.subset(LOOKED_INTO)
    found = store.kept(
        run,
        "interactions",
        lambda: representations.interactions(run.network(store.device), few.images, few.labels),
    )
    return found["far"].mean() / found["near"].mean()


def _unmoved(store: RunStore, run: Run, test: Split) -> float:
    """Agreement, beyond chance, between answers to images and to the same with their 8-px patches moved."""
    asked = {name: PROBES[name](test.images, test.labels) for name in ("clean", "scramble_4")}
    answers = [_ask(store, run, name, made)[None] for name, made in asked.items()]
    return measures.agreement_kappa(*answers).mean()


_MEASURES = {"shape bias": _shape_bias, "far/near": _far_near, "invariance to moved patches": _unmoved}
