#!/usr/bin/env bash
# Package: ckatorch 1.0.3, cka_base, with torch 2.15.0.
# Guess:   unbiased=True gives the unbiased CKA, about 0 for independent features; the choice of method "does
#          not influence the output", as documented.
# Seen:    with method="hsic" unbiased is ignored: 0.89 for independent features (64 samples of 512 units),
#          where method="fro_norm" gives 0.02.
# Matters: asking for the unbiased estimate in one of two documented ways returns the biased one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 ckatorch==1.0.3)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import torch
from ckatorch.core import cka_base

torch.manual_seed(0)
first, second = torch.randn(2, 64, 512, dtype=torch.float64)
value = {(m, u): cka_base(first, second, method=m, unbiased=u).item() for m in ("fro_norm", "hsic") for u in (False, True)}
for (method, unbiased), found in value.items():
    print(f"method {method:9} unbiased {unbiased!s:5} CKA of independent features {found:+.4f}")
assert abs(value["fro_norm", True]) < 0.1 < 0.8 < value["fro_norm", False]
assert value["hsic", True] == value["hsic", False] > 0.8, "unbiased now has an effect"
END
