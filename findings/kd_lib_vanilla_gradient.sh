#!/usr/bin/env bash
# Package: KD-Lib 0.0.32, VanillaKD (its requirements pin torch 1.8; loaded here with torch 2.15.0).
# Guess:   Hinton's loss, T^2 KL, perhaps off by a constant near 1.
# Seen:    the default is T^2 times the mean squared error of the two softened distributions. Its gradient is
#          smaller by C^2/2 in the limit of high temperature: 50, 5,000 and 500,000 times with 10, 100 and
#          1,000 classes.
# Matters: with distil_weight = 0.5 the labels decide nearly alone, and "distillation does not help" is what
#          the comparison will show. The paper's limit (section 2.1) is the squared error of logits.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 matplotlib tensorboard)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
  uv pip install -q --python "$folder/venv/bin/python" --no-deps kd-lib==0.0.32
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
  "$folder/venv/bin/pip" install -q --no-deps kd-lib==0.0.32
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import importlib.util
import pathlib
import sys
import types

# The text half of the package needs a torchtext that no longer exists, so only the vision half is loaded.
root = pathlib.Path(importlib.util.find_spec("KD_Lib").origin).parent / "KD"
sys.modules["KD_Lib.KD"] = types.ModuleType("KD_Lib.KD")
sys.modules["KD_Lib.KD"].__path__ = [str(root)]

import torch
from KD_Lib.KD.vision.vanilla import VanillaKD
from torch import nn

torch.manual_seed(0)
T = 20.0
for classes in (10, 100, 1000):
    net = nn.Linear(2, 2)
    method = VanillaKD(net, net, [], [], None, None, temp=T, distil_weight=1.0)
    student = torch.randn(64, classes, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(64, classes, dtype=torch.float64)
    labels = torch.zeros(64, dtype=torch.long)
    p, q = (teacher / T).log_softmax(1), (student / T).log_softmax(1)
    usual = T**2 * (p.exp() * (p - q)).sum(1).mean()
    losses = usual, method.calculate_kd_loss(student, teacher, labels)
    first, second = (torch.autograd.grad(loss, student)[0].norm().item() for loss in losses)
    print(f"{classes:5} classes: |gradient| T^2 KL {first:.3e}  VanillaKD {second:.3e}  ratio {first / second:,.0f}  C^2/2 {classes**2 // 2:,}")
    assert abs(first / second / (classes**2 / 2) - 1) < 0.05, "the gradient's size changed"
END
