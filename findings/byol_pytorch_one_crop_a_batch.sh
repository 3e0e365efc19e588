#!/usr/bin/env bash
# Package: byol-pytorch 0.9.1 (BYOL) and vit-pytorch 1.26.11 (Dino), with torch 2.15.0 and torchvision 0.29.2.
# Guess:   by their default augmentation each image of a batch gets a crop, flip and colours of its own, as in
#          BYOL, SimCLR and DINO.
# Seen:    torchvision's transforms are called once for the whole batch, so all images share one crop, one
#          flip and one colour change. Of 64 copies of an image 1 view is left, and 64 if they are transformed
#          one by one.
# Matters: pairs of images in a batch always have the same crop and colours, and a step of training sees one
#          change instead of as many as there are images. It isn't the method that is named in the paper.
# Instead: pass augment_fn (and augment_fn2), for instance kornia's, which draw for each image.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 byol-pytorch==0.9.1 vit-pytorch==1.26.11 numpy==2.4.6)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import torch
from byol_pytorch import BYOL
from torchvision.models import resnet18
from vit_pytorch import ViT
from vit_pytorch.dino import Dino

torch.manual_seed(0)
images = torch.rand(1, 3, 32, 32).repeat(64, 1, 1, 1)
byol = BYOL(resnet18(), image_size=32, hidden_layer="avgpool", projection_hidden_size=64)
vit = ViT(image_size=32, patch_size=8, num_classes=10, dim=32, depth=1, heads=2, mlp_dim=32)
dino = Dino(vit, image_size=32, hidden_layer="to_latent", projection_hidden_size=32, num_classes_K=64)
seen = {}
byol.net.register_forward_pre_hook(lambda net, inputs: seen.setdefault("BYOL", []).append(inputs[0]))
dino.net.register_forward_pre_hook(lambda net, inputs: seen.setdefault("Dino", []).append(inputs[0]))
byol(images), dino(images)

one_by_one = torch.cat([byol.augment1(image[None]) for image in images])
print(f"augmented one by one: {len(one_by_one.unique(dim=0))} views of 64 copies of an image")
assert len(one_by_one.unique(dim=0)) > 60, "the augmentation changed"
for name, inputs in seen.items():
    views = torch.cat([view for batch in inputs for view in batch.split(64)])
    counts = [len(view.unique(dim=0)) for view in views.split(64)]
    print(f"{name}: the network gets {len(counts)} batches of 64 copies, in them {counts} views")
    assert set(counts) == {1}, "each image has a view of its own now"
END
