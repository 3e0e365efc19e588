#!/usr/bin/env bash
# Package: timm 1.0.31, timm.data.Mixup and RandomErasing, beside torchvision 0.29.2, with torch 2.15.0.
# Guess:   they return new images and leave what they are given as it is, as torchvision's do.
# Seen:    both write into the images that they are given. Slices and elements of a tensor are views, so each epoch
#          changes the data for good: after 20 epochs with a probability of 0.25, 0.53 of the pixels are erased,
#          where torchvision erases 0.05 in each epoch; and after 20 epochs of Mixup half of the variance between
#          the images is gone: each is the mean of itself and its partner.
# Matters: small data sets are often kept in one tensor. Training goes on, with the first labels, on images that
#          no longer exist. A worker process erases only its own copy, so num_workers decides how much is left.
#          And a teacher called after Mixup with the original images gets the mixed ones.
# Instead: clone the images first, or index with a tensor, which copies: images[indices], not images[a:b].
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
import random

import numpy as np
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2

np.random.seed(0)
EPOCHS, BATCH, CLASSES = 20, 32, 10
original = torch.rand(256, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 0.01
labels = torch.arange(256) % CLASSES


class InMemory(torch.utils.data.Dataset):
    """The usual data set: a transform of one image out of a tensor."""

    def __init__(self, images, transform):
        self.images, self.transform = images, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), labels[index]


def erased(transform, workers=0):
    random.seed(0)
    torch.manual_seed(0)
    data = InMemory(original.clone(), transform)
    loader = torch.utils.data.DataLoader(data, BATCH, num_workers=workers)
    seen = [torch.cat([images for images, _ in loader]) for _ in range(EPOCHS)]
    return (seen[0] == 0).float().mean().item(), (seen[-1] == 0).float().mean().item()


def mixed(mix):
    torch.manual_seed(0)
    images = original.clone()
    for _ in range(EPOCHS):
        for start in range(0, len(images), BATCH):
            mix(images[start : start + BATCH], labels[start : start + BATCH])
    return (images.var(0).mean() / original.var(0).mean()).item()


shares = {
    "timm": erased(RandomErasing(0.25, device="cpu")),
    "timm, a worker": erased(RandomErasing(0.25, device="cpu"), 1),
    "torchvision": erased(v2.RandomErasing(0.25)),
}
for name, (first, last) in shares.items():
    print(f"RandomErasing of {name:14}: {first:.3f} of the pixels are 0 in epoch 1, {last:.3f} in epoch {EPOCHS}")
variances = {
    "timm": mixed(Mixup(mixup_alpha=0.8, num_classes=CLASSES)),
    "torchvision": mixed(v2.MixUp(alpha=0.8, num_classes=CLASSES)),
}
for name, variance in variances.items():
    print(f"MixUp of {name:11}: {variance:.3f} of the variance between the images is left after {EPOCHS} epochs")
assert shares["timm"][1] > 5 * shares["timm"][0], "timm's RandomErasing no longer writes into its input"
assert all(shares[name][1] < 0.1 for name in ("timm, a worker", "torchvision")), "what is erased changed"
assert 0.4 < variances["timm"] < 0.6 and variances["torchvision"] == 1, "what Mixup writes into changed"
END
