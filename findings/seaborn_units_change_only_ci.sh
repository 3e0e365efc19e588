#!/usr/bin/env bash
# Package: seaborn 0.13.2, pointplot and barplot with units=, with pandas 3.1.1 and matplotlib 3.11.2.
# Guess:   units="seed" makes the seed the unit of every error bar: the images of a seed are not independent.
# Seen:    only errorbar="ci" heeds it. "se" (and "sd") count each image: over 3 seeds of 400 images the bar of "se"
#          has the length of 1,200 independent ones, 0.061, with and without units; of the seeds it would be 0.574.
#          "ci" grows from 0.115 to 0.989 with units.
# Matters: bars of one standard error, with the seeds named as units, are 9 times too short, and nothing says that
#          units was not used. Average over the images in pandas first.
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

random = np.random.default_rng(0)
rows = pd.DataFrame({"seed": np.repeat([0, 1, 2], 400), "method": "student"})
rows["loss"] = np.array([0.0, 0.5, 1.0])[rows["seed"]] + random.normal(size=1200)  # seeds differ


def length(plot, errorbar, units):
    axes = plt.figure().subplots()
    plot(data=rows, x="method", y="loss", errorbar=errorbar, units=units, seed=0, ax=axes)
    return max(np.ptp(line.get_ydata()) for line in axes.lines)


seeds = rows.groupby("seed")["loss"].mean()
print(f"2 standard errors of the three seeds {2 * seeds.sem():.3f}, of 1,200 images {2 * rows['loss'].sem():.3f}")
found = {}
for plot in (sns.pointplot, sns.barplot):
    for errorbar in ("se", "sd", "ci"):
        alone, united = (length(plot, errorbar, units) for units in (None, "seed"))
        print(f"{plot.__name__:9} errorbar={errorbar!r}: length {alone:.3f}, with units='seed' {united:.3f}")
        if errorbar == "ci":
            assert united > 3 * alone, "units no longer changes ci"
        else:
            assert united == alone, f"units now changes {errorbar}"
assert abs(length(sns.pointplot, "se", "seed") - 2 * rows["loss"].sem()) < 1e-9
assert seeds.sem() > 5 * rows["loss"].sem()
END
