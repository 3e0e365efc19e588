#!/usr/bin/env bash
# Package: rliable 1.2.0, get_interval_estimates with random_state; with arch 7.2.0, numpy 1.26.4 and pandas
#          2.2.3 (beside pandas 3 it can't be imported).
# Guess:   the same random_state gives the same interval.
# Seen:    it doesn't: numpy's global generator draws. With the same numpy.random.seed the intervals are equal
#          even if their random_states differ.
# Matters: a published interval can't be made again from the seed that its authors set and reported, and two
#          methods compared "with the same bootstrap" are not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==1.26.4 pandas==2.2.3 scipy==1.13.1 arch==7.2.0 rliable==1.2.0)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import numpy as np
from numpy.random import RandomState
from rliable import library, metrics

scores = np.random.default_rng(0).random((5, 8))  # runs, tasks


def interval(seed, everywhere=None):
    if everywhere is not None:
        np.random.seed(everywhere)
    mean = lambda x: np.array([metrics.aggregate_mean(x)])
    intervals = library.get_interval_estimates({"a": scores}, mean, reps=200, random_state=RandomState(seed))[1]
    return intervals["a"].ravel()


again = interval(0), interval(0)
fixed = interval(0, everywhere=7), interval(1, everywhere=7)
print("twice with random_state 0:                ", *(np.round(x, 4) for x in again))
print("random_state 0 and 1, numpy's seed fixed: ", *(np.round(x, 4) for x in fixed))
assert not np.array_equal(*again), "random_state now has an effect"
assert np.array_equal(*fixed), "numpy's global generator no longer decides"
END
