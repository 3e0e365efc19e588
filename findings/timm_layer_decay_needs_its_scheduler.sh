#!/usr/bin/env bash
# Package: timm 1.0.31, create_optimizer_v2(layer_decay=...), with torch 2.15.0.
# Guess:   the optimiser has a lower learning rate for early layers, with any scheduler or none.
# Seen:    all groups have the same rate. The factors stand beside it as lr_scale, which only timm's own
#          schedulers read. With none, or with torch's, the first layer of a ViT of 12 blocks learns at the
#          full rate, 8192 times what layer_decay=0.5 asks for. Nothing is said.
# Matters: a fine-tuned teacher, or a grid over layer_decay in a loop of one's own, has no layer decay: all
#          values give the same network.
# Instead: use timm's scheduler (sched="constant" for none), or multiply each group's lr by its lr_scale at
#          once.
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
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

small = dict(img_size=32, patch_size=8, embed_dim=24, num_heads=2, num_classes=10)


def moved(layer_decay, scheduler):
    """How far a step moves the patch embedding and the head, and all weights after it; plain SGD."""
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", **small)
    told = {"opt": "momentum", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    optimizer = create_optimizer_v2(network, **told, layer_decay=layer_decay)
    if scheduler == "torch's cosine":
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    if scheduler == "timm's cosine":
        create_scheduler_v2(optimizer, sched="cosine", num_epochs=100)[0].step(0)
    layers = network.patch_embed.proj.bias, network.head.bias
    before = [layer.detach().clone() for layer in layers]
    network(torch.randn(8, 3, 32, 32)).logsumexp(1).sum().backward()
    optimizer.step()
    apart = [((new - old).norm() / new.grad.norm()).item() for new, old in zip(layers, before)]
    return apart, torch.cat([weight.detach().flatten() for weight in network.parameters()])


for scheduler in ("none", "torch's cosine", "timm's cosine"):
    (first, last), weights = moved(0.5, scheduler)
    _, without = moved(None, scheduler)
    same = torch.equal(weights, without)
    print(f"scheduler {scheduler:15}: rate of the first layer {first:.2e}, of the last {last:.2e};"
          f" {'the same weights as' if same else 'other weights than'} without layer_decay")
    assert same == (scheduler != "timm's cosine"), "layer_decay without timm's scheduler changed"
    assert (abs(first / 0.1 - 1) < 0.01) == same, "the first layer's rate changed"
END
