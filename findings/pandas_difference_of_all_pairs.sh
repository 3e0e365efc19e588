#!/usr/bin/env bash
# Package: pandas 3.1.1, the difference of two Series whose labels repeat, with scipy 1.17.1.
# Guess:   student - baseline pairs the rows, or refuses labels that repeat.
# Seen:    with labels in the same order the rows are paired: 6 differences. If one of the two is in another order, as
#          after a sort or a run that ended later, each row meets all rows of its label: 12 differences, with no
#          warning. A paired t-test of them says p = 0.001 where the pairs give 0.08.
# Matters: seeds repeat as soon as a table has two teachers or data sets. The mean stays right, so nothing looks
#          wrong; n and p are not. Set an index that is unique, as (teacher, seed), and check index.is_unique.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 pandas==3.1.1 scipy==1.17.1)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import pandas as pd
from scipy import stats

rows = pd.DataFrame({"teacher": ["a", "b"] * 3, "seed": [0, 0, 1, 1, 2, 2]})
student = rows.assign(accuracy=[0.71, 0.72, 0.75, 0.73, 0.72, 0.73])
baseline = rows.assign(accuracy=[0.71, 0.70, 0.72, 0.73, 0.72, 0.70])
sorted_rows = baseline.sort_values("teacher", kind="stable")


def differences(first, second, index):
    return (first.set_index(index)["accuracy"] - second.set_index(index)["accuracy"]).dropna()


cases = {
    "same order": differences(student, baseline, "seed"),
    "baseline sorted by teacher": differences(student, sorted_rows, "seed"),
    "the same, index (teacher, seed)": differences(student, sorted_rows, ["teacher", "seed"]),
}
found = {}
for name, difference in cases.items():
    found[name] = len(difference), stats.ttest_1samp(difference, 0).pvalue
    print(f"{name:32} {len(difference):2} differences, mean {difference.mean():+.4f}, p = {found[name][1]:.4f}")
right, wrong, unique = found.values()
assert right[0] == unique[0] == 6 and abs(right[1] - unique[1]) < 1e-9
assert wrong[0] == 12 and wrong[1] < 0.05 < right[1], "labels that repeat are no longer crossed"
END
