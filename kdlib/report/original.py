"""The original study's own numbers, read again with a measure that chance can't flatter."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

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


def _rows(original: pd.DataFrame, direction: str, *models: str) -> pd.DataFrame:
    return original[(original.direction == direction) & original.model.isin(models)].set_index("model")


def _kept(original: pd.DataFrame, direction: str, models: tuple[str, ...], probes: tuple[str, ...]) -> str:
    """ "CSKD .36 texture, .70 noise; ...", or that a network did not learn."""
    told = []
    for model, row in _rows(original, direction, *models).iterrows():
        values = ", ".join(f"{row[f'retention {probe}']:.2f} {probe}" for probe in probes)
        unlearned = pd.isna(row["retention texture"])
        told.append(f"{model} did not learn ({row.clean:.1f}%)" if unlearned else f"{model} {values}")
    return "retention: " + "; ".join(told)


def _moved(original: pd.DataFrame) -> str:
    rows, told = _rows(original, TO_VIT, "Teacher", "Baseline", "CSKD"), []
    for probe in ("texture", "noise"):
        teacher, alone, cskd = rows.loc[["Teacher", "Baseline", "CSKD"], f"retention {probe}"]
        way = "away from" if (cskd - alone) * (teacher - alone) < 0 else "toward"
        told.append(f"{probe}: {cskd - alone:+.2f}, {way} a teacher at {teacher - alone:+.2f}")
    return "; ".join(told)


def _seconds(original: pd.DataFrame) -> str:
    rows = original[original.seconds.notna()].sort_values("seconds")
    told = [f"{row.model} {row.seconds:.0f}" for row in rows.itertuples()]
    return f"seconds an epoch, one run each: {', '.join(told)}"


def _accuracies(original: pd.DataFrame) -> str:
    clean = _rows(original, TO_CNN, "Baseline", "CAPD").clean
    return "; ".join(f"{model} {percent:.1f}%" for model, percent in clean.items())


# What its own accuracies say of each claim.
_effective = partial(_kept, direction=TO_VIT, models=("Baseline", "LM", "CRD", "VLFKD", "CSKD"))
_instilled = partial(_kept, direction=TO_CNN, models=("Baseline", "CRD", "SSKD"))
CORRECTED: dict[str, Callable[[pd.DataFrame], str]] = {
    "C1a": _seconds,
    "C1b": partial(_effective, probes=("texture", "noise")),
    "C1c": _moved,
    "C2": lambda original: "every ViT student was a linear head on one frozen backbone: not testable",
    "C3a": partial(_instilled, probes=("texture", "shape")),
    "C3b": partial(_instilled, probes=("scramble",)),
    "C4": _accuracies,
    "C5": lambda original: "other methods, students and epochs in each direction: not testable",
}
