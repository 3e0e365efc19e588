#!/usr/bin/env bash
# Package: torchmetrics 1.9.0, MulticlassCalibrationError, with torch 2.15.0.
# Guess:   logits and their softmax give the same calibration error, as logits are accepted.
# Seen:    they are told from probabilities by their range, batch by batch. A batch whose logits all lie between
#          0 and 1 is taken for probabilities that don't sum to 1. A head that starts at zero, as many do,
#          is uniform: its confidence of 0.1 and accuracy of 0.1 give an error of 0, but 0.1 is reported. And
#          logits from 0 to 1 give 0.09 where their softmax gives 0.85.
# Matters: it strikes where logits are small: fresh heads, strong label smoothing, normalised or clipped logits.
#          Adding a constant to all logits of an image changes the error.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 torchmetrics==1.9.0)
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
from torchmetrics.classification import MulticlassCalibrationError

torch.manual_seed(0)


def error(values, labels):
    return MulticlassCalibrationError(num_classes=10, n_bins=15)(values, labels).item()


labels = torch.arange(1000) % 10
zero, small = torch.zeros(1000, 10), torch.rand(1000, 10)
cases = {"logits of a head at zero": (zero, labels), "logits from 0 to 1": (small, small.argmax(1))}
seen = {}
for name, (logits, answers) in cases.items():
    seen[name] = error(logits, answers), error(logits.softmax(1), answers), error(logits - 1, answers)
    print(f"{name:24} as logits {seen[name][0]:.3f}   their softmax {seen[name][1]:.3f}   logits minus 1 {seen[name][2]:.3f}")
first, second = seen.values()
assert abs(first[0] - 0.1) < 1e-4 and first[1] < 1e-4 and first[2] < 1e-4, "a head at zero changed"
assert second[0] < 0.2 and second[1] > 0.8 and abs(second[1] - second[2]) < 1e-4, "logits from 0 to 1 changed"
END
