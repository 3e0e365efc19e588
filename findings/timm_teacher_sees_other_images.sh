#!/usr/bin/env bash
# Package: timm 1.0.31, timm.task.LogitDistillationTask, with torch 2.15.0.
# Guess:   the teacher sees the batch that the student sees; at most, a difference in normalisation that really
#          exists is undone.
# Seen:    the images are normalised anew by the two networks' pretrained_cfg, whatever the data were
#          normalised with. A ResNet-18 student and a ViT teacher, both created for CIFAR-10 and trained on
#          images normalised by CIFAR-10's statistics, have unlike configs: the teacher sees images 0.45 times
#          as wide. With a ResNet-34 teacher it sees the very same images.
# Matters: only cross-architecture pairs are hit, so a CNN seems the better teacher of CNNs.
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
from timm.task import LogitDistillationTask
from torch import nn

torch.manual_seed(0)
mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
images = (torch.rand(256, 3, 32, 32) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
teachers = {
    "resnet34": timm.create_model("resnet34", num_classes=10),
    "vit_tiny": timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10),
}
ratio = {}
for name, teacher in teachers.items():
    seen = []
    teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    student = timm.create_model("resnet18", num_classes=10)
    task = LogitDistillationTask(student, teacher, criterion=nn.CrossEntropyLoss(), verbose=False)
    task(images, torch.zeros(256, dtype=torch.long))
    ratio[name] = (seen[0].std() / images.std()).item()
    print(f"resnet18 from {name}: the teacher sees mean {seen[0].mean():+.3f}, deviation {seen[0].std():.3f};",
          f"the student {images.mean():+.3f} and {images.std():.3f}; ratio {ratio[name]:.3f}")
assert ratio["resnet34"] == 1 and abs(ratio["vit_tiny"] - 0.452) < 0.005, "what the teacher sees changed"
END
