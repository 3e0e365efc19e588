#!/usr/bin/env bash
# Package: nvidia-modelopt 0.47.0, torch.distill.LogitsDistillationLoss, with torch 2.15.0.
# Guess:   T^2 KL(teacher || student) averaged over the batch, the usual loss.
# Seen:    reduction is "mean" by default, which also averages over the classes: 10, 100 and 1,000 times
#          smaller with 10, 100 and 1,000 classes.
# Matters: a weight tuned on CIFAR-10 is a hundred times too small on ImageNet, and weights from papers or from
#          other packages don't carry over. reduction="batchmean" is the usual loss.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 nvidia-modelopt==0.47.0 numpy==2.4.6 requests huggingface_hub)
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
from modelopt.torch.distill import LogitsDistillationLoss
from torch.nn import functional as F

torch.manual_seed(0)
T = 4.0
for classes in (10, 100, 1000):
    student, teacher = torch.randn(64, classes), torch.randn(64, classes)
    p, q = (teacher / T).softmax(1), (student / T).softmax(1)
    usual = T**2 * (p * (p / q).log()).sum(1).mean().item()
    theirs = LogitsDistillationLoss(temperature=T)(student, teacher).item()
    per_batch = LogitsDistillationLoss(temperature=T, reduction="batchmean")(student, teacher).item()
    print(f"{classes:5} classes: usual {usual:.5f}  theirs {theirs:.5f}  ratio {usual / theirs:.1f}  batchmean {per_batch:.5f}")
    assert abs(usual / theirs / classes - 1) < 1e-3, "the default no longer divides by the number of classes"
    assert abs(per_batch / usual - 1) < 1e-3, "batchmean is no longer the usual loss"
END
