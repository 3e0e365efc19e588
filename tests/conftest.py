"""Small things that many tests use."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from kdlib.data import Dataset, DataSpec, load
from kdlib.models import ModelSpec, Network
from kdlib.study import Study
from kdlib.study.runs import RunSpec
from kdlib.train import Training

from .common import write_tiny_profile

matplotlib.use("agg")

CNN = ModelSpec(
    "resnet18",
    small_stem=True,
    options={"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4},
)
VIT = ModelSpec("vit_tiny_patch16_224", options={"embed_dim": 16, "depth": 2, "num_heads": 2})
RECIPES = {
    "cnn": Training(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.05),
    "vit": Training(epochs=2, batch_size=16, optimizer="adamw", learning_rate=1e-3),
}
MODELS = {"cnn": CNN, "vit": VIT}


# Tiny networks gain nothing from threads, and threads that wait for each other lose much on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items) -> None:
    """All tests of the trained study go to one process of pytest-xdist, so that it is trained once."""
    for item in items:
        if "finished" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("finished"))


@pytest.fixture(scope="session")
def shapes() -> Dataset:
    """80 training and 40 test images of the procedural set."""
    return load(DataSpec("shape_texture", train_images=80, options={"test_images": 40}))


@pytest.fixture
def make_network(shapes):
    def make(name: str, seed: int = 0, **options) -> Network:
        return Network(MODELS[name], len(shapes.classes), *shapes.statistics, seed=seed, **options)

    return make


@pytest.fixture(scope="session")
def make_spec(shapes):
    def make(student: str, method: str = "baseline", teacher: str | None = None, **more) -> RunSpec:
        source = RunSpec(shapes.spec, MODELS[teacher], training=RECIPES[teacher]) if teacher else None
        training = more.pop("training", RECIPES[student])
        return RunSpec(shapes.spec, MODELS[student], method, teacher=source, training=training, **more)

    return make


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    """The root of real CIFAR-10 images, where KDLIB_DATA names one."""
    root = os.environ.get("KDLIB_DATA")
    if not root or not any((Path(root) / name).is_dir() for name in ("cifar10", "cifar-10-batches-py")):
        pytest.skip("no CIFAR-10 images: KDLIB_DATA names no folder that has them")
    return Path(root)


@pytest.fixture(scope="session")
def minimal(tmp_path_factory) -> dict:
    return write_tiny_profile(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def finished(minimal) -> Study:
    study = Study(**minimal, quiet=True)
    study.train()
    return study


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root on Linux only")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
