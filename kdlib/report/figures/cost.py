"""What training costs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlib.report.figures.style import COLOURS, words

PARTS = {"data": "0.8", "stage": COLOURS[4], "teacher": "black"}
PARTS |= {"student": COLOURS[5], "method": COLOURS[1], "update": COLOURS[0]}


def cost_bars(table: pd.DataFrame) -> Figure:
    """Seconds of an epoch by part, a bar for each role: means over seeds."""
    parts = [part for part in PARTS if part in table]
    means = table.groupby("role", sort=False)[parts].mean().rename(index=words)
    figure, axis = plt.subplots(figsize=(6, 0.24 * len(means) + 0.9))
    left = np.zeros(len(means))
    for part in parts:
        axis.barh(means.index, means[part], left=left, color=PARTS[part], label=part)
        left += means[part].fillna(0).to_numpy()
    axis.invert_yaxis()
    axis.set_xlabel("seconds an epoch")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
