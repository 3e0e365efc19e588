#!/usr/bin/env bash
# Packages: torch-cka 0.21 and pytorch-cka 1.1.3, beside cka-pytorch 1.1.3, with timm 1.0.31 and torch 2.15.0.
# Guess:   a layer's CKA is of that layer's output; the three packages agree.
# Seen:    the first two keep a reference to the output until the forward has ended. timm's activations work in
#          place, so what they read as a batch norm's output is its activation's. A fresh ResNet's bn2 is all
#          zeros, where CKA has no value; they give it that of the block's end. The third takes the inner
#          products at once and is right.
# Matters: CKA before and after a non-linearity are equal by construction: an artefact that looks like a
#          result. Which package is used decides it, as does inplace=True in the network.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 torch-cka==0.21 pytorch-cka==1.1.3 cka-pytorch==1.1.3 lightning torchmetrics)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import warnings

import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

from cka import compute_cka
from cka_pytorch import CKACalculator
from torch_cka import CKA

warnings.filterwarnings("ignore")
torch.manual_seed(0)
net = timm.create_model("resnet18", num_classes=10).eval()
images = DataLoader(TensorDataset(torch.randn(64, 3, 32, 32), torch.zeros(64)), batch_size=64)
layers = ["layer2.0.bn1", "layer2.0.act1", "layer2.0.bn2", "layer2.0.act2"]
print("largest value of bn2's output:", net.layer2[0].bn2.weight.abs().max().item(), "times the normalised input")

by_reference = CKA(net, net, "a", "b", model1_layers=layers, model2_layers=layers)
by_reference.compare(images)
found = {
    "torch-cka": by_reference.hsic_matrix,
    "pytorch-cka": compute_cka(net, net, images, layers=layers, device="cpu", progress=False)[0],
}
net = timm.create_model("resnet18", num_classes=10).eval()  # without the first package's hooks
at_once = CKACalculator(net, net, layers, layers, device=torch.device("cpu"), verbose=False)
with torch.no_grad():
    found["cka-pytorch"] = at_once.calculate_cka_matrix(images, num_epochs=1)
for name, matrix in found.items():
    print(f"{name:12} bn1 and act1 {matrix[0, 1]:.3f}   bn2 and act2 {matrix[2, 3]:.3f}   bn1 and act2 {matrix[0, 3]:.3f}")
for name in ("torch-cka", "pytorch-cka"):
    assert found[name][0, 1] > 0.999 and found[name][2, 3] > 0.999, f"{name} no longer reads overwritten layers"
assert found["cka-pytorch"][0, 1] < 0.99 and found["cka-pytorch"][2, 3] < 0.01, "cka-pytorch changed"
END
