#!/usr/bin/env bash
# Package: timm 1.0.31, timm.data.create_transform, with torchvision 0.29.2.
# Guess:   the evaluation transform for input size 32 leaves a 32 x 32 image as it is.
# Seen:    it enlarges the image to 36 pixels and cuts out the middle 32: crop_pct is 0.875 whatever the size.
#          A fifth of the picture's area is never seen, and what is left is interpolated. With a model's own
#          config (0.9) it is 35 pixels.
# Matters: networks are tested on blurred, cropped images that they were not trained on, and the two of a pair
#          on unlike ones. crop_pct=1 leaves the image untouched.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6)
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
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
plain = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10)
options = {
    "default": {},
    "the ViT's config": {k: v for k, v in resolve_model_data_config(vit).items() if k in ("crop_pct", "interpolation")},
    "crop_pct=1": {"crop_pct": 1.0},
}
sizes, errors = {}, {}
for name, given in options.items():
    transform = create_transform((3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1), **given)
    sizes[name] = transform.transforms[0].size
    errors[name] = (transform(image) - plain).abs().mean().item()
    print(f"{name:17} enlarged to {sizes[name]}, cut to 32; mean change of a pixel {255 * errors[name]:.1f} of 255 levels")
border = Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8))
pixels = np.asarray(border).copy()
pixels[[0, -1]] = pixels[:, [0, -1]] = 255
kept = create_transform((3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1))(Image.fromarray(pixels)).sum() / (pixels / 255).sum()
print(f"share of a white frame of one pixel that is left by default: {kept:.3f}")
assert (sizes["default"], sizes["the ViT's config"]) == (36, 35) and errors["default"] > 0.05, "the default crop changed"
assert errors["crop_pct=1"] < 1e-6 and kept < 0.2
END
