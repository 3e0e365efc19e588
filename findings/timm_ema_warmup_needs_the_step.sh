#!/usr/bin/env bash
# Package: timm 1.0.31, timm.utils.ModelEmaV3, with torch 2.15.0.
# Guess:   use_warmup=True and update_after_step=100 count the calls of update(model).
# Seen:    nothing is counted. Both are ignored unless each call has step=...; update(model) alone, as V2 is
#          called, has the full decay from the first call. After 1,000 updates at the default of 0.9999 the
#          average is to 91% the weights' start, which they had left after 100; with step= and either option
#          nothing of it is left.
# Matters: an averaged student or mean teacher that is evaluated in a short training is nearly untrained, with
#          both options on that are there against it.
# Instead: ema.update(model, step=number of updates so far).
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
import torch
from timm.utils import ModelEmaV3


def share_of_start(options, with_step):
    """What is left in the average after 1,000 updates of a weight that falls from 1 to 0 in 100."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    ema = ModelEmaV3(network, **options)
    for step in range(1000):
        torch.nn.init.constant_(network.weight, max(0, 1 - step / 100))
        ema.update(network, step=step if with_step else None)
    return ema.module.weight.item()


for options in ({}, {"use_warmup": True}, {"update_after_step": 100}):
    without, with_step = share_of_start(options, False), share_of_start(options, True)
    print(f"{options!s:26}: of the start {without:.3f} is left by update(model), {with_step:.3f} with step=")
    assert abs(without - 0.910) < 0.005, "update(model) changed"
    assert (with_step < 0.01) == bool(options), "update(model, step) changed"
END
