#!/usr/bin/env bash
# Package: torch 2.15.0, SGD and AdamW with fused=True on a CPU.
# Guess:   an optimiser's state goes by shape: momenta saved as contiguous tensors and loaded for weights in
#          channels-last layout continue the same training, as without fused.
# Seen:    the fused update walks through weight, gradient and momentum as they lie in memory. The loaded momenta
#          meet other weights' gradients, and nothing is said. Without fused the result is the same to the bit.
# Matters: safetensors writes contiguous tensors only. A convolutional network in channels-last layout that goes
#          on from such a checkpoint trains with scrambled momenta.
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

torch.manual_seed(0)
start = torch.randn(4, 3, 2, 2)
gradients = torch.randn(3, 4, 3, 2, 2)
MAKERS = {
    "SGD": lambda weights, fused: torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=fused),
    "AdamW": lambda weights, fused: torch.optim.AdamW(weights, lr=0.1, fused=fused),
}


def train(name, fused, resumed):
    """Three steps; before the third a new optimiser may get the state, its tensors made contiguous."""
    weight = torch.nn.Parameter(start.clone(memory_format=torch.channels_last))
    optimiser = MAKERS[name]([weight], fused)
    for step, gradient in enumerate(gradients):
        if step == 2 and resumed:
            state = optimiser.state_dict()
            for slots in state["state"].values():
                slots.update({key: value.contiguous() for key, value in slots.items()})
            optimiser = MAKERS[name]([weight], fused)
            optimiser.load_state_dict(state)
        weight.grad = gradient.clone(memory_format=torch.channels_last)
        optimiser.step()
    return weight.detach()


for name in MAKERS:
    for fused in (False, True):
        apart = (train(name, fused, True) - train(name, fused, False)).abs().max().item()
        print(f"{name:5} fused={fused!s:5}: resumed and uninterrupted weights differ by at most {apart:.4f}")
        assert (apart > 0.01) == fused, "this has changed"
END
