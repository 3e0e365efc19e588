"""Published stimuli: labels that follow the files' names, files checked before they are believed."""

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.data import CIFAR10_CLASSES, DataError
from kdlib.probes.external import cifar10_c, geirhos

NAMES = [
    *("cat2-dog1", "cat10-boat3", "cat2-airplane1", "car1-bird2", "airplane1-cat7"),
    *("cat2-cat5", "car3-car1", "bear1-cat2", "cat1-oven2", "cat2"),
]


def write_geirhos(folder, names, side=64):
    pixels = np.random.default_rng(0)
    for name in names:
        shape = folder / name.rstrip("0123456789").split("-")[0].rstrip("0123456789")
        shape.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.integers(256, size=(side, side, 3), dtype=np.uint8)).save(
            shape / f"{name}.png"
        )


def write_cifar10_c(folder, count=4, **arrays):
    """``count`` images at each severity, whose grey level is 10 for each severity and 1 for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = (10 * np.arange(1, 6)[:, None] + np.arange(count)).astype(np.uint8).reshape(-1, 1, 1, 1)
    images = np.broadcast_to(levels, (5 * count, 32, 32, 3))
    usual = {"fog": images, "contrast": 255 - images, "labels": np.tile(np.arange(count) + 3, 5)}
    for name, array in (usual | arrays).items():
        np.save(folder / f"{name}.npy", array)


# Geirhos


def test_shape_and_texture_are_read_from_the_names_and_sorted_by_number(tmp_path):
    write_geirhos(tmp_path, NAMES)
    made = geirhos(tmp_path, CIFAR10_CLASSES)
    conflict, same = made["geirhos"], made["geirhos_no_conflict"]
    # airplane1-cat7, car1-bird2, cat2-airplane1, cat2-dog1, cat10-boat3; bears and ovens are no classes
    assert conflict.labels.tolist() == [0, 1, 3, 3, 3] and conflict.texture_labels.tolist() == [3, 2, 0, 5, 8]
    assert same.labels.tolist() == [1, 3] and same.texture_labels is None
    assert conflict.images.dtype == torch.uint8 and conflict.images.shape == (5, 3, 32, 32)


def test_images_of_one_shape_exemplar_share_their_id_in_both_sets(tmp_path):
    write_geirhos(tmp_path, NAMES)
    made = geirhos(tmp_path, CIFAR10_CLASSES)
    # airplane1, car1, car3, cat2, cat10
    assert made["geirhos"].ids.tolist() == [0, 1, 3, 3, 4] and made["geirhos_no_conflict"].ids.tolist() == [
        2,
        3,
    ]


def test_the_order_of_a_directory_changes_nothing(tmp_path, monkeypatch):
    write_geirhos(tmp_path, NAMES)
    first = geirhos(tmp_path, CIFAR10_CLASSES)["geirhos"]
    listing = sorted(tmp_path.glob("*/*.png"), key=lambda path: path.name[::-1])
    for order in (listing, listing[::-1]):
        monkeypatch.setattr(type(tmp_path), "glob", lambda self, pattern, order=order: iter(order))
        again = geirhos(tmp_path, CIFAR10_CLASSES)["geirhos"]
        assert again.sha256 == first.sha256 and torch.equal(again.texture_labels, first.texture_labels)


def test_labels_are_places_in_the_classes_given(tmp_path):
    write_geirhos(tmp_path, NAMES)
    backwards = geirhos(tmp_path, CIFAR10_CLASSES[::-1])["geirhos"]
    assert backwards.labels.tolist() == [9, 8, 6, 6, 6]


@pytest.mark.parametrize("box", [1, 7])
def test_every_pixel_is_the_mean_of_a_box(tmp_path, box):
    means = np.random.default_rng(0).integers(24, 232, size=(32, 32, 3))
    around = (np.arange(box**2) - box**2 // 2).reshape(box, box)  # adds up to nothing
    pixels = means.repeat(box, axis=0).repeat(box, axis=1) + np.tile(around, (32, 32))[:, :, None]
    (tmp_path / "cat").mkdir()
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "cat" / "cat1-dog1.png")
    made = geirhos(tmp_path, CIFAR10_CLASSES)
    assert list(made) == ["geirhos"]  # none without conflict here
    assert np.array_equal(made["geirhos"].images[0].permute(1, 2, 0).numpy(), means)


def test_classes_that_a_data_set_lacks_are_named(tmp_path):
    with pytest.raises(ValueError, match="need the class bird, ship; use them with CIFAR-10"):
        geirhos(tmp_path, ("airplane", "automobile", "cat", "dog", "truck"))


def test_images_of_another_size_and_damaged_ones_are_named(tmp_path):
    write_geirhos(tmp_path / "odd", ["cat1-dog1"], side=100)
    with pytest.raises(
        DataError, match=r"cat1-dog1.png is 100x100 px; expected a square with a multiple of 32"
    ):
        geirhos(tmp_path / "odd", CIFAR10_CLASSES)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "cat1-dog1.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"cat1-dog1.png is damaged"):
        geirhos(tmp_path, CIFAR10_CLASSES)


# CIFAR-10-C


def test_every_corruption_is_cut_into_its_severities(tmp_path):
    write_cifar10_c(tmp_path)
    made = cifar10_c(tmp_path, CIFAR10_CLASSES)
    assert list(made) == [f"{name}_c{severity}" for name in ("contrast", "fog") for severity in (1, 3, 5)]
    for name, level in (("fog_c1", 10), ("fog_c5", 50)):
        stimuli = made[name]
        assert stimuli.images.dtype == torch.uint8 and stimuli.images.shape == (4, 3, 32, 32)
        assert torch.equal(stimuli.images[:, 1, 7, 9], torch.arange(level, level + 4).byte())
        assert stimuli.labels.tolist() == [3, 4, 5, 6] and stimuli.ids.tolist() == [0, 1, 2, 3]


def test_rows_columns_and_channels_keep_their_places(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    write_cifar10_c(tmp_path, fog=images)
    made = cifar10_c(tmp_path, CIFAR10_CLASSES)["fog_c3"]
    assert np.array_equal(made.images.numpy(), images[8:12].transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "name, array, text",
    [
        ("fog", np.zeros((20, 32, 32, 3)), r"fog.npy holds float64 \(20, 32, 32, 3\); expected uint8"),
        (
            "fog",
            np.zeros((19, 32, 32, 3), np.uint8),
            r"fog.npy holds uint8 \(19, .*expected uint8 \(20, 32, 32, 3",
        ),
        ("labels", np.zeros(18, int), r"labels.npy holds int64 \(18,\); expected five times"),
        ("labels", np.arange(20), r"labels.npy holds int64 \(20,\); expected .* from 0 to 9"),
        ("labels", np.zeros(20), "labels.npy holds float64"),
        ("fog", np.array([{}] * 20), "fog.npy is missing or damaged"),
    ],
)
def test_a_file_that_is_not_as_published_is_named_with_what_was_expected(tmp_path, name, array, text):
    write_cifar10_c(tmp_path, **{name: array})
    with pytest.raises(DataError, match=text):
        cifar10_c(tmp_path, CIFAR10_CLASSES)


def test_missing_labels_and_a_file_cut_short_are_named(tmp_path):
    write_cifar10_c(tmp_path)
    (tmp_path / "fog.npy").write_bytes((tmp_path / "fog.npy").read_bytes()[:-100])
    with pytest.raises(DataError, match="fog.npy is missing or damaged"):
        cifar10_c(tmp_path, CIFAR10_CLASSES)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(DataError, match="labels.npy is missing or damaged"):
        cifar10_c(tmp_path, CIFAR10_CLASSES)


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not disc, square; use it with CIFAR-10"):
        cifar10_c(tmp_path, ("disc", "square"))


# Both


@pytest.mark.parametrize(("read", "remedy"), [(geirhos, "clone https"), (cifar10_c, "download https")])
@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_missing_or_empty_folder_is_named_with_how_to_fill_it(tmp_path, read, remedy, folder):
    with pytest.raises(DataError) as caught:
        read(tmp_path / folder, CIFAR10_CLASSES)
    assert f"{tmp_path / folder} is missing or holds none of" in str(caught.value)
    assert remedy in str(caught.value)
