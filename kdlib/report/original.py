"""The original study's own numbers, read again with a measure that chance can't flatter."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from kdlib.study.controls import direction_title

ORIGINAL = Path(__file__).with_name("original.csv")
TO_VIT, TO_CNN = "cnn_to_vit", "vit_to_cnn"


def original_table() -> pd.DataFrame:
    """The original study's accuracies with the chance-adjusted retention that follows from them.

    Read from its saved notebook outputs, in percent; ten classes. NaN where the clean accuracy is within
    ten points of chance: then there is nothing to retain.
    """
    table = pd.read_csv(ORIGINAL)
    for probe in table.columns[3:]:
        table[f"ratio {probe}"] = table[probe] / table["clean"]
        retained = (table[probe] - 10) / (table["clean"] - 10)
        table[f"retention {probe}"] = retained.where(table["clean"] > 20)
    return table


def original_sentence(original: pd.DataFrame) -> str:
    """The students without a retention: what they got right, and the ratios that were published for them."""
    guessers = original[original["retention texture"].isna()]
    ratios = [name for name in original if name.startswith("ratio ")]
    told = [
        f"{row.model} ({direction_title(row.direction)}) gets {row.clean:.1f}% of the unchanged images right "
        f"and was given ratios of {row[ratios].min():.2f} to {row[ratios].max():.2f}"
        for _, row in guessers.iterrows()
    ]
    return f"Networks that hardly learned, whose ratios are chance over nearly chance: {'; '.join(told)}."


def _of(original: pd.DataFrame, direction: str, *models: str) -> pd.DataFrame:
    return original[(original.direction == direction) & original.model.isin(models)].set_index("model")


def _retained(
    original: pd.DataFrame, direction: str, models: tuple[str, ...], probes: tuple[str, ...]
) -> str:
    """ "CSKD .36 texture, .70 noise; ...", or that a network did not learn."""
    told = []
    for model, row in _of(original, direction, *models).iterrows():
        values = [f"{row[f'retention {probe}']:.2f} {probe}" for probe in probes]
        learned_it = row[[f"retention {probe}" for probe in probes]].notna().all()
        told.append(
            f"{model} {', '.join(values)}" if learned_it else f"{model} did not learn ({row.clean:.1f}%)"
        )
    return "retention: " + "; ".join(told)


def _moved(original: pd.DataFrame) -> str:
    rows = _of(original, TO_VIT, "Teacher", "Independent", "CSKD")
    told = []
    for probe in ("texture", "noise"):
        teacher, alone, cskd = rows.loc[["Teacher", "Independent", "CSKD"], f"retention {probe}"]
        way = "away from" if (cskd - alone) * (teacher - alone) < 0 else "toward"
        told.append(f"{probe}: {cskd - alone:+.2f}, {way} a teacher at {teacher - alone:+.2f}")
    return "; ".join(told)


def _seconds(original: pd.DataFrame) -> str:
    rows = original[original.seconds.notna()].sort_values("seconds")
    return "seconds an epoch, one run each: " + ", ".join(
        f"{row.model} {row.seconds:.0f}" for row in rows.itertuples()
    )


def _accuracies(original: pd.DataFrame) -> str:
    rows = _of(original, TO_CNN, "Independent", "CAPD")
    return "; ".join(f"{model} {clean:.1f}%" for model, clean in rows.clean.items())


# What its own accuracies say of each claim.
_effects = partial(_retained, direction=TO_VIT, models=("Independent", "LM", "CRD", "VLFKD", "CSKD"))
_biases = partial(_retained, direction=TO_CNN, models=("Independent", "CRD", "SSKD"))
CORRECTED: dict[str, Callable[[pd.DataFrame], str]] = {
    "C1a": _seconds,
    "C1b": partial(_effects, probes=("texture", "noise")),
    "C1c": _moved,
    "C2": lambda original: "every ViT student was a linear head on one frozen backbone: not testable",
    "C3a": partial(_biases, probes=("texture", "shape")),
    "C3b": partial(_biases, probes=("scramble",)),
    "C4": _accuracies,
    "C5": lambda original: "other methods, students and epochs in each direction: not testable",
}
