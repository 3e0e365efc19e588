#!/usr/bin/env bash
# Package: vit-pytorch 1.26.11, ViT and SimpleViT, beside timm 1.0.31 and torchvision 0.29.2, with torch
#          2.15.0.
# Guess:   patches go through one linear layer, as in the ViT paper, so a brighter, darker or flatter image,
#          or one whose patches change so each by itself, gets other logits.
# Seen:    a LayerNorm over each patch's pixels comes before that layer and takes off the patch's mean and
#          scale. All these images get the same logits. timm's and torchvision's ViTs move by a third of what
#          two images differ by, or more.
# Matters: contrast, brightness and shading between patches don't exist for this network. A study of such cues
#          finds an invariance that was built in, and a CNN teacher's sensitivity to them can't be passed on.
# Instead: take timm's or torchvision's ViT, or replace to_patch_embedding[1] by an Identity.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 vit-pytorch==1.26.11 numpy==2.4.6)
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
from torchvision.models import VisionTransformer
from vit_pytorch import SimpleViT, ViT

torch.manual_seed(0)
size = dict(image_size=32, patch_size=8, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128)
small = dict(img_size=32, patch_size=8, depth=2, embed_dim=64, num_heads=4, num_classes=10)
networks = {
    "vit-pytorch ViT": ViT(**size),
    "vit-pytorch SimpleViT": SimpleViT(**size),
    "timm": timm.create_model("vit_tiny_patch16_224", **small),
    "torchvision": VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10),
}
for network in (networks["timm"].head, networks["torchvision"].heads[0]):
    torch.nn.init.normal_(network.weight, std=0.1)  # Their last layers start at or near 0.

images = torch.rand(16, 3, 32, 32)
patches = images.reshape(16, 3, 4, 8, 4, 8)
scale, shift = 0.3 + 0.7 * torch.rand(16, 1, 4, 1, 4, 1), torch.rand(16, 1, 4, 1, 4, 1)
changed = {
    "half the contrast": images / 2,
    "brighter": images + 0.3,
    "each patch by itself": (patches * scale + shift).reshape(images.shape),
}
for name, network in networks.items():
    network.eval()
    with torch.no_grad():
        logits = network(images)
        between = (network(images.flip(0)) - logits).std()
        moved = {what: ((network(other) - logits).std() / between).item() for what, other in changed.items()}
    print(f"{name:22}", ", ".join(f"{what} {value:.3f}" for what, value in moved.items()))
    if "vit-pytorch" in name:
        assert max(moved.values()) < 0.01, "vit-pytorch's ViT sees contrast now"
    else:
        assert min(moved.values()) > 0.1, "the other ViTs changed"
END
