#!/usr/bin/env bash
# Package: torchcam 0.5.0, GradCAM and LayerCAM by their defaults, with timm 1.0.31 and torch 2.15.0.
# Guess:   without target_layer a layer of the last block is taken, and the map is one over the patches.
# Seen:    the map of a ViT has its tokens as rows and the features of a head as columns: 197 x 64 instead of
#          14 x 14. The last layer with four dimensions is taken, which is the attention's k_norm: heads, tokens
#          and features are read as channels, height and width. Its name is logged as a warning, no more.
#          For a ResNet and a ConvNeXt the map is 7 x 7, as meant.
# Matters: maps are resized to the image and laid over it, and then nothing shows that their axes are no place in the
#          image. The ViT seems to look at other things than the CNN.
# Instead: turn the output of a ViT's last block into a map yourself.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 torchcam==0.5.0)
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
from torchcam.methods import GradCAM, LayerCAM

torch.manual_seed(0)
networks = {
    "resnet18": ({}, (7, 7)),
    "convnext_atto": ({}, (7, 7)),
    "vit_tiny_patch16_224": ({"depth": 2}, (197, 64)),
    "vit_tiny_patch16_224 with 2 heads": ({"depth": 2, "num_heads": 2}, (197, 96)),
}
for name, (options, expected) in networks.items():
    network = timm.create_model(name.split()[0], num_classes=10, **options).eval()
    for method in (GradCAM, LayerCAM):
        with method(network) as cam:
            scores = network(torch.randn(1, 3, 224, 224))
            heights = tuple(cam(0, scores)[0].shape[1:])
            print(f"{name}, {method.__name__}: {heights[0]} x {heights[1]}, from {cam.target_names[0]}")
        assert heights == expected, f"the map of {name} changed"
END
