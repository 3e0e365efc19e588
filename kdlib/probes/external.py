"""Stimuli published by others, read from a local folder; none is downloaded or part of this project."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib.data import CIFAR10_CLASSES, DataError, read_image
from kdlib.messages import one_line
from kdlib.probes.base import Stimuli

SIDE = 32  # px
SEVERITIES = (1, 3, 5)  # of the five of CIFAR-10-C
GEIRHOS_FILE = re.compile(r"([a-z]+)(\d+)-([a-z]+)(\d+)\.png")  # shape, number, texture, number
GEIRHOS_CLASSES = {name: name for name in ("airplane", "bird", "cat", "dog", "truck")}
GEIRHOS_CLASSES |= {"boat": "ship", "car": "automobile"}


def geirhos(folder: Path, classes: tuple[str, ...]) -> dict[str, Stimuli]:
    """Cue-conflict images of Geirhos et al. (2019) whose shape and texture are both classes of the data set.

    The files are ``<shape>/<shape><i>-<texture><j>.png``; those of one class in both are the ceiling without
    conflict, "geirhos_no_conflict". ``ids`` number the shape exemplars ``<shape><i>``, alike in both sets:
    average over equal ids before any interval.

    Raises ValueError if the data set lacks one of the classes, DataError for a damaged file, or without any.
    """
    missing = sorted(set(GEIRHOS_CLASSES.values()) - set(classes))
    if missing:
        raise ValueError(f"Geirhos' images need the class {', '.join(missing)}; use them with CIFAR-10.")
    rows = []
    for path in folder.glob("*/*.png"):
        match = GEIRHOS_FILE.fullmatch(path.name)
        if match and {match[1], match[3]} <= GEIRHOS_CLASSES.keys():
            rows.append((match[1], int(match[2]), match[3], int(match[4]), path))
    if not rows:
        raise DataError(
            f"{folder} is missing or holds none of the cue-conflict images of Geirhos et al. (2019); clone "
            "https://github.com/rgeirhos/texture-vs-shape into the data root (stimuli: CC BY 4.0)"
        )
    rows.sort()  # a directory lists its files in any order
    exemplars = {exemplar: i for i, exemplar in enumerate(dict.fromkeys(row[:2] for row in rows))}
    images = torch.stack([_box_mean(row[4]) for row in rows])
    shapes, textures = (
        torch.tensor([classes.index(GEIRHOS_CLASSES[row[word]]) for row in rows]) for word in (0, 2)
    )
    ids = torch.tensor([exemplars[row[:2]] for row in rows])
    conflict, same = shapes != textures, shapes == textures
    made = {
        "geirhos": Stimuli(images[conflict], shapes[conflict], ids[conflict], textures[conflict]),
        "geirhos_no_conflict": Stimuli(images[same], shapes[same], ids[same]),
    }
    return {name: stimuli for name, stimuli in made.items() if len(stimuli.ids)}


def _box_mean(path: Path) -> Tensor:
    """An image file whose side is a multiple of 32 px as uint8 (3, 32, 32), every pixel the mean of a box."""
    image = read_image(path)
    width, height = image.size
    if width != height or width % SIDE:
        raise DataError(f"{path} is {width}x{height} px; expected a square with a multiple of {SIDE} a side")
    box = width // SIDE
    means = np.asarray(image).reshape(SIDE, box, SIDE, box, 3).mean(axis=(1, 3))
    return torch.from_numpy(means.round().astype(np.uint8)).permute(2, 0, 1)


def cifar10_c(folder: Path, classes: tuple[str, ...]) -> dict[str, Stimuli]:
    """CIFAR-10-C of Hendrycks & Dietterich (2019), as "<corruption>_c<severity>", of the files there are.

    A file holds the test images five times, from severity 1 to 5, and is mapped rather than read. ``ids``
    count the official test order; an image folder has another, so its images can't be paired with these.

    Raises ValueError for other classes than CIFAR-10's, DataError for a file that isn't what was published,
    or without any.
    """
    if classes != CIFAR10_CLASSES:
        raise ValueError(f"CIFAR-10-C has other classes, not {', '.join(classes)}; use it with CIFAR-10.")
    files = sorted(path for path in folder.glob("*.npy") if path.name != "labels.npy")
    if not files:
        raise DataError(
            f"{folder} is missing or holds none of CIFAR-10-C; download "
            "https://zenodo.org/record/2535967/files/CIFAR-10-C.tar and unpack it in the data root"
        )
    labels = _mapped(folder / "labels.npy")
    five_times = labels.ndim == 1 and len(labels) and len(labels) % 5 == 0
    if not (five_times and labels.dtype.kind in "iu" and 0 <= labels.min() <= labels.max() < len(classes)):
        raise DataError(
            f"{folder / 'labels.npy'} holds {labels.dtype} {labels.shape}; expected five times the labels of "
            f"the test images, (50000,) as published, whole numbers from 0 to {len(classes) - 1}"
        )
    count = len(labels) // 5
    made = {}
    for path in files:
        images, expected = _mapped(path), (5 * count, SIDE, SIDE, 3)
        if images.dtype != np.uint8 or images.shape != expected:
            raise DataError(f"{path} holds {images.dtype} {images.shape}; expected uint8 {expected}")
        for severity in SEVERITIES:
            part = slice((severity - 1) * count, severity * count)
            made[f"{path.stem}_c{severity}"] = Stimuli(
                torch.from_numpy(images[part]).permute(0, 3, 1, 2),
                torch.from_numpy(labels[part].astype(np.int64)),
                torch.arange(count),
            )
    return made


def _mapped(path: Path) -> np.ndarray:
    try:
        # Copy-on-write: torch asks for writable memory, and the file stays as it is.
        return np.lib.format.open_memmap(path, mode="c")
    except Exception as error:  # whatever a damaged file makes NumPy raise
        raise DataError(f"{path} is missing or damaged ({one_line(error)}); unpack it again") from error


# Where they are expected under the data root, and what reads them.
EXTERNAL: dict[str, tuple[str, Callable[[Path, tuple[str, ...]], dict[str, Stimuli]]]] = {
    "geirhos": ("texture-vs-shape/stimuli/style-transfer-preprocessed-512", geirhos),
    "cifar10_c": ("CIFAR-10-C", cifar10_c),
}
