#!/usr/bin/env bash
# Package: torch-uncertainty 0.13.0, mc_dropout, with timm 1.0.31 and torch 2.15.0.
# Guess:   a ViT with attention dropout 0.5 gives unlike answers in each of its Monte Carlo passes.
# Seen:    all passes are equal to the last bit. Only nn.Dropout modules are put in training mode, and timm's
#          fused attention never calls its own: it hands their rate to the kernel if the attention module is
#          in training mode. Without fused attention the passes differ. proj_drop_rate works in both.
# Matters: an uncertainty of exactly 0 is read as a confident network; a CNN beside it is not affected.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 "torch-uncertainty[cpu]==0.13.0")
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

import timm
import torch
from torch_uncertainty.methods import mc_dropout

warnings.filterwarnings("ignore")
torch.manual_seed(0)
images, spread = torch.randn(8, 3, 32, 32), {}
for option in ("attn_drop_rate", "proj_drop_rate"):
    for fused in (True, False):
        net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10, **{option: 0.5})
        torch.nn.init.normal_(net.head.weight, std=0.1)
        for block in net.blocks:
            block.attn.fused_attn = fused
        ensemble = mc_dropout(net, num_estimators=4).eval()
        with torch.no_grad():
            members = ensemble(images).view(4, 8, 10)
        spread[option, fused] = members.std(0).mean().item()
        print(f"{option} 0.5, fused attention {fused!s:5}: mean deviation of the logits over 4 passes {spread[option, fused]:.4f}")
assert spread.pop(("attn_drop_rate", True)) == 0, "the passes now differ"
assert min(spread.values()) > 0.1
END
