"""What a data set is: images and labels in two splits, and where data lie on the disk."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

PROJECT = Path(__file__).parents[2]
FLATTEST = 0.02  # a channel's standard deviation, below which it is not blown up


class DataError(RuntimeError):
    """A data set that is missing or damaged: which file, what was expected, how to get it."""


@dataclass(frozen=True)
class DataSpec:
    """Which images a run sees."""

    name: str = "cifar10"  # or "cifar100", "shape_texture", or an image folder under the data root
    train_images: int | None = None  # a subset, class-balanced as far as the classes go; None: all
    image_size: int = 32  # pixels a side; of a folder's images the centre square is resized to it
    options: dict = field(default_factory=dict)  # of the shape-texture set: seed, correlations, test images
    fingerprint: str = ""  # of the pixels; filled in when the data are loaded


@dataclass(frozen=True)
class Split:
    """Images (N, 3, H, W) uint8 and labels (N,) int64, in the same order."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def subset(self, count: int | None) -> "Split":
        """The first ``count`` images of a fixed order in which the classes take turns; at most all."""
        if count is None or count >= len(self):
            return self
        shuffled = np.random.default_rng(0).permutation(len(self))
        labels = pd.Series(self.labels.numpy()[shuffled])
        turn = labels.groupby(labels).cumcount()
        chosen = np.sort(shuffled[np.argsort(turn.to_numpy(), kind="stable")[:count]])
        return Split(self.images[chosen], self.labels[chosen])

    def balanced(self) -> "Split":
        """As many images of every class as the rarest has."""
        counts = torch.bincount(self.labels)
        counts = counts[counts > 0]
        return self.subset(len(counts) * int(counts.min()))


@dataclass(frozen=True)
class Dataset:
    """The training images that the spec asks for and class-balanced test images, and where they come from."""

    spec: DataSpec
    source: str  # for people, e.g. "CIFAR-10 (image folder, JPEG)"
    classes: tuple[str, ...]
    train: Split
    test: Split

    @property
    def chance(self) -> float:
        """Accuracy of a guesser, as test images are equally many in every class."""
        return 1 / len(self.classes)

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (3,) of the training pixels in [0, 1]; the latter is at least 0.02.

        A channel that hardly varies, such as an unused one, would be divided by its rounding errors.
        """
        pixels = self.train.images.transpose(0, 1).flatten(1)
        share = torch.stack([torch.bincount(channel.long(), minlength=256) for channel in pixels]).double()
        share /= pixels.shape[1]
        value = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ value
        return mean.float(), (share @ value**2 - mean**2).clamp(min=FLATTEST**2).sqrt().float()


def data_root(root: str | Path | None = None) -> Path:
    """The directory of all data: the argument, else the variable KDLIB_DATA, else the project's ``data``."""
    return Path(root or os.environ.get("KDLIB_DATA") or PROJECT / "data").expanduser()


def cache_folder(root: str | Path | None = None) -> Path:
    """Where decoded data and probe images are kept: KDLIB_CACHE, else ``cache`` under the data root.

    Raises DataError if the folder can't be made.
    """
    folder = Path(os.environ.get("KDLIB_CACHE") or data_root(root) / "cache").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"{folder} can't be written ({error}); set KDLIB_CACHE to a folder that can"
        raise DataError(told) from error
    return folder
