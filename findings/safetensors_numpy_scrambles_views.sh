#!/usr/bin/env bash
# Package: safetensors 0.8.0, safetensors.numpy, with numpy 2.4.6.
# Guess:   what is loaded equals what was saved; or, as safetensors.torch does, an array that isn't contiguous
#          is refused.
# Seen:    an array that is transposed, strided or in Fortran order is saved without a word and
#          comes back in the same shape with its values in other places; a strided one has other values.
# Matters: features transposed before saving, or weights turned for another framework, are scrambled on disk.
#          Shapes, means and deviations still agree (unless the array was strided), so checks on them pass;
#          np.ascontiguousarray before saving mends it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 torch==2.15.0 safetensors==0.8.0)
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
import torch
from safetensors.numpy import load, save
from safetensors.torch import save as save_torch

array = np.arange(12.0).reshape(3, 4)
views = {
    "contiguous": array,
    "transposed": array.T,
    "Fortran order": np.asfortranarray(array),
    "every other column": array[:, ::2],
}
equal = {}
for name, view in views.items():
    found = load(save({"x": view}))["x"]
    equal[name] = found.shape == view.shape and bool((found == view).all())
    mended = load(save({"x": np.ascontiguousarray(view)}))["x"]
    print(f"{name:19} equal after a round trip: {equal[name]!s:5}  first row {view[0].tolist()} -> {found[0].tolist()}")
    assert (mended == view).all()
try:
    save_torch({"x": torch.from_numpy(array).T})
    refused = False
except ValueError as error:
    refused = "non contiguous" in str(error)
print("safetensors.torch refuses the transposed tensor:", refused)
assert refused and equal.pop("contiguous") and not any(equal.values()), "views are no longer scrambled"
END
