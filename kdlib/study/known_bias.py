"""Networks whose biases are known (known_bias.yml), to check the measures on."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
import yaml

from kdlib.bias import measures, representations
from kdlib.data import Dataset, DataSpec, Split, procedural
from kdlib.models import ModelSpec
from kdlib.probes import PROBES, Stimuli
from kdlib.study.runs import RunStore
from kdlib.study.specs import Run, RunSpec
from kdlib.train import Training

YARDSTICKS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
SEEDS = (1000, 1001)  # of no subject of any study
PER_PAIR = 5  # conflict images for each pair of classes
LOOKED_INTO = 60  # images whose patches are masked
TEST_IMAGES = 500


def yardstick_specs(store: RunStore, train_images: int) -> list[RunSpec]:
    """The runs of all yardsticks, one a seed."""
    return [spec for _, _, specs in _yardsticks(store, train_images) for spec in specs]


def yardstick_table(store: RunStore, train_images: int) -> pd.DataFrame:
    """Train what is missing and measure: network, accuracy, measure, expected, lowest, highest, holds.

    The lowest and highest are over seeds.
    """
    rows = []
    ready = iter(store.get_each(yardstick_specs(store, train_images)))
    for known, data, specs in _yardsticks(store, train_images):
        asked = _asked(store, data, known)
        found = pd.DataFrame(_measured(store, next(ready), data, asked) for _ in specs)
        low, high = known["expected"]
        lowest, highest = found.value.min(), found.value.max()
        rows.append(
            {
                "network": known["title"],
                "accuracy": found.accuracy.mean(),
                "measure": known["measure"],
                "expected": f"{low:g} to {high:g}",
                "lowest": lowest,
                "highest": highest,
                "holds": low <= lowest and highest <= high,
            }
        )
    return pd.DataFrame(rows)


def asked_of_yardsticks(store: RunStore, train_images: int) -> list[tuple[Dataset, dict[str, Stimuli]]]:
    """Each data set that yardsticks are trained on, and all that they are asked about it."""
    found: dict[str, tuple[Dataset, dict[str, Stimuli]]] = {}
    for known, data, _ in _yardsticks(store, train_images):
        found.setdefault(data.spec.fingerprint, (data, {}))[1].update(_asked(store, data, known))
    return list(found.values())


def _yardsticks(store: RunStore, train_images: int) -> Iterator[tuple[dict, Dataset, list[RunSpec]]]:
    for known in YARDSTICKS:
        options = known["options"] | {"test_images": TEST_IMAGES}
        data = store.dataset(DataSpec("shape_texture", train_images=train_images, options=options))
        model, training = ModelSpec(**known["model"]), Training(**known["training"])
        yield known, data, [RunSpec(data.spec, model, training=training, seed=seed) for seed in SEEDS]


def _asked(store: RunStore, data: Dataset, known: dict) -> dict[str, Stimuli]:
    return {
        name: store.stimuli(data, name, lambda name=name: _make(name, data.test)) for name in known["asked"]
    }


def _make(name: str, test: Split) -> Stimuli:
    if name != "drawn_conflict":
        return PROBES[name](test.images, test.labels)
    # The shape of one class with the texture of another, drawn as such: no probe between.
    drawn = procedural.conflict(PER_PAIR, seed=SEEDS[0])
    return Stimuli(drawn.images, drawn.shape, torch.arange(len(drawn.shape)), drawn.texture)


def _measured(store: RunStore, run: Run, data: Dataset, asked: dict[str, Stimuli]) -> dict[str, float]:
    """A network's accuracy, and the value by which its bias is known."""
    answers = store.predictions(run, asked)
    said = {name: answer["predicted"][None] for name, answer in answers.items()}
    if drawn := asked.get("drawn_conflict"):
        cues = said["drawn_conflict"], drawn.labels.numpy(), drawn.texture_labels.numpy()
        value = measures.shape_bias(*cues).mean()
    elif "scramble_4" in asked:
        value = measures.agreement_kappa(said["clean"], said["scramble_4"]).mean()
    else:
        few = data.test.subset(LOOKED_INTO)

        def interactions() -> dict:
            return representations.interactions(run.network(store.device), few.images, few.labels)

        found = store.kept(run, "inside/interactions", interactions)
        value = found["far"].mean() / found["near"].mean()
    return {"accuracy": measures.accuracy(said["clean"], data.test.labels.numpy()).mean(), "value": value}
