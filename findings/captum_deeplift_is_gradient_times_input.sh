#!/usr/bin/env bash
# Package: captum 0.9.0, DeepLift and GuidedBackprop, with timm 1.0.31 and torch 2.15.0.
# Guess:   the same method for a CNN and a ViT, so that their attributions can be compared.
# Seen:    there are rules for ReLU and max pooling, none for GELU, LayerNorm and attention. On a ViT and a
#          ConvNeXt DeepLift is, number by number, gradient x (input - baseline), and GuidedBackprop the plain
#          gradient. DeepLift's sum then misses the change of the logit that it must explain; on a ResNet it
#          is exact. No warning is given.
# Matters: a difference in attributions between a ResNet and a ViT, or before and after distillation between
#          them, is one between two methods.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 captum==0.9.0)
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
from captum.attr import DeepLift, GuidedBackprop

warnings.filterwarnings("ignore")
torch.manual_seed(0)
images = torch.rand(2, 3, 32, 32)
baseline = torch.zeros_like(images)


def difference(first, second):
    return ((first - second).abs().max() / second.abs().max()).item()


seen = {}
for name, options in (("resnet18", {}), ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}), ("convnext_atto", {})):
    net = timm.create_model(name, num_classes=10, **options).eval()
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    for parameter in net.parameters():
        if not parameter.any():  # weights that start at 0 would hide whole blocks
            torch.nn.init.normal_(parameter, std=0.1)
    pixels = images.clone().requires_grad_()
    gradient = torch.autograd.grad(net(pixels)[:, 3].sum(), pixels)[0]
    lifted = DeepLift(net).attribute(pixels, baseline, target=3)
    guided = GuidedBackprop(net).attribute(pixels, target=3)
    with torch.no_grad():
        change = net(images)[:, 3] - net(baseline)[:, 3]
    gap = ((lifted.sum((1, 2, 3)) - change).abs() / change.abs()).max().item()
    seen[name] = gap, difference(guided, gradient)
    product = gradient * (images - baseline)
    print(f"{name:21} DeepLift from gradient x input {difference(lifted, product):.3f}, unexplained share {gap:.4f};",
          f"GuidedBackprop from gradient {seen[name][1]:.3f}")
    if name != "resnet18":
        assert torch.equal(lifted, product) and torch.equal(guided, gradient) and gap > 0.05, "captum now has rules"
assert seen["resnet18"][1] > 0.1
END
