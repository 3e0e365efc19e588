#!/usr/bin/env bash
# Package: scikit-image 0.26.0, filters.gaussian by its defaults, and scipy 1.17.1, ndimage.gaussian_filter.
# Guess:   a blurred colour image: each channel is blurred over the picture.
# Seen:    red, green and blue are blurred into each other too, with no warning. With sigma=2 areas of one colour, far
#          larger than the blur, keep 0.29 (scikit-image) or 0.08 (scipy) of their saturation in the middle. Pure
#          red becomes (0.60, 0.40, 0.22). channel_axis=-1, and sigma=(2, 2, 0) in scipy, keep all of it.
# Matters: blur is a test for texture and fine detail. Here it takes the colour away as well, so that a network that
#          relies on colour looks like one that relies on texture.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0)
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
from scipy.ndimage import gaussian_filter
from skimage.filters import gaussian

colours = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 0]]], float)
image = np.kron(colours, np.ones((64, 64, 1)))  # four areas of 64 px


def saturation(picture):
    """Largest less smallest channel, in the middle of the four areas."""
    middle = picture[32::64, 32::64]
    return (middle.max(-1) - middle.min(-1)).mean()


blurred = {
    "no blur": image,
    "skimage gaussian(sigma=2)": gaussian(image, sigma=2),
    "scipy gaussian_filter(sigma=2)": gaussian_filter(image, 2),
    "skimage, channel_axis=-1": gaussian(image, sigma=2, channel_axis=-1),
    "scipy, sigma=(2, 2, 0)": gaussian_filter(image, (2, 2, 0)),
}
found = {}
for name, picture in blurred.items():
    found[name] = saturation(picture)
    print(f"{name:31} saturation {found[name]:.3f}, red area {picture[32, 32].round(2)}")
for name in list(blurred)[1:3]:
    assert found[name] < 0.4, f"{name} no longer mixes the colours"
for name in list(blurred)[3:]:
    assert found[name] > 0.99, f"{name} changed"
END
