import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from .common import CNN_TO_VIT, VIT_TO_CNN, built, make_batch, terms_of


def make_students(direction, make_network):
    teacher, student = direction
    return make_network(student, seed=1, heads=("class", "distillation")), make_network(teacher).eval()


@pytest.mark.parametrize("direction", [CNN_TO_VIT, VIT_TO_CNN])
def test_each_head_learns_from_its_own_teacher_only(direction, make_network, shapes):
    """A CNN student has no token, so it reads both heads from its embedding."""
    for term, of_label in (("label", True), ("decision", False)):
        student, teacher = make_students(direction, make_network)
        method = built("deit", student, teacher, shapes)
        terms_of(method, student, teacher, make_batch(shapes))[term].backward()
        assert (student.backbone.get_classifier().weight.grad is not None) == of_label
        assert (student.head_dist.weight.grad is not None) == (not of_label)


def test_deit_of_uniform_heads_is_ln_10_and_of_equal_heads_the_cross_entropy(make_network, shapes):
    student, teacher = make_students(CNN_TO_VIT, make_network)
    method, batch = built("deit", student, teacher, shapes), make_batch(shapes)
    output, teacher_output = student(batch.images), teacher(batch.images)
    sure = replace(teacher_output, logits=F.one_hot(batch.labels, 10).float())
    for logits, expected in (
        (torch.zeros(16, 10), math.log(10)),
        (output.logits, F.cross_entropy(output.logits, batch.labels).item()),
    ):
        equal = replace(output, heads={"class": logits, "distillation": logits})
        assert sum(method(batch, equal, sure).values()).item() == pytest.approx(expected, abs=1e-6)


def test_only_the_labels_are_smoothed(make_network, shapes):
    student, teacher = make_students(CNN_TO_VIT, make_network)
    batch = make_batch(shapes)
    plain, smooth = (
        terms_of(built("deit", student, teacher, shapes, smoothing=smoothing), student, teacher, batch)
        for smoothing in (0.0, 0.1)
    )
    assert plain["decision"] == smooth["decision"]
    uniform = -F.log_softmax(student(batch.images).heads["class"], 1).mean()
    expected = 0.9 * plain["label"] + 0.1 * 0.5 * uniform
    assert smooth["label"].item() == pytest.approx(expected.item(), abs=1e-6)
