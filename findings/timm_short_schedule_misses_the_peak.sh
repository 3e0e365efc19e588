#!/usr/bin/env bash
# Package: timm 1.0.31, timm.scheduler.create_scheduler_v2, with torch 2.15.0.
# Guess:   after the warm-up the learning rate is the one that was asked for, and falls from there.
# Seen:    the cosine starts at epoch 0 beneath the warm-up. With 3 of 5 epochs of warm-up the rate rises to 0.067
#          of 0.1 and drops to 0.035; the 0.1 are never used. With 5 of 300 epochs hardly anything is lost.
#          warmup_prefix=True reaches the rate, and adds the warm-up's epochs to the budget.
# Matters: in a study of few epochs the peak rate depends on the warm-up, and the longer schedule it is compared
#          with has another one.
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
from timm.scheduler import create_scheduler_v2


def rates(epochs, warmup, **options):
    """The learning rate of each epoch, of 0.1 asked for."""
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    told = {"sched": "cosine", "num_epochs": epochs, "warmup_epochs": warmup, "warmup_lr": 1e-5} | options
    scheduler, count = create_scheduler_v2(optimizer, **told)
    found = []
    for epoch in range(count):
        scheduler.step(epoch)
        found.append(round(optimizer.param_groups[0]["lr"], 3))
    return found


short, long, prefix = rates(5, 3), rates(300, 5), rates(5, 3, warmup_prefix=True)
print("5 epochs, 3 of warm-up:       ", short)
print("300 epochs, 5 of warm-up:      highest", max(long))
print("the short one, warmup_prefix: ", prefix)
assert max(short) == 0.067 and short[3] == 0.035, "the short schedule changed"
assert max(long) == 0.1, "the long schedule changed"
assert max(prefix) == 0.1 and len(prefix) == 8, "warmup_prefix changed"
END
