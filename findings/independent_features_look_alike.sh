#!/usr/bin/env bash
# Packages: ckatorch 1.0.3, repsim 0.1.5, dcor 0.7, rsatoolbox 0.3.2, each by its defaults.
# Guess:   two independent sets of features have a similarity near 0.
# Seen:    64 samples of 512 Gaussian units, drawn independently: linear CKA 0.89, RBF CKA 0.93, distance
#          correlation 0.99, similarity of dissimilarity matrices (cosine, the default) 1.00. The unbiased
#          versions that ckatorch and dcor also have give 0.02, Pearson's correlation of the matrices -0.09.
# Matters: with fewer samples than units, a high similarity of student and teacher shows nothing. The number
#          must stand beside the same measure of independent features of the same sizes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 ckatorch==1.0.3 repsim==0.1.5 dcor==0.7 rsatoolbox==0.3.2)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import dcor
import numpy as np
import repsim
import torch
from ckatorch.core import cka_base
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm, compare

random = np.random.default_rng(0)
first, second = random.standard_normal((2, 64, 512))
tensors = torch.from_numpy(first), torch.from_numpy(second)
rdms = [calc_rdm(Dataset(x)) for x in (first, second)]
default = {
    "ckatorch cka_base": cka_base(*tensors).item(),
    "repsim cka": repsim.cka([first, second])[0, 1],
    "dcor distance_correlation": dcor.distance_correlation(first, second),
    "rsatoolbox compare": compare(*rdms).item(),
}
corrected = {
    "ckatorch, unbiased": cka_base(*tensors, unbiased=True).item(),
    "dcor, u_distance_correlation_sqr": dcor.u_distance_correlation_sqr(first, second),
    "rsatoolbox, method corr": compare(*rdms, method="corr").item(),
}
for name, value in {**default, **corrected}.items():
    print(f"{name:33} {value:+.3f}")
assert min(default.values()) > 0.85, "a default changed"
assert max(map(abs, corrected.values())) < 0.2, "an unbiased value changed"
END
