#!/usr/bin/env bash
# Package: torchdistill 1.1.5, KDLoss and LogitStdKDLoss, with torch 2.15.0.
# Guess:   alpha weighs the labels against the teacher: alpha CE + (1 - alpha) T^2 KL, as documented. With
#          alpha = 0 the gradient is that of T^2 KL, and hardly differs from the one with alpha = 1e-6.
# Seen:    with alpha = 0 (and without labels) T^2 and beta are left out: at T = 4 the gradient is 16 times
#          smaller than with alpha = 1e-6, and beta = 9 changes nothing.
# Matters: "teacher only" is the usual ablation. Here it changes the size of the loss with the weights, so
#          that its students learn less from the teacher, not more.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 torchdistill==1.1.5 numpy==2.4.6)
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
from torchdistill.losses.mid_level import KDLoss, LogitStdKDLoss

torch.manual_seed(0)
student, teacher = torch.randn(64, 10, requires_grad=True), 3 * torch.randn(64, 10)
labels = torch.randint(0, 10, (64,))


def gradient(loss, **weights):
    terms = loss("head", "output", "head", "output", temperature=4.0, **weights)
    value = terms({"head": {"output": student}}, {"head": {"output": teacher}}, labels)
    return torch.autograd.grad(value, student)[0].norm().item()


for loss in (KDLoss, LogitStdKDLoss):
    small, zero = gradient(loss, alpha=1e-6), gradient(loss, alpha=0.0)
    heavy = gradient(loss, alpha=0.0, beta=9.0)
    print(f"{loss.__name__}: |gradient| {small:.5f} at alpha 1e-6, {zero:.5f} at alpha 0, {heavy:.5f} with beta 9")
    assert abs(small / zero - 16) < 0.01, "T^2 is no longer left out at alpha = 0"
    assert heavy == zero, "beta is no longer left out at alpha = 0"
END
