#!/usr/bin/env bash
# Package: scikit-image 0.26.0, skimage.util.random_noise(mode="poisson").
# Guess:   noise of one strength for all images, or of one given by a parameter.
# Seen:    there is no such parameter. The number of photons for white is the number of unlike values in the array,
#          to the next power of two. So it depends on the image, on whether it is handed over alone or in a
#          batch, and above all on its type: the same picture has noise of 0.046 as uint8 and of 0.0007 as
#          floats that were resized, where nearly all values differ; with 16 levels 0.18, in a batch 0.046 again.
# Matters: a robustness to "Poisson noise" compares images, and networks with other input sizes, under unlike noise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 scikit-image==0.26.0)
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
from skimage.transform import resize
from skimage.util import random_noise

random = np.random.default_rng(0)
coarse = random.random((8, 8, 3))
large = resize(coarse, (512, 512), order=1)  # one picture, as floats
pictures = {
    "uint8": (255 * large).round().astype(np.uint8),
    "uint8 of 16 levels": (15 * large).round().astype(np.uint8) * 17,
    "float, resized": large,
}
seen = {}
for name, picture in pictures.items():
    clean = picture / 255 if picture.dtype == np.uint8 else picture
    noisy = random_noise(picture, mode="poisson", rng=0, clip=False)
    seen[name] = (noisy - clean).std()
    print(f"{name:20} {len(np.unique(picture)):7} values   deviation of the noise {seen[name]:.4f}")
alone = random_noise(pictures["uint8 of 16 levels"], mode="poisson", rng=0, clip=False) - pictures["uint8 of 16 levels"] / 255
both = np.stack([pictures["uint8 of 16 levels"], pictures["uint8"]])
batch = (random_noise(both, mode="poisson", rng=0, clip=False) - both / 255)[0]
print(f"16 levels, alone {alone.std():.4f}, in a batch with another picture {batch.std():.4f}")
assert 0.03 < seen["uint8"] < 0.06, "uint8 changed"
assert seen["uint8 of 16 levels"] > 3 * seen["uint8"] > 30 * seen["float, resized"], "the rate no longer depends on the values"
assert alone.std() > 3 * batch.std(), "a batch no longer changes the noise"
END
