#!/usr/bin/env bash
# Package: albumentations 2.0.8, Compose in a Dataset, with torch 2.15.0 and workers that are forked.
# Guess:   with workers, each image is augmented anew in each epoch, as without them and as by torchvision.
# Seen:    each image keeps one version for the whole training, and the workers draw the same: of 16 images,
#          9 to 16 get the versions of 1 to 8. Compose has a generator of its own, which each worker copies at
#          the start of each epoch, with and without seed=, and which torch's seeding of workers doesn't reach.
#          persistent_workers=True leaves new versions in each epoch, but the same in both workers.
# Matters: 100 epochs hold no more pictures than one does, whatever the augmentation, and a teacher answers for the
#          same ones. With num_workers=0 the same code trains another network; there is no warning. Give the
#          loader a worker_init_fn, as "reseeded" below. The successor, albumentationsx, has it as issue 266, mended.
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

picture = np.full((8, 8, 3), 128, np.uint8)


class Pictures(Dataset):
    def __init__(self, seed):
        self.transform = A.Compose([A.RandomBrightnessContrast(brightness_limit=0.4, p=1)], seed=seed)

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return self.transform(image=picture)["image"].astype(np.float64).mean()


def reseed(worker):
    get_worker_info().dataset.transform.set_random_seed(torch.initial_seed() % 2**32)


def versions(seed=None, **options):
    """Of image 0 over 12 epochs, and of the 16 images within the last epoch."""
    if options.get("num_workers"):
        options["multiprocessing_context"] = "fork"
    loader = DataLoader(Pictures(seed), batch_size=8, **options)
    seen = np.stack([torch.cat(list(loader)).numpy() for _ in range(12)])
    return len(np.unique(seen[:, 0])), len(np.unique(seen[-1])), (seen[:, :8] == seen[:, 8:]).all()


cases = {
    "no workers": {},
    "2 workers": {"num_workers": 2},
    "2 workers, seed=0": {"num_workers": 2, "seed": 0},
    "2 workers, persistent": {"num_workers": 2, "persistent_workers": True},
    "2 workers, reseeded": {"num_workers": 2, "worker_init_fn": reseed},
}
found = {}
for name, options in cases.items():
    torch.manual_seed(0)
    found[name] = versions(**options)
    epochs, images, equal = found[name]
    print(f"{name:22} one image has {epochs:2} versions in 12 epochs; workers equal: {equal}")
for name in ("2 workers", "2 workers, seed=0"):
    assert found[name][0] == 1 and found[name][2], f"{name}: the workers now draw anew"
assert found["2 workers, persistent"][0] > 6 and found["2 workers, persistent"][2], "persistent workers changed"
for name in ("no workers", "2 workers, reseeded"):
    assert found[name][0] > 6 and not found[name][2], f"{name} changed"
END
