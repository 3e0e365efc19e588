#!/usr/bin/env bash
# Package: timm 1.0.31, timm.layers.DropBlock2d, beside torchvision 0.29.2's, with torch 2.15.0.
# Guess:   DropBlock2d(0.1), with its default blocks of 7, sets about 10% of a feature map to 0, as
#          torchvision's.
# Seen:    93% of a 7 x 7 map, 62% of 8 x 8, 21% of 14 x 14, 11% of 56 x 56; torchvision's 9 to 10% of each.
#          The rate of blocks is computed for the places where a whole block fits, and then blocks start at
#          every pixel. resnet18(drop_block_rate=0.1) sets 15% of its last stage to 0 at 224 px in each of two
#          layers, with blocks of 3.
# Matters: the strength of the regularisation depends on the map's size, so on the image's and on the stage.
#          With the rate that a paper gives a student's last stage may see next to nothing.
# Instead: use torchvision.ops.DropBlock2d, or measure the share of zeros and set drop_prob by it.
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
import timm
import torch
import torchvision
from timm.layers import DropBlock2d

torch.manual_seed(0)


def dropped(layer, size):
    """The share of a map of ones that is set to 0 in training."""
    return (layer.train()(torch.ones(16384, 1, size, size)) == 0).float().mean().item()


for size, least, most in ((7, 0.90, 0.96), (8, 0.55, 0.65), (14, 0.19, 0.25), (56, 0.09, 0.13)):
    here, there = dropped(DropBlock2d(0.1), size), dropped(torchvision.ops.DropBlock2d(0.1, 7), size)
    print(f"{size:2} x {size:2}: timm {here:.3f}, torchvision {there:.3f}")
    assert least < here < most, "timm's rate changed"
    assert 0.07 < there < 0.13, "torchvision's rate changed"

stage = timm.create_model("resnet18", drop_block_rate=0.1).layer4
blocks = [layer for layer in stage.modules() if isinstance(layer, DropBlock2d)]
last = dropped(blocks[-1], 7)
print(f"the last stage of resnet18(drop_block_rate=0.1) at 224 px: {last:.3f} in each layer")
assert len(blocks) == 2 and 0.13 < last < 0.17, "timm's ResNet changed"
END
