#!/usr/bin/env bash
# Package: corrupt-tta 0.1.7, with numpy 2.4.6, on images of 32 x 32 pixels.
# Guess:   severity rises from 1 to 5: each level changes the image more than the one before.
# Seen:    motion_blur's levels 2, 3 and 4 are one and the same picture. elastic_transform's levels 1 and 2
#          change the image most, 1.3 times as much as level 3. pixelate's level 4 changes more than 5,
#          saturate's 2 more than 5. The levels are ImageNet-C's, with a table of their own for 32 pixels
#          nowhere.
# Matters: "accuracy falls with severity" can't be read off these, and a mean over five levels counts one of
#          them three times. CIFAR-10-C was made with other constants.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 corrupt-tta==0.1.7)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import warnings

import numpy as np
from corrupt_tta import corrupt
from PIL import Image

warnings.filterwarnings("ignore")
random = np.random.default_rng(0)
coarse = (Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(8))
images = [np.asarray(image.resize((32, 32), Image.BICUBIC)) for image in coarse]
change, different = {}, {}
for name in ("gaussian_noise", "motion_blur", "elastic_transform", "pixelate", "saturate"):
    errors, kept = [], set()
    for severity in range(1, 6):
        np.random.seed(0)
        made = [np.asarray(corrupt(image, corruption_name=name, severity=severity)) for image in images]
        errors.append(np.sqrt(np.mean([(a.astype(float) - b) ** 2 for a, b in zip(made, images)])))
        kept.add(b"".join(image.tobytes() for image in made))
    change[name], different[name] = np.array(errors), len(kept)
    print(f"{name:18} root mean square change by severity {np.round(errors, 1)}; {len(kept)} different sets")
assert (np.diff(change["gaussian_noise"]) > 0).all()
assert different["motion_blur"] == 3 and np.ptp(change["motion_blur"][1:4]) == 0, "motion_blur changed"
assert change["elastic_transform"][:2].min() > 1.1 * change["elastic_transform"][2:].max(), "elastic_transform changed"
assert change["pixelate"][3] > change["pixelate"][4] and change["saturate"][1] > change["saturate"][4], "levels changed"
END
