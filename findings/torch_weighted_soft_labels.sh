#!/usr/bin/env bash
# Package: torch 2.15.0, cross_entropy with class weights.
# Guess:   a label and its one-hot distribution are the same target, so they give the same loss.
# Seen:    with class weights they don't. For labels the mean divides by the sum of the weights in the batch,
#          for distributions by the batch size: the second is smaller by the mean weight of the batch. Without
#          weights, and with label smoothing, both agree.
# Matters: with class weights, going from labels to a teacher's probabilities (or to mixup) changes the size of
#          the loss, and lets it vary from batch to batch with the classes that it holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6)
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
from torch.nn import functional as F

torch.manual_seed(0)
logits, labels = torch.randn(64, 10), torch.randint(0, 10, (64,))
weight, one_hot = torch.rand(10) + 0.1, F.one_hot(labels, 10).float()
plain = F.cross_entropy(logits, labels).item(), F.cross_entropy(logits, one_hot).item()
weighted = F.cross_entropy(logits, labels, weight).item(), F.cross_entropy(logits, one_hot, weight).item()
mean = weight[labels].mean().item()
print(f"without weights: labels {plain[0]:.4f}, distributions {plain[1]:.4f}")
print(f"with weights:    labels {weighted[0]:.4f}, distributions {weighted[1]:.4f}, ratio {weighted[1] / weighted[0]:.4f}")
print(f"mean weight of the batch {mean:.4f}")
assert abs(plain[0] - plain[1]) < 1e-5
assert abs(weighted[1] / weighted[0] - mean) < 1e-4 and mean < 0.9, "the two forms now agree"
END
