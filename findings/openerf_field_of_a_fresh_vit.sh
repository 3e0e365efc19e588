#!/usr/bin/env bash
# Package: openerf 0.6.1, compute_erf, with timm 1.0.31 and torch 2.15.0.
# Guess:   the effective receptive field of an untrained ViT, the baseline of a trained one's (Luo et al. 2016).
# Seen:    by default the unit is read behind the last LayerNorm, where the mean over channels is the same for
#          all images until training has changed that norm's weights. Its gradient is rounding error: 1e-7 of
#          that before the norm in float32, 1e-15 in float64. It is then scaled to a sum of 1 and drawn as a
#          field, which has no correlation with the one before the norm. A CNN's last stage has no such norm.
# Matters: the untrained ViT's field is noise that still falls off with distance, so it looks plausible.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 openerf==0.6.1)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import pathlib

import numpy as np
import timm
import torch
from openerf import compute_erf
from PIL import Image

random = np.random.default_rng(0)
folder = pathlib.Path("images")
folder.mkdir()
for index in range(4):
    coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    coarse.resize((224, 224)).save(folder / f"{index}.png")
torch.manual_seed(0)
net = timm.create_model("vit_tiny_patch16_224", depth=4).eval()


def field(layer):
    options = {"model_name": "vit_tiny_patch16_224", "device": "cpu", "show_progress": False}
    return compute_erf(net, image_dir=folder, target_layer=layer, **options).erf_map


default, before = field(None), field("blocks.3")
correlation = np.corrcoef(default.ravel(), before.ravel())[0, 1]
print(f"sum of the default field {default.sum():.3f}; its correlation with the field before the norm {correlation:+.4f}")

share = {}
for dtype in (torch.float32, torch.float64):
    pixels = torch.randn(1, 3, 224, 224, dtype=dtype, requires_grad=True)
    kept = []
    handle = net.to(dtype).blocks[3].register_forward_hook(lambda module, inputs, output: kept.append(output))
    after = net.forward_features(pixels)
    handle.remove()
    unit = 1 + 7 * 14 + 7
    sizes = [torch.autograd.grad(x[0, unit].mean(), pixels, retain_graph=True)[0].abs().sum().item() for x in (after, kept[0])]
    share[dtype] = sizes[0] / sizes[1]
    print(f"{dtype}: gradient behind the norm / before it {share[dtype]:.1e}")
assert abs(default.sum() - 1) < 1e-6 and abs(correlation) < 0.1, "the default field changed"
assert share[torch.float32] < 1e-5 and share[torch.float64] < 1e-13, "the gradient is more than rounding error"
END
