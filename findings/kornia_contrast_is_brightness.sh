#!/usr/bin/env bash
# Package: kornia 0.9.0, enhance.adjust_contrast and RandomContrast, beside torchvision 0.29.2, torch 2.15.0.
# Guess:   less contrast moves each pixel towards the image's mean, and leaves the mean as it is.
# Seen:    the pixels are multiplied by the factor: 0.5 halves the mean. The result is, to the last bit, that of
#          torchvision's adjust_brightness. A factor of 2 takes 0.61 of the values to white, torchvision's 0.05.
#          ColorJitter of the same package keeps the mean, its ColorJiggle doesn't.
# Matters: a robustness to "contrast" made so is one to brightness. adjust_contrast_with_mean_subtraction keeps the
#          mean, as the contrast of ImageNet-C does.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 kornia==0.9.0)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import kornia.augmentation as augmentation
import torch
from kornia import enhance
from torchvision.transforms.v2 import functional

torch.manual_seed(0)
images = 0.3 + 0.5 * torch.rand(4, 3, 32, 32)
fixed = {"contrast": (0.5, 0.5), "p": 1.0}
halved = {
    "no change": images,
    "torchvision adjust_contrast": functional.adjust_contrast(images, 0.5),
    "torchvision adjust_brightness": functional.adjust_brightness(images, 0.5),
    "kornia adjust_contrast": enhance.adjust_contrast(images, 0.5),
    "kornia RandomContrast": augmentation.RandomContrast(**fixed)(images),
    "kornia ColorJiggle": augmentation.ColorJiggle(**fixed)(images),
    "kornia ColorJitter": augmentation.ColorJitter(**fixed)(images),
    "kornia ..._with_mean_subtraction": enhance.adjust_contrast_with_mean_subtraction(images, 0.5),
}
means = {}
for name, pictures in halved.items():
    means[name] = pictures.mean().item()
    print(f"{name:33} mean {means[name]:.3f}, deviation {pictures.std().item():.3f}")
dark = halved["torchvision adjust_brightness"]
for name in ("kornia adjust_contrast", "kornia RandomContrast", "kornia ColorJiggle"):
    assert torch.equal(halved[name], dark), f"{name} is no longer brightness"
for name in ("torchvision adjust_contrast", "kornia ColorJitter", "kornia ..._with_mean_subtraction"):
    assert abs(means[name] - means["no change"]) < 0.01, f"{name} no longer keeps the mean"
white = (enhance.adjust_contrast(images, 2.0) == 1).float().mean().item()
print(f"kornia adjust_contrast by 2: share of white values {white:.2f}; by torchvision",
      f"{(functional.adjust_contrast(images, 2.0) == 1).float().mean().item():.2f}")
assert white > 0.5
END
