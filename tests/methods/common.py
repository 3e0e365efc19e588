"""What the tests of the methods share."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from kdlib.methods import METHODS, Batch, Method
from kdlib.models import Network
from kdlib.train import Progress, fit

from ..conftest import RECIPES

CNN_TO_VIT, VIT_TO_CNN = ("cnn", "vit"), ("vit", "cnn")
# Methods that one direction only has a meaning for; the others work in both.
ONE_WAY = {"cskd": CNN_TO_VIT, "vlfkd": CNN_TO_VIT, "deit": CNN_TO_VIT, "capd": VIT_TO_CNN}
TAUGHT = [
    (name, *direction)
    for name, method in METHODS.items()
    if method.uses_teacher
    for direction in (CNN_TO_VIT, VIT_TO_CNN)
    if ONE_WAY.get(name, direction) == direction
]


def make_batch(shapes, count: int = 16, start: int = 0, progress: float = 0.0) -> Batch:
    """Training images as they are."""
    index = torch.arange(start, start + count)
    images, flip = shapes.train.images[index], torch.zeros(count, dtype=bool)
    return Batch(images, shapes.train.labels[index], index, progress, images, flip)


def built(name: str, student: Network, teacher: Network, shapes, **hyper) -> Method:
    """A method of the registry, built with a fixed seed; what it trains on the teacher is frozen."""
    torch.manual_seed(0)
    method = METHODS[name](**hyper)
    method.build(student, teacher, shapes.train)
    if method.teacher_part:
        method.teacher_part.requires_grad_(False)
    return method


def terms_of(
    method: Method, student: Network, teacher: Network, batch: Batch, half: bool = False
) -> dict[str, Tensor]:
    """The method's terms on a batch, as the training loop gets them; ``half``: the networks in bfloat16."""
    batch = replace(batch, images=method.views(batch))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        with torch.no_grad():
            taught = teacher(batch.images, method.reads) if method.reads else None
        learned = student(batch.images, method.reads_student)
    return method(batch, learned, taught)


def trained(student, teacher, method, shapes, resume: Progress | None = None) -> list[Progress]:
    """Train the method's part on the teacher, then the student; the state after each epoch."""
    states = []
    fit(
        student,
        teacher,
        method,
        shapes,
        RECIPES["cnn"],
        0,
        resume,
        lambda progress: states.append(copy.deepcopy(progress)),
        quiet=True,
    )
    return states
