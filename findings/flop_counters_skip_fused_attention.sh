#!/usr/bin/env bash
# Package: fvcore 0.1.5.post20221221, thop 0.1.1.post2209072238, ptflops 0.7.5, with torch 2.15.0 and timm 1.0.31.
# Guess:   on a ViT they agree with torch's own counter to 5%, as on a ResNet.
# Seen:    none counts timm's fused attention. They agree on the ResNet; of a ViT-S with patches of 8 px, 0.75 is
#          counted. With fused attention off, fvcore and one backend of ptflops count all; thop and the default
#          backend of ptflops still don't, as the products are no modules of their own.
# Matters: costs of CNN and ViT, and of two ViTs with unlike patches, are not compared on one scale.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 setuptools==80.9.0)
packages+=(fvcore==0.1.5.post20221221 thop==0.1.1.post2209072238 ptflops==0.7.5)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import logging

import thop
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from ptflops import get_model_complexity_info
from timm.layers import set_fused_attn
from torch.utils.flop_counter import FlopCounterMode

logging.disable(logging.WARNING)
images = torch.randn(1, 3, 224, 224)


def shares(name):
    """What each counts, over torch's own count; a new network for each, since some leave hooks."""
    network = lambda: timm.create_model(name, num_classes=10).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network()(images)
    options = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    found = {
        "fvcore": FlopCountAnalysis(network(), images).total(),
        "thop": thop.profile(network(), (images,), verbose=False)[0],
        "ptflops": get_model_complexity_info(network(), (3, 224, 224), backend="pytorch", **options)[0],
        "ptflops, aten": get_model_complexity_info(network(), (3, 224, 224), backend="aten", **options)[0],
    }
    return {counter_: count / (counter.get_total_flops() / 2) for counter_, count in found.items()}


told = {"resnet18": shares("resnet18"), "vit_small_patch8": shares("vit_small_patch8_224")}
set_fused_attn(False)
told["the same, not fused"] = shares("vit_small_patch8_224")
for name, found in told.items():
    print(f"{name:20}", {counter: round(share, 3) for counter, share in found.items()})
resnet, fused, plain = told.values()
assert all(0.98 < share < 1.05 for share in resnet.values()), "the ResNet's count changed"
assert all(share < 0.8 for share in fused.values()), "the ViT's count changed"
assert plain["fvcore"] > 0.98 and plain["ptflops, aten"] > 0.98, "the plain attention's count changed"
assert plain["thop"] < 0.8, "thop's count of the plain attention changed"
END
