"""Where images come from: :func:`load` and its four sources.

A source returns a name for people, the classes, the training split and the test split.
"""

import hashlib
import json
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
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
READER = 3  # counts the changes of how images are read: what an earlier one decoded is decoded again
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
    if spec.name == "shape_texture":
        source, classes, train, test = _shape_texture(spec)
    elif spec.name in CIFAR and (root / CIFAR[spec.name][1]).is_dir():
        source, classes, train, test = _cifar_files(root, spec.name)
    elif (root / spec.name).is_dir():
        source, classes, train, test = _image_folder(root, spec)
    elif spec.name in CIFAR:
        source, classes, train, test = _cifar_download(root, spec.name)
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


def _published(name: str) -> type:
    """What torchvision knows of a set as its authors publish it: its files, their md5, and its address."""
    from torchvision import datasets  # here, since torchvision takes seconds to import

    return getattr(datasets, name.upper())


def _cifar_files(root: Path, name: str, how: str = "Python version") -> Source:
    """The files as their authors publish them: pickles, so none is opened unless its md5 is right."""
    web, parts = _published(name), []
    names = web.meta["key"]  # "label_names", or "fine_label_names", beside which lie coarse ones
    for file, md5 in ((web.meta["filename"], web.meta["md5"]), *web.train_list, *web.test_list):
        path = root / CIFAR[name][1] / file
        content = path.read_bytes() if path.is_file() else None
        if content is None or hashlib.md5(content).hexdigest() != md5:
            state = "is missing" if content is None else "is damaged"
            raise DataError(f"{path} {state} (expected md5 {md5}); delete {path.parent} to download it again")
        parts.append(pickle.loads(content, encoding="latin1"))
    about, *batches = parts
    pixels = [torch.from_numpy(batch["data"]).view(-1, 3, 32, 32) for batch in batches]
    labels = [torch.tensor(batch[names.replace("_names", "s")]) for batch in batches]
    train, test = Split(torch.cat(pixels[:-1]), torch.cat(labels[:-1])), Split(pixels[-1], labels[-1])
    return f"{CIFAR[name][0]} ({how})", tuple(about[names]), train, test


def _cifar_download(root: Path, name: str) -> Source:
    from torchvision.datasets.utils import download_and_extract_archive

    web = _published(name)
    try:
        download_and_extract_archive(web.url, root, filename=web.filename, md5=web.tgz_md5)
    except Exception as error:
        raise DataError(
            f"{CIFAR[name][0]} is not under {root} and could not be downloaded ({error}); put its Python "
            f"version, {CIFAR[name][1]}/, or the image folder {name}/{{train,test}}/<class>/*.png there, "
            "or set KDLIB_DATA"
        ) from error
    return _cifar_files(root, name, "Python version, downloaded")


def _image_folder(root: Path, spec: DataSpec) -> Source:
    """``<root>/<name>/{train,test}/<class>/*``; labels count the classes in alphabetical order."""
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

    def decode() -> Iterator[tuple[str, np.ndarray]]:
        errors = []
        for split, items in files.items():
            with ThreadPoolExecutor() as pool:
                images = pool.map(lambda item: _decode(item[0], spec.image_size), items)
                shown = {"desc": f"decode {spec.name}/{split}", "total": len(items), "unit": "image"}
                images = list(progress_bar(images, **shown))
            errors += [image for image in images if isinstance(image, DataError)]
            if not errors:
                yield f"{split}_images", np.stack(images)
                yield f"{split}_labels", np.array([label for _, label in items])
        if errors:
            told = "; ".join(map(str, errors[:TOLD])) + "; ..." * (len(errors) > TOLD)
            raise DataError(f"{len(errors)} of {len(paths)} files of {spec.name} can't be read: {told}")

    paths = [path for items in files.values() for path, _ in items]
    kinds = {path.suffix[1:].upper().replace("JPG", "JPEG") for path in paths}
    label = "CIFAR-10" if spec.name == "cifar10" else spec.name
    train, test = _decoded_once(root, f"{spec.name}-{spec.image_size}", paths, decode)
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
    return np.asarray(image).transpose(2, 0, 1)


def _decoded_once(root: Path, name: str, files: list[Path], decode: Callable) -> tuple[Split, Split]:
    """The decoded arrays, memory-mapped; decoded again when a source file's size or time has changed."""
    stats = [(str(path.relative_to(root)), path.stat()) for path in files]
    listing = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    key = hashlib.sha256(json.dumps([READER, name, listing]).encode()).hexdigest()[:12]
    folder = cache_folder(root) / f"{name}-{key}"
    with disk.lock(Path(f"{folder}.lock"), folder):
        if folder.is_dir() and (problem := disk.damage(folder)):
            warnings.warn(f"{folder} is damaged ({problem}): decoded again", stacklevel=2)
            shutil.rmtree(folder)
        if not folder.is_dir():
            with disk.written(folder) as partial:
                partial.mkdir()
                for part, array in decode():
                    np.save(partial / f"{part}.npy", array)
                disk.seal(partial)
    # Copy-on-write: torch asks for writable memory, and the file stays as it is.
    arrays = {path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in folder.glob("*.npy")}
    train, test = (Split(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test"))
    return train, test
