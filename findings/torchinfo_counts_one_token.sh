#!/usr/bin/env bash
# Package: torchinfo 1.8.0, with torch 2.15.0 and timm 1.0.31.
# Guess:   the multiply-adds that it reports agree with torch's own counter to a few percent.
# Seen:    they do for a ResNet. A linear layer counts once, whatever the number of its tokens: of a ViT with 65
#          tokens 1.6% is reported, of one with 257 tokens 0.4%.
# Matters: the ViT that costs 10 times as much as the ResNet is listed as 6 times cheaper.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 torchinfo==1.8.0 numpy==2.4.6)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import timm
import torch
import torchinfo
from torch.utils.flop_counter import FlopCounterMode

images = torch.randn(1, 3, 32, 32)
networks = {
    "resnet18": timm.create_model("resnet18", num_classes=10),
    "vit_tiny, patches of 4 px": timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10),
    "vit_tiny, patches of 2 px": timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=2, num_classes=10),
}
share = {}
for name, network in networks.items():
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(images)
    counted = counter.get_total_flops() / 2
    told = torchinfo.summary(network, input_data=images, verbose=0).total_mult_adds
    share[name] = told / counted
    print(f"{name:26} torch {counted / 1e6:7.1f} M   torchinfo {told / 1e6:5.1f} M   {told / counted:.3f}")
resnet, four, two = share.values()
assert 0.98 < resnet < 1.02, "the ResNet's count changed"
assert four < 0.03 and two < 0.01, "the ViT's count changed"
END
