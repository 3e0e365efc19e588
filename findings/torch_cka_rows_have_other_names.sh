#!/usr/bin/env bash
# Package: torch-cka 0.21, CKA.compare and CKA.export, with torch 2.15.0.
# Guess:   row i of the exported matrix belongs to name i of the exported "model1_layers".
# Seen:    names are in the order of definition, rows in the order of execution. A module that holds others is
#          named before them and runs after them, and with the default (all layers) the network itself comes
#          first: every row is labelled with the module before it. In the network below, the ReLU "1" and the
#          Flatten "2", equal but for their shape, get a CKA of 0.14, because row "2" is the linear layer's.
# Matters: "which layer of the student is most like the teacher's" gets the wrong layer, with no warning.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 torch-cka==0.21 matplotlib tqdm)
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

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_cka import CKA

warnings.filterwarnings("ignore")
torch.manual_seed(0)
images = torch.randn(64, 3, 16, 16)
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10)).eval()
comparison = CKA(net, net, "a", "b")
comparison.compare(DataLoader(TensorDataset(images), batch_size=64))
found = comparison.export()

outputs = {}
for name, module in net.named_modules():
    module.register_forward_hook(lambda m, i, output, name=name: outputs.update({name: output.clone()}))
net(images)


def cka(first, second):
    """Unbiased linear CKA (Song et al. 2012)."""
    def gram(x):
        x = x.flatten(1).double()
        return (x @ x.T).fill_diagonal_(0)

    def hsic(k, l, n=64):
        return (k * l).sum() + k.sum() * l.sum() / (n - 1) / (n - 2) - 2 / (n - 2) * k.sum(0) @ l.sum(0)

    k, l = gram(first), gram(second)
    return (hsic(k, l) / (hsic(k, k) * hsic(l, l)).sqrt()).item()


names, ran = found["model1_layers"], list(outputs)
print("exported names, in order:", names)
print("order of execution:      ", ran)
by_name = torch.tensor([[cka(outputs[a], outputs[b]) for b in names] for a in names])
by_run = torch.tensor([[cka(outputs[a], outputs[b]) for b in ran] for a in ran])
relu, flat = names.index("1"), names.index("2")
print(f"CKA of the ReLU '1' and the Flatten '2': exported {found['CKA'][relu, flat]:.3f}, true {by_name[relu, flat]:.3f}")
print(f"largest error by the names {(found['CKA'] - by_name).abs().max():.3f}, by the order of execution {(found['CKA'] - by_run).abs().max():.4f}")
assert names == ["", "0", "1", "2", "3"] and ran == ["0", "1", "2", "3", ""]
assert (found["CKA"] - by_run).abs().max() < 0.01 < 0.5 < (found["CKA"] - by_name).abs().max(), "the rows' order changed"
END
