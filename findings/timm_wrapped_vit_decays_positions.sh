#!/usr/bin/env bash
# Package: timm 1.0.31, timm.optim.create_optimizer_v2, with torch 2.15.0.
# Guess:   weight decay spares a ViT's class token and position embeddings, wherever the network stands.
# Seen:    they are spared only if the ViT itself is passed. Inside a module that also holds a projection, as
#          feature distillation needs, both are decayed.
# Matters: the distilled student and its baseline then differ in weight decay too, and only if they are ViTs.
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
from timm.optim import create_optimizer_v2
from torch import nn

student = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10)
wrapped = nn.ModuleDict({"student": student, "projection": nn.Linear(192, 512)})


def decayed(module):
    groups = create_optimizer_v2(module, "adamw", lr=1e-3, weight_decay=0.05).param_groups
    held = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    return [name for name, p in module.named_parameters() if id(p) in held and ("pos" in name or "cls" in name)]


alone, together = decayed(student), decayed(wrapped)
print("decayed when the ViT is passed: ", alone)
print("decayed when it is wrapped:     ", together)
assert alone == [] and together == ["student.cls_token", "student.pos_embed"], "what is decayed changed"
END
