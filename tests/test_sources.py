"""Where images come from: folders, CIFAR's own files and the download, and what is wrong with them."""

import errno
import hashlib
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from kdlib import disk
from kdlib.data import (
    CIFAR10_CLASSES,
    DataError,
    DataSpec,
    load,
    read_image,
    sources,
)


def write_folder(root, name="cifar10", classes=CIFAR10_CLASSES, count=3, size=32, suffix="png"):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in classes:
            folder = root / name / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:04}.{suffix}")


def write_published(root, monkeypatch, name="cifar10", classes=CIFAR10_CLASSES):
    """A set's own files with 10 images each, evenly over the classes, and the checksums set to match."""
    published = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    base, label = root / published.base_folder, published.meta["key"].removesuffix("_names")
    base.mkdir(parents=True)
    generator = np.random.default_rng(0)
    (base / published.meta["filename"]).write_bytes(pickle.dumps({f"{label}_names": list(classes)}))
    for batch, _ in (*published.train_list, *published.test_list):
        pixels = generator.integers(0, 256, (10, 3072), dtype=np.uint8)
        labels = [index * len(classes) // 10 for index in range(10)]
        more = {"coarse_labels": [0] * 10, f"{label}s": labels}
        (base / batch).write_bytes(pickle.dumps({"data": pixels} | more))

    def md5(file: str) -> str:
        return hashlib.md5((base / file).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        monkeypatch.setattr(published, part, [[file, md5(file)] for file, _ in getattr(published, part)])
    monkeypatch.setattr(published, "meta", published.meta | {"md5": md5(published.meta["filename"])})
    return base


def test_image_folder_keeps_pixels_and_labels_together(tmp_path):
    write_folder(tmp_path)
    found = load(DataSpec("cifar10"), tmp_path)
    assert found.source == "CIFAR-10 (image folder, PNG)"
    assert found.classes == CIFAR10_CLASSES
    for index in (0, 4, 29):
        label = found.test.labels[index]
        path = tmp_path / "cifar10" / "test" / CIFAR10_CLASSES[label] / f"{index % 3:04}.png"
        pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)
        assert np.array_equal(found.test.images[index].numpy(), pixels)


def test_images_are_decoded_once(tmp_path, monkeypatch):
    write_folder(tmp_path, count=1)
    first = load(DataSpec("cifar10"), tmp_path)
    monkeypatch.setattr(sources, "_decode", None)
    again = load(DataSpec("cifar10"), tmp_path)
    assert torch.equal(first.train.images, again.train.images)
    assert first.train.images.is_contiguous() and again.train.images.is_contiguous()


def test_decoded_images_are_read_where_no_lock_can_be_written(tmp_path, monkeypatch):
    def refuse(*more, **options):
        raise PermissionError(errno.EROFS, "Read-only file system")

    write_folder(tmp_path, count=1)
    first = load(DataSpec("cifar10"), tmp_path)
    monkeypatch.setattr(disk, "FileLock", refuse)
    again = load(DataSpec("cifar10"), tmp_path)
    assert torch.equal(first.train.images, again.train.images)


def test_a_changed_file_is_decoded_again_and_changes_the_fingerprint(tmp_path):
    write_folder(tmp_path, count=1)
    before = load(DataSpec("cifar10"), tmp_path)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "cifar10" / "train" / "cat" / "0000.png")
    after = load(DataSpec("cifar10"), tmp_path)
    assert before.spec.fingerprint != after.spec.fingerprint
    with pytest.raises(DataError, match=f"fingerprint .* but {before.spec.fingerprint} was expected"):
        load(before.spec, tmp_path)


def test_own_folder_with_other_classes_and_sizes(tmp_path):
    write_folder(tmp_path, "pets", ("cat", "dog"), size=40, suffix="jpg")
    found = load(DataSpec("pets", image_size=24), tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.source == "pets (image folder, JPEG)"
    assert found.train.images.shape == (6, 3, 24, 24)
    assert found.chance == 0.5
    with pytest.raises(DataError, match="data.train_images is 7, but pets has 6; ask for fewer, or for all"):
        load(DataSpec("pets", train_images=7), tmp_path)


def test_of_an_image_that_is_not_square_the_centre_is_used(tmp_path):
    write_folder(tmp_path, "pets", ("cat", "dog"), count=1)
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("blue", (32, 0, 64, 32))
    for image, split in ((wide, "train"), (wide.transpose(Image.Transpose.ROTATE_90), "test")):
        image.save(tmp_path / "pets" / split / "cat" / "0000.png")
    found = load(DataSpec("pets", image_size=16), tmp_path)
    for split in (found.train, found.test):
        inner = split.images[0, :, 3:-3, 3:-3]  # at the edges a filter mixes in what is beyond
        assert not inner[:2].any() and bool((inner[2] == 255).all())
    square = Image.open(tmp_path / "pets" / "train" / "dog" / "0000.png")
    expected = np.asarray(square.resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(found.train.images[1].numpy(), expected)


def test_classes_count_alike_however_many_images_they_have(tmp_path):
    write_folder(tmp_path, "pets", ("cat", "dog"), count=9)
    for index in range(1, 9):
        (tmp_path / "pets" / "test" / "dog" / f"{index:04}.png").unlink()
    with pytest.warns(UserWarning, match="pets: .* not equally many in every class: 1 of each .* 2 of 10"):
        found = load(DataSpec("pets"), tmp_path)
    assert found.test.labels.tolist() == [0, 1]  # who always says "cat" is at chance
    assert len(found.train) == 18
    assert found.test.balanced() is found.test


def test_test_images_that_are_training_images_are_counted(tmp_path):
    write_folder(tmp_path, "pets", ("cat", "dog"))
    for index in (0, 2):
        path = tmp_path / "pets" / "train" / "cat" / f"{index:04}.png"
        Image.open(path).save(tmp_path / "pets" / "test" / "dog" / path.name, compress_level=1)
    with pytest.warns(UserWarning, match="pets: 2 of 6 test images are also training images"):
        load(DataSpec("pets"), tmp_path)


# --------------------------------------------------------------------------------------- image files


def test_a_photograph_is_turned_upright(tmp_path):
    image, exif = Image.new("RGB", (16, 8), "red"), Image.Exif()
    image.paste("blue", (0, 0, 8, 8))
    exif[0x0112] = 6  # to be turned by 90 degrees: left becomes top
    image.save(tmp_path / "x.png", exif=exif)
    seen = read_image(tmp_path / "x.png")
    assert seen.size == (8, 16)
    assert seen.getpixel((4, 2)) == (0, 0, 255) and seen.getpixel((4, 13)) == (255, 0, 0)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_hidden_colours_are_not_seen(suffix, tmp_path):
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / f"x.{suffix}", lossless=True, exact=True)
    assert read_image(tmp_path / f"x.{suffix}").getcolors() == [(64, (255, 255, 255))]


def test_sixteen_bits_keep_their_range(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert np.asarray(read_image(tmp_path / "x.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["webp", "bmp", "jpeg"])
def test_other_formats_are_read(suffix, tmp_path):
    write_folder(tmp_path, "pets", ("cat", "dog"), count=1, suffix=suffix)
    found = load(DataSpec("pets"), tmp_path)
    assert found.source == f"pets (image folder, {suffix.upper()})" and len(found.train) == 2


def test_hidden_files_are_passed_over_and_all_unreadable_ones_told(tmp_path):
    write_folder(tmp_path, "pets", ("cat", "dog"))
    (tmp_path / "pets" / "train" / ".ipynb_checkpoints").mkdir()
    for name in ("._0000.png", ".DS_Store"):
        (tmp_path / "pets" / "train" / "cat" / name).write_bytes(b"no image")
    assert len(load(DataSpec("pets"), tmp_path).train) == 6
    for name in ("train/dog/0000.png", "train/dog/0001.png", "test/dog/0001.png", "test/dog/x.txt"):
        (tmp_path / "pets" / name).write_bytes(b"no image")
    told = r"4 of 13 files of pets can't be read: .*0000.*0001.*0001.*; \.\.\.$"
    with pytest.raises(DataError, match=told):
        load(DataSpec("pets"), tmp_path)


def test_one_class_is_too_few(tmp_path):
    write_folder(tmp_path, "pets", ("cat",))
    with pytest.raises(DataError, match="has the classes cat; expected a folder for each of two classes"):
        load(DataSpec("pets"), tmp_path)


def test_images_of_another_size_than_asked_for_are_refused(tmp_path, monkeypatch):
    write_published(tmp_path, monkeypatch)
    told = "image_size is 64, but CIFAR-10 .* has images of 32 px; set it to 32"
    with pytest.raises(DataError, match=told):
        load(DataSpec("cifar10", image_size=64), tmp_path)


# ------------------------------------------------------------------------------- CIFAR's own files --


def test_the_batches_come_before_the_folder(tmp_path, monkeypatch):
    write_folder(tmp_path, count=1)
    base = write_published(tmp_path, monkeypatch)
    found = load(DataSpec("cifar10"), tmp_path)
    assert found.source == "CIFAR-10 (Python version)"
    assert len(found.train) == 50 and len(found.test) == 10
    second = pickle.loads((base / "data_batch_2").read_bytes())["data"]
    assert np.array_equal(found.train.images[17].numpy(), second[7].reshape(3, 32, 32))
    assert found.train.labels.tolist() == list(range(10)) * 5


def test_cifar100_has_its_fine_labels(tmp_path, monkeypatch):
    names = [f"class {index}" for index in range(100)]
    base = write_published(tmp_path, monkeypatch, "cifar100", names)
    found = load(DataSpec("cifar100"), tmp_path)
    assert found.source == "CIFAR-100 (Python version)" and found.classes == tuple(names)
    assert found.chance == 0.01 and found.test.labels.tolist() == list(range(0, 100, 10))
    pixels = pickle.loads((base / "train").read_bytes())["data"]
    assert np.array_equal(found.train.images[3].numpy(), pixels[3].reshape(3, 32, 32))
    (base / "meta").unlink()
    with pytest.raises(DataError, match=r"cifar-100-python is damaged .*delete it to download it again"):
        load(DataSpec("cifar100"), tmp_path)


@pytest.fixture
def web(tmp_path):
    """The address of a server on this machine that hands out ``tmp_path / "web"``."""
    (tmp_path / "web").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_download_unpacks_checks_and_loads(tmp_path, web, monkeypatch):
    base = write_published(tmp_path / "source", monkeypatch)
    archive = tmp_path / "web" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, base.name)
    monkeypatch.setattr(CIFAR10, "url", f"{web}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    found = load(DataSpec("cifar10"), tmp_path / "root")
    assert found.source == "CIFAR-10 (Python version, downloaded)"
    assert len(found.test) == 10


def test_failed_download_says_where_to_put_the_data(tmp_path, web, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", f"{web}/nowhere.tar.gz")
    with pytest.raises(DataError, match="could not be downloaded .* set KDLIB_DATA"):
        load(DataSpec("cifar10"), tmp_path / "root")


def test_a_damaged_batch_is_told_with_the_remedy(tmp_path, monkeypatch):
    base = write_published(tmp_path, monkeypatch)
    (base / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is damaged .*delete it to download it again"):
        load(DataSpec("cifar10"), tmp_path)


def test_damaged_image_is_named(tmp_path):
    write_folder(tmp_path, count=1)
    (tmp_path / "cifar10" / "test" / "ship" / "0000.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"ship/0000\.png is damaged or not an image"):
        load(DataSpec("cifar10"), tmp_path)


def test_missing_class_names_found_and_expected(tmp_path):
    write_folder(tmp_path, classes=CIFAR10_CLASSES[:9], count=1)
    with pytest.raises(DataError, match="has the classes airplane, .*; expected airplane, .*truck"):
        load(DataSpec("cifar10"), tmp_path)


def test_unknown_data_set_says_what_would_be_read(tmp_path):
    with pytest.raises(DataError, match="no data set 'cifar11': expected .*cifar11/{train,test}/<class>"):
        load(DataSpec("cifar11"), tmp_path)


def test_real_cifar10_has_its_shape(cifar10_root):
    found = load(DataSpec("cifar10", train_images=1000), cifar10_root)
    assert found.classes == CIFAR10_CLASSES
    assert found.train.images.shape == (1000, 3, 32, 32)
    assert torch.equal(torch.bincount(found.test.subset(500).labels), torch.full((10,), 50))
