#!/usr/bin/env bash
# Package: repsim 0.1.5, cka with estimator "song" or "lange".
# Guess:   an unbiased CKA: 1 for a representation and its copy, about 0 for independent ones.
# Seen:    only the numerator is unbiased. It is divided by the square root of the two biased HSICs, so that a
#          representation has a CKA of 0.11 with its own copy (64 samples of 512 units), 0.98 with 500 samples
#          of 10 units. The diagonal of the matrix is set to 1, which hides it.
# Matters: a comparison of layers then ranks them by their number of units: the wider the layer, the less it
#          is like any other, itself included.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 repsim==0.1.5)
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
import repsim

random = np.random.default_rng(0)


def hsics(x):
    """Unbiased (Song et al. 2012) and biased (Gretton et al. 2005) HSIC of x with itself, linear kernel."""
    gram, n = x @ x.T, len(x)
    centre = np.eye(n) - 1 / n
    biased = np.trace(gram @ centre @ gram @ centre) / (n - 1) ** 2
    off = gram - np.diag(np.diag(gram))
    rows = off.sum(0)
    unbiased = ((off**2).sum() + off.sum() ** 2 / (n - 1) / (n - 2) - 2 / (n - 2) * rows @ rows) / n / (n - 3)
    return unbiased, biased


seen = {}
for n, units in ((64, 512), (64, 32), (500, 10)):
    x = random.standard_normal((n, units))
    matrix = repsim.cka([x, x.copy()], kernel_type="linear", estimator="song")
    unbiased, biased = hsics(x)
    seen[n, units] = matrix[0, 1]
    print(f"{n} samples of {units} units: CKA with its copy {matrix[0, 1]:.4f}, diagonal {matrix[0, 0]:.0f};",
          f"unbiased HSIC / biased HSIC {unbiased / biased:.4f}")
    assert abs(matrix[0, 1] - unbiased / biased) < 1e-9 and matrix[0, 0] == 1, "the normalisation changed"
assert seen[64, 512] < 0.2 and seen[500, 10] > 0.97, "a copy's CKA changed"
END
