"""Where images come from: :func:`load` and its four sources.

A source returns a name for people, the classes, the training split and the test split.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from kdlib import disk
from kdlib.data.base import DataError, Dataset, DataSpec, Split, cache_folder, data_root
from kdlib.messages import one_line, overridden, progress_bar

Source = tuple[str, tuple[str, ...], Split, Split]
CIFAR = {  # the title and the folder of its Python version, as published by Krizhevsky (2009)
    "cifar10": ("CIFAR-10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR-100", "cifar-100-python"),
}
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # Pillow's readers of some others start programs
READER = 4  # counts the changes of how images are read: what an earlier one decoded is decoded again
TOLD = 3  # unreadable files that an error names


def load(spec: DataSpec, root: str | Path | None = None) -> Dataset:
    """Load a data set; the returned ``spec`` carries the fingerprint of the pixels.

    Test images are taken equally many from each class, as many as the rarest has: so every mean over them
    lets classes count alike, and a network that always names the commonest class is at chance. Warns where
    that leaves images out, and where test images are also training images.

    Raises DataError if files are missing or damaged, or the pixels are not those that ``spec`` names.
    """
    root = data_root(root)
    if Path(spec.name).name != spec.name:
        raise DataError(f"data set {spec.name!r}: give the name of a folder in the data root, not a path")
    published = spec.name in CIFAR and (root / CIFAR[spec.name][1]).is_dir()
    if spec.name == "shape_texture":
        source, classes, train, test = _shape_texture(spec)
    elif (root / spec.name).is_dir() and not published:
        source, classes, train, test = _image_folder(root, spec)
    elif spec.name in CIFAR:
        source, classes, train, test = _cifar(root, spec.name)
    else:
        raise DataError(
            f"no data set {spec.name!r}: expected {root / spec.name}/{{train,test}}/<class>/*.png, or one of "
            f"the names {', '.join(CIFAR)}, shape_texture; the data root is set by --data or KDLIB_DATA"
        )
    if (side := train.images.shape[-1]) != spec.image_size:
        told = f"data.image_size is {spec.image_size}, but {source} has images of {side} px"
        raise DataError(f"{told}; set it to {side}, or give an image folder, which is resized")
    found = fingerprint(train, test)
    if spec.fingerprint and spec.fingerprint != found:
        raise DataError(
            f"{spec.name} under {root} has the fingerprint {found}, but {spec.fingerprint} was expected: "
            "the pixels differ; set KDLIB_DATA to the data that the run was trained on"
        )
    if (spec.train_images or 0) > len(train):
        told = f"data.train_images is {spec.train_images}, but {spec.name} has {len(train)}"
        raise DataError(f"{told}; ask for fewer, or for all with null")
    spec = replace(spec, fingerprint=found)
    data = Dataset(spec, source, classes, train.subset(spec.train_images), test.balanced())
    for told in _doubts(data, len(test)):
        warnings.warn(f"{spec.name}: {told}", stacklevel=2)
    return data


def _doubts(data: Dataset, test_images: int) -> Iterator[str]:
    """What makes the test images fewer or easier than they seem, a line each."""
    kept = len(data.test)
    if kept < test_images:
        yield (
            f"the test images are not equally many in every class: {kept // len(data.classes)} of each are "
            f"used, {kept} of {test_images}, so that classes count alike"
        )
    train = {hash(image.tobytes()) for image in data.train.images.numpy()}
    twice = sum(hash(image.tobytes()) in train for image in data.test.images.numpy())
    if twice:
        yield f"{twice} of {kept} test images are also training images, so accuracies are too high"


def fingerprint(*splits: Split) -> str:
    """16 hexadecimal digits that name these pixels and labels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _shape_texture(spec: DataSpec) -> Source:
    """The procedural set: nothing to read; the test images come from the next seed."""
    from kdlib.data import procedural

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


def _cifar(root: Path, name: str) -> Source:
    """The files as their authors publish them: pickles, of which torchvision opens none with a wrong md5."""
    from torchvision import datasets  # here, since torchvision takes seconds to import

    title, folder = CIFAR[name]
    there = (root / folder).is_dir()
    how = "Python version" if there else "Python version, downloaded"
    try:
        kind = getattr(datasets, name.upper())
        parts = [kind(root, train=train, download=not there) for train in (True, False)]
    except Exception as error:
        if there:
            told = f"{root / folder} is damaged or incomplete ({one_line(error)})"
            raise DataError(f"{told}; delete it to download it again") from error
        raise DataError(
            f"{title} is not under {root} and could not be downloaded ({one_line(error)}); put its Python "
            f"version, {folder}/, or the image folder {name}/{{train,test}}/<class>/*.png there, "
            "or set KDLIB_DATA"
        ) from error
    pixels = [torch.from_numpy(part.data.transpose(0, 3, 1, 2)).contiguous() for part in parts]
    splits = [Split(images, torch.tensor(part.targets)) for images, part in zip(pixels, parts, strict=True)]
    return f"{title} ({how})", tuple(parts[0].classes), *splits


def _image_folder(root: Path, spec: DataSpec) -> Source:
    """``<root>/<name>/{train,test}/<class>/*``; labels count the classes in alphabetical order.

    Decoded once, and again when a file's size or time has changed.
    """
    base = root / spec.name
    expected = CIFAR10_CLASSES if spec.name == "cifar10" else _classes(base / "train")
    for split in ("train", "test"):
        if (classes := _classes(base / split)) != expected or len(expected) < 2:
            wanted = ", ".join(expected) if len(expected) > 1 else "a folder for each of two classes or more"
            found = f"{base / split} has the classes {', '.join(classes) or '(none)'}"
            raise DataError(f"{found}; expected {wanted}, in each of {base}/{{train,test}}")
    files = {
        split: [(path, label) for label, name in enumerate(expected) for path in _images(base / split / name)]
        for split in ("train", "test")
    }
    paths = [path for items in files.values() for path, _ in items]

    def decode() -> disk.Arrays:
        found = {}
        for split, items in files.items():
            with ThreadPoolExecutor() as pool:
                images = pool.map(lambda item: _decode(item[0], spec.image_size), items)
                shown = {"desc": f"decode {spec.name}/{split}", "total": len(items), "unit": "image"}
                found[split] = list(progress_bar(images, **shown))
        errors = [image for images in found.values() for image in images if isinstance(image, DataError)]
        if errors:
            told = "; ".join(map(str, errors[:TOLD])) + "; ..." * (len(errors) > TOLD)
            raise DataError(f"{len(errors)} of {len(paths)} files of {spec.name} can't be read: {told}")
        return {split: np.stack(images) for split, images in found.items()}

    stats = [(str(path.relative_to(root)), path.stat()) for path in paths]
    listing = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    key = hashlib.sha256(json.dumps([READER, listing]).encode()).hexdigest()[:12]
    place = cache_folder(root) / f"{spec.name}-{spec.image_size}-{key}.npz"
    images = disk.kept(place, decode, place.with_suffix(".lock"))
    train, test = (
        Split(torch.from_numpy(images[split]), torch.tensor([label for _, label in items]))
        for split, items in files.items()
    )
    kinds = {path.suffix[1:].upper().replace("JPG", "JPEG") for path in paths}
    label = "CIFAR-10" if spec.name == "cifar10" else spec.name
    return f"{label} (image folder, {', '.join(sorted(kinds))})", expected, train, test


def _shown(folder: Path) -> list[Path]:
    """What a folder holds, in order; hidden names are what file managers and notebooks leave behind."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(path.name for path in _shown(folder) if path.is_dir())


def _images(folder: Path) -> list[Path]:
    """Every file of a class: one that is no image is told, rather than left out."""
    if paths := _shown(folder):
        return paths
    raise DataError(f"{folder} has no image ({', '.join(FORMATS)})")


def read_image(path: Path) -> Image.Image:
    """A file of one of FORMATS as it is meant to be seen: upright, on white where transparent, in 8-bit RGB.

    Raises DataError if it is damaged, or larger than Pillow takes for a decompression bomb, 89 megapixels.
    """
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            return _as_seen(ImageOps.exif_transpose(image))
    except Exception as error:  # whatever a damaged file makes Pillow raise
        told = f"{path} is damaged or not an image ({one_line(error)}); replace or delete it"
        raise DataError(told) from error


def _as_seen(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, of which Pillow's conversion would clip all above 255
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:  # pixels that nobody sees have colours too
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _decode(path: Path, size: int) -> np.ndarray | DataError:
    """The square about the centre, uint8 (3, size, size), or why there is none."""
    try:
        image = read_image(path)
    except DataError as error:
        return error
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
