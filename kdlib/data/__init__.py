"""Images as uint8 tensors: CIFAR-10, an image folder, or the procedural shape-texture set.

A data set is decoded once into a memory-mapped array; a fingerprint of its pixels is part of every run's
identity. Augmentation works on whole batches where the data lies, and is a function of (seed, epoch) alone.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity
from tqdm.auto import tqdm

from kdlib import disk
from kdlib.data import procedural
from kdlib.names import one_line, overridden

PROJECT = Path(__file__).parents[2]
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class DataError(RuntimeError):
    """A data set that is missing or damaged: which file, what was expected, how to get it."""


@dataclass(frozen=True)
class DataSpec:
    """Which images a run sees."""

    name: str = "cifar10"  # "cifar10", "shape_texture", or an image folder's name under the data root
    train_images: int | None = None  # class-balanced subset; None: all
    image_size: int = 32  # pixels; images of another size are resized when a folder is decoded
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
        labels = self.labels.numpy()[shuffled]
        by_class = np.argsort(labels, kind="stable")
        first = np.searchsorted(labels[by_class], labels[by_class])
        turn = np.empty(len(self), dtype=np.int64)
        turn[by_class] = np.arange(len(self)) - first
        chosen = np.sort(shuffled[np.argsort(turn, kind="stable")[:count]])
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Dataset:
    """The training images that the spec asks for and all test images, with where they came from."""

    spec: DataSpec
    source: str  # for people, e.g. "CIFAR-10 (image folder, JPEG)"
    classes: tuple[str, ...]
    train: Split
    test: Split

    @property
    def chance(self) -> float:
        """Accuracy of a guesser, with balanced classes."""
        return 1 / len(self.classes)

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (3,) of the training pixels in [0, 1]."""
        pixels = self.train.images.transpose(0, 1).flatten(1)
        share = torch.stack([torch.bincount(channel.long(), minlength=256) for channel in pixels]).double()
        share /= pixels.shape[1]
        value = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ value
        return mean.float(), (share @ value**2 - mean**2).sqrt().float()


def data_root(root: str | Path | None = None) -> Path:
    """The directory of all data: the argument, else the variable KDLIB_DATA, else the project's ``data``."""
    return Path(root or os.environ.get("KDLIB_DATA") or PROJECT / "data").expanduser()


def load(spec: DataSpec, root: str | Path | None = None) -> Dataset:
    """Load a data set; the returned ``spec`` carries the fingerprint of the pixels.

    Raises:
        DataError: if files are missing or damaged, or the pixels are not those that ``spec`` names.
    """
    root = data_root(root)
    if Path(spec.name).name != spec.name:
        raise DataError(f"data set {spec.name!r}: give the name of a folder in the data root, not a path")
    if spec.name == "shape_texture":
        source, classes, train, test = _shape_texture(spec)
    elif spec.name == "cifar10" and (root / "cifar-10-batches-py").is_dir():
        source, classes, train, test = _torchvision_files(root)
    elif (root / spec.name).is_dir():
        source, classes, train, test = _image_folder(root, spec)
    elif spec.name == "cifar10":
        source, classes, train, test = _torchvision_download(root)
    else:
        raise DataError(
            f"no data set {spec.name!r}: expected {root / spec.name}/{{train,test}}/<class>/*.png, or one of "
            "the names cifar10, shape_texture; the data root is set by KDLIB_DATA"
        )
    found = fingerprint(train, test)
    if spec.fingerprint and spec.fingerprint != found:
        raise DataError(
            f"{spec.name} under {root} has the fingerprint {found}, but {spec.fingerprint} was expected: "
            "these are other pixels; set KDLIB_DATA to the data that the run was made with"
        )
    spec = DataSpec(**{**spec.__dict__, "fingerprint": found})
    if (spec.train_images or 0) > len(train):
        raise DataError(
            f"data.train_images is {spec.train_images}, but {spec.name} has {len(train)}; ask for fewer, or "
            "for all with null"
        )
    return Dataset(spec, source, classes, train.subset(spec.train_images), test)


def fingerprint(*splits: Split) -> str:
    """16 hexadecimal digits that name these pixels and labels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------------------------------- sources


def _shape_texture(spec: DataSpec):
    """The procedural set: nothing to read; the test images come from the next seed."""
    options = {"seed": 0, "shape_correlation": 1.0, "texture_correlation": 1.0, "test_images": 2000}
    options = overridden(options, spec.options, "option of the shape_texture data")
    seed, test_images = options.pop("seed"), options.pop("test_images")
    splits = []
    for offset, count in enumerate((spec.train_images or 10_000, test_images)):
        made = procedural.generate(count, 2 * seed + offset, size=spec.image_size, **options)
        splits.append(Split(made.images, made.labels))
    source = "shape-texture set (procedural; correlation with the label: shape {:g}, texture {:g})".format(
        options["shape_correlation"], options["texture_correlation"]
    )
    return source, procedural.SHAPES, *splits


def _torchvision_files(root: Path, source: str = "CIFAR-10 (torchvision's files)"):
    base = root / CIFAR10.base_folder
    files = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    for name, md5 in files:
        if not check_integrity(str(base / name), md5):
            state = "is damaged" if (base / name).exists() else "is missing"
            raise DataError(f"{base / name} {state} (expected md5 {md5}); delete {base} to download it again")

    def decode() -> dict[str, np.ndarray]:
        arrays = {}
        for split in ("train", "test"):
            part = CIFAR10(root, train=split == "train")
            arrays[f"{split}_images"] = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
            arrays[f"{split}_labels"] = np.asarray(part.targets, dtype=np.int64)
        return arrays

    return (
        source,
        CIFAR10_CLASSES,
        *_decoded_once(root, "cifar10-torchvision", [base / n for n, _ in files], decode),
    )


def _torchvision_download(root: Path):
    try:
        CIFAR10(root, download=True)
    except Exception as error:
        raise DataError(
            f"CIFAR-10 is not under {root} and could not be downloaded ({error}); put torchvision's "
            f"{CIFAR10.base_folder}/ or the image folder cifar10/{{train,test}}/<class>/*.png there, "
            "or set KDLIB_DATA"
        ) from error
    return _torchvision_files(root, "CIFAR-10 (torchvision's download)")


def _image_folder(root: Path, spec: DataSpec):
    """``<root>/<name>/{train,test}/<class>/*``; labels count the classes in alphabetical order."""
    base = root / spec.name
    classes = {}
    for split in ("train", "test"):
        if not (base / split).is_dir():
            raise DataError(f"{base / split} is missing; expected {base}/{{train,test}}/<class>/*.png")
        classes[split] = tuple(sorted(p.name for p in (base / split).iterdir() if p.is_dir()))
    expected = CIFAR10_CLASSES if spec.name == "cifar10" else classes["train"]
    for split, found in classes.items():
        if found != expected or not expected:
            raise DataError(
                f"{base / split} has the classes {', '.join(found) or '(none)'}; "
                f"expected {', '.join(expected) or 'one folder a class'}"
            )
    files = {
        split: [
            (path, label)
            for label, name in enumerate(expected)
            for path in sorted((base / split / name).iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
        for split in ("train", "test")
    }
    for split, found in files.items():
        for label, name in enumerate(expected):
            if not any(label == other for _, other in found):
                raise DataError(f"{base / split / name} has no image ({', '.join(IMAGE_SUFFIXES)})")

    def decode() -> dict[str, np.ndarray]:
        arrays = {}
        for split, found in files.items():
            with ThreadPoolExecutor() as pool:
                images = pool.map(lambda item: _decode(item[0], spec.image_size), found)
                bar = tqdm(images, total=len(found), desc=f"decode {spec.name}/{split}", unit="image")
                arrays[f"{split}_images"] = np.stack(list(bar))
            arrays[f"{split}_labels"] = np.array([label for _, label in found], dtype=np.int64)
        return arrays

    paths = [path for found in files.values() for path, _ in found]
    jpeg = any(path.suffix.lower() != ".png" for path in paths)
    label = "CIFAR-10" if spec.name == "cifar10" else spec.name
    source = f"{label} (image folder, {'JPEG' if jpeg else 'PNG'})"
    return source, expected, *_decoded_once(root, f"{spec.name}-{spec.image_size}", paths, decode)


def read_image(path: Path) -> Image.Image:
    """A PNG or JPEG file in RGB; other formats are refused, since some of their readers start programs.

    Raises:
        DataError: if it is damaged, or larger than Pillow takes for a decompression bomb, 89 megapixels.
    """
    try:
        if not path.is_file():
            raise ValueError("no plain file")
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            return image.convert("RGB")
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise DataError(
            f"{path} is damaged or not an image ({one_line(error)}); replace or delete it"
        ) from error


def _decode(path: Path, size: int) -> np.ndarray:
    image = read_image(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def _decoded_once(
    root: Path, name: str, sources: list[Path], decode: Callable[[], dict[str, np.ndarray]]
) -> tuple[Split, Split]:
    """The decoded arrays, memory-mapped; decoded again when a source file's size or time has changed."""
    listing = [
        (str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns)
        for path in sources
        for stat in [path.stat()]
    ]
    key = hashlib.sha256(json.dumps([name, listing]).encode()).hexdigest()[:12]
    folder = cache_folder(root) / f"{name}-{key}"
    with FileLock(f"{folder}.lock"):
        if folder.is_dir() and (problem := disk.damage(folder)):
            warnings.warn(f"{folder} is damaged ({problem}): decoded again", stacklevel=2)
            shutil.rmtree(folder)
        if not folder.is_dir():
            with disk.written(folder) as partial:
                partial.mkdir()
                for part, array in decode().items():
                    np.save(partial / f"{part}.npy", array)
                disk.seal(partial)
    # Copy-on-write: torch asks for writable memory, and the file stays as it is.
    arrays = {path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in folder.glob("*.npy")}
    return (
        Split(arrays["train_images"], arrays["train_labels"]),
        Split(arrays["test_images"], arrays["test_labels"]),
    )


def cache_folder(root: str | Path | None = None) -> Path:
    """Where decoded data and probe images are kept: KDLIB_CACHE, else ``cache`` under the data root.

    Raises:
        DataError: if the folder can't be made.
    """
    folder = Path(os.environ.get("KDLIB_CACHE") or data_root(root) / "cache").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder} can't be written ({error}); set KDLIB_CACHE to a folder that can"
        ) from error
    return folder


# --------------------------------------------------------------------------------------- augmentation


@dataclass(frozen=True)
class EpochPlan:
    """What happens to every training image in one epoch: its place in the order, its crop, its flip."""

    order: Tensor  # (N,) int64
    crop: Tensor  # (N, 2) int64, in [0, 2 * padding]
    flip: Tensor  # (N,) bool


def epoch_plan(count: int, seed: int, epoch: int, padding: int = 4) -> EpochPlan:
    """Draw an epoch's plan on the CPU, so that every device and every method of a seed gets the same one."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return EpochPlan(
        torch.randperm(count, generator=generator),
        torch.randint(0, 2 * padding + 1, (count, 2), generator=generator),
        torch.rand(count, generator=generator) < 0.5,
    )


def augment(images: Tensor, crop: Tensor, flip: Tensor, padding: int = 4) -> Tensor:
    """Crop each image out of its zero-padded self and flip some, in one gather.

    Args:
        images: (B, 3, H, W).
        crop: (B, 2) upper left corner in the padded image; ``padding`` for both leaves an image in place.
        flip: (B,) whether to mirror left and right.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding,) * 4)
    rows = crop[:, :1] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = crop[:, 1:] + torch.where(flip[:, None], width - 1 - columns, columns)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
