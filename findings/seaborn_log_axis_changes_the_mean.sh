#!/usr/bin/env bash
# Package: seaborn 0.13.2, pointplot, barplot and lineplot, with pandas 3.1.1 and matplotlib 3.11.2.
# Guess:   estimator="mean" draws the mean, whatever the axis.
# Seen:    if the axis is logarithmic already (log_scale=True, or set_yscale before the call), the logarithms are
#          averaged: the geometric mean of three seeds 0.01, 0.1, 1 is drawn at 0.1. With set_yscale after
#          the call the mean, 0.37, is drawn.
# Matters: the same data and call give other means, and another order of methods: below, a student with one seed
#          that failed is better by one figure and worse by the other. Captions say "mean" for both. Aggregate
#          in pandas first, or set the scale after the call.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 pandas==3.1.1 matplotlib==3.11.2 seaborn==0.13.2)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

losses = {"baseline": [0.2, 0.2, 0.2], "student": [0.01, 0.1, 1.0]}
rows = pd.DataFrame([(method, loss) for method, seeds in losses.items() for loss in seeds], columns=["method", "loss"])


def drawn(plot, when):
    axes = plt.figure().subplots()
    if when == "before":
        axes.set_yscale("log")
    scale = {"log_scale": True} if when == "argument" else {}
    plot(data=rows, x="method", y="loss", estimator="mean", errorbar=None, ax=axes, **scale)
    if when == "after":
        axes.set_yscale("log")
    if axes.patches:
        return [bar.get_y() + bar.get_height() for bar in axes.patches]
    return axes.lines[0].get_ydata()


mean = rows.groupby("method")["loss"].mean().to_numpy()
geometric = np.exp(np.log(rows["loss"]).groupby(rows["method"]).mean()).to_numpy()
print("mean:", mean.round(3), "geometric mean:", geometric.round(3))
for plot in (sns.pointplot, sns.barplot, sns.lineplot):
    for when, expected in (("never", mean), ("after", mean), ("before", geometric), ("argument", geometric)):
        if plot is sns.lineplot and when == "argument":
            continue  # it has no log_scale
        heights = np.array(drawn(plot, when))
        print(f"{plot.__name__:9} log axis set {when:8}: baseline {heights[0]:.3f}, student {heights[1]:.3f}")
        assert np.allclose(heights, expected), f"{plot.__name__}, {when}: what is drawn changed"
END
