#!/usr/bin/env bash
# Packages: statsmodels 0.15.0 multipletests, pingouin 0.7.0 multicomp, scipy 1.17.1 false_discovery_control.
# Guess:   a test that could not be done (NaN) is left out of its family: p = .01, .02, .04, NaN is adjusted as
#          .01, .02, .04 is.
# Seen:    statsmodels counts the NaN as a test under Holm and Bonferroni (.04, .06, .08 where .03, .04, .04 is
#          right), and turns all into NaN under Hommel and both false discovery rates. pingouin leaves it
#          out. scipy raises an error.
# Matters: one network that did not learn makes the other comparisons of its family non-significant, or
#          undefined, depending on the method's name.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0 pingouin==0.7.0)
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
import pingouin
from scipy import stats
from statsmodels.stats.multitest import multipletests

family = [0.01, 0.02, 0.04, np.nan]
for method, other in (("holm", "holm"), ("bonferroni", "bonf"), ("hommel", None), ("fdr_bh", "fdr_bh")):
    right = multipletests(family[:3], method=method)[1]
    theirs = multipletests(family, method=method)[1]
    print(f"{method:11} without NaN {np.round(right, 3)}  statsmodels with NaN {np.round(theirs, 3)}", end="")
    if other:
        pingouins = pingouin.multicomp(family, method=other)[1]
        print(f"  pingouin with NaN {np.round(pingouins, 3)}", end="")
        assert np.allclose(pingouins[:3], right) and np.isnan(pingouins[3]), "pingouin changed"
    print()
    counted = np.allclose(theirs[:3], multipletests(family[:3] + [1.0], method=method)[1][:3])
    assert counted if method in ("holm", "bonferroni") else np.isnan(theirs).all(), "statsmodels changed"
try:
    stats.false_discovery_control(family)
    raise SystemExit("scipy no longer refuses NaN")
except ValueError as error:
    print("scipy:", error)
END
