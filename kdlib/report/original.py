"""The original study's own numbers, read again with a measure that chance can't flatter."""

from pathlib import Path

import pandas as pd

ORIGINAL = Path(__file__).with_name("original.csv")


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
