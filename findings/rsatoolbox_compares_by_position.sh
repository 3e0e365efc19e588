#!/usr/bin/env bash
# Package: rsatoolbox 0.3.2, rdm.compare and inference.eval_fixed.
# Guess:   dissimilarity matrices whose images have names are compared image by image, or refused if the orders
#          differ.
# Seen:    they are compared by position. The same features, once in another order with their names, have a
#          correlation of -0.12 instead of 1. The names stay with both matrices, and are not looked at. Only with
#          calc_rdm(data, descriptor="image"), which sorts by name, is it 1.
# Matters: teacher and student are easily read in unlike orders, as by two shuffled loaders or two listings.
#          Nothing fails, and the finding is that they share nothing. The default, the cosine, says 0.95 and hides
#          it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 rsatoolbox==0.3.2)
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
from rsatoolbox.data import Dataset
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import calc_rdm, compare

random = np.random.default_rng(0)
features = random.standard_normal((12, 40))
names = np.array([f"image{number}" for number in range(12)])
order = random.permutation(12)
teacher = Dataset(features, obs_descriptors={"image": names.tolist()})
student = Dataset(features[order], obs_descriptors={"image": names[order].tolist()})
for text, options in (("by default", {}), ("descriptor", {"descriptor": "image"})):
    first, second = calc_rdm(teacher, **options), calc_rdm(student, **options)
    values = {method: compare(first, second, method=method).item() for method in ("cosine", "corr", "spearman")}
    values["eval_fixed"] = eval_fixed(ModelFixed("teacher", first), second, method="corr").evaluations.item()
    print(f"{text}: same features, " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))
    print("  names of the second:", list(second.pattern_descriptors["image"])[:4], "...")
    if options:
        assert min(values.values()) > 0.999, "with a descriptor the images are no longer matched"
    else:
        assert max(values[name] for name in ("corr", "spearman", "eval_fixed")) < 0.2, "images are matched by name now"
END
