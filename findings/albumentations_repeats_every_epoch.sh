#!/usr/bin/env bash
# Package: albumentations 2.0.8, Compose in a Dataset, with torch 2.15.0 and workers that are forked.
# Guess:   with workers, each image of each epoch is augmented anew, as without them and as by torchvision.
# Seen:    12 epochs of 16 images with 2 workers have 8 draws, not 192: the workers draw the same, and all start again
#          in each epoch. Compose has a generator of its own, which each worker copies at the start of each
#          epoch, with and without seed=, and which torch's seeding of workers doesn't reach. In a fixed order each
#          image keeps one version for ever; shuffled, the eight go round. persistent_workers=True leaves 96.
# Matters: the number of draws is that of images over workers, however long the training, with no warning. Stored
#          answers of a teacher, read in order, are for one version of each image. num_workers decides which
#          network is trained. Give the loader a worker_init_fn, as "reseeded" below. The successor,
#          albumentationsx 2.5.1, draws anew (its issue 266).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 albumentations==2.0.8)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import albumentations as A
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

picture = np.full((8, 8, 3), 0.5, np.float32)


class Pictures(Dataset):
    def __init__(self, seed):
        self.transform = A.Compose([A.RandomBrightnessContrast(p=1)], seed=seed)

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return index, float(self.transform(image=picture)["image"][0, 0, 0])


def reseed(worker):
    get_worker_info().dataset.transform.set_random_seed(torch.initial_seed() % 2**32)


def draws(seed=None, **options):
    """Over 12 epochs: of all images, of image 0."""
    if options.get("num_workers"):
        options["multiprocessing_context"] = "fork"
    loader = DataLoader(Pictures(seed), batch_size=8, **options)
    seen = [(int(i), float(v)) for _ in range(12) for batch in loader for i, v in zip(*batch)]
    assert len(seen) == 12 * 16
    return len({value for _, value in seen}), len({value for index, value in seen if index == 0})


cases = {
    "no workers": {},
    "2 workers": {"num_workers": 2},
    "2 workers, seed=0": {"num_workers": 2, "seed": 0},
    "2 workers, shuffled": {"num_workers": 2, "shuffle": True},
    "2 workers, persistent": {"num_workers": 2, "persistent_workers": True},
    "2 workers, reseeded": {"num_workers": 2, "worker_init_fn": reseed},
}
found = {}
for name, options in cases.items():
    torch.manual_seed(0)
    found[name] = draws(**options)
    print(f"{name:22} {found[name][0]:3} draws for 192 pictures, {found[name][1]:2} of them for the first image")
for name in ("2 workers", "2 workers, seed=0"):
    assert found[name] == (8, 1), f"{name}: the workers now draw anew"
assert found["2 workers, shuffled"][0] == 8 and found["2 workers, persistent"][0] in range(90, 97)
for name in ("no workers", "2 workers, reseeded"):
    assert found[name][0] > 180 and found[name][1] > 10, f"{name} changed"
END
