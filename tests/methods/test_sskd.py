import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdlib.methods.lm import soft_divergence
from kdlib.methods.sskd import SSKD, divergence_of_kept, kept_rows, similarity
from kdlib.models import Output

from .common import VIT_TO_CNN, built, make_batch, terms_of, trained


def staged(embedding, shapes, temperature):
    """What the stage minimises and records, with the embeddings (4 B, d) as they are."""
    method = SSKD(stage_temperature=temperature)
    method.teacher_part = nn.Identity()
    batch = make_batch(shapes, count=len(embedding) // 4)
    return method.stage(batch, Output(torch.empty(0), {}, embedding, torch.empty(0)))


def test_with_all_embeddings_equal_the_stage_starts_at_ln_of_the_batch_size(shapes):
    found = staged(torch.ones(256, 5), shapes, 0.5)
    assert found["loss"].item() == pytest.approx(math.log(64), abs=1e-5)
    assert found["loss"].item() == pytest.approx(4.158883, abs=1e-5)


def test_the_stages_floor_with_orthogonal_images_and_no_temperature(shapes):
    found = staged(torch.eye(64).repeat_interleave(4, 0), shapes, 1.0)
    assert found["loss"].item() == pytest.approx(math.log(1 + 63 / math.e), abs=1e-5)
    assert found["accuracy"] == 1


def test_similarity_is_the_cosine_of_rotated_and_upright_views():
    projected = torch.randn(12, 5)
    found = similarity(projected)
    assert found.shape == (9, 3)
    for row in range(9):
        for image in range(3):
            view = projected[4 * (row // 3) + 1 + row % 3]
            expected = F.cosine_similarity(view, projected[4 * image], dim=0)
            assert found[row, image].item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_student_that_agrees_with_the_teacher_is_left_with_the_labels(make_network, shapes):
    network = make_network("cnn").eval()
    method = built("sskd", network, network, shapes)
    method.project.load_state_dict(method.teacher_part.state_dict())
    batch = make_batch(shapes)
    terms = terms_of(method, network, network, batch)
    expected = 0.1 * F.cross_entropy(network(batch.images).logits, batch.labels)
    assert sum(terms.values()).item() == pytest.approx(expected.item(), abs=1e-5)
    assert terms["label"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_right_rows_are_kept_and_the_share_of_wrong_ones_rounded_down():
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    scores = torch.stack([right] * 7 + [wrong] * 5)
    correct = torch.zeros(12, dtype=torch.long)
    assert kept_rows(scores, correct, 0.75).tolist() == [True] * 10 + [False] * 2
    assert kept_rows(scores, correct, 1.0).all()
    assert kept_rows(scores, correct, 0.0).tolist() == [True] * 7 + [False] * 5


def test_the_first_of_equals_ranks_higher_and_is_kept():
    scores = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])
    assert kept_rows(scores, torch.tensor([1, 0, 0]), 0.0).tolist() == [False, True, False]
    assert kept_rows(scores, torch.tensor([1, 0, 0]), 0.5).tolist() == [True, True, False]


def test_of_wrong_rows_the_least_wrong_are_kept():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]]).expand(5, -1)
    kept = kept_rows(scores, torch.tensor([3, 1, 0, 2, 1]), 0.5)
    assert kept.tolist() == [False, True, True, False, True]


def test_divergence_is_the_average_over_kept_rows_and_zero_without_any():
    student, teacher = torch.randn(2, 6, 4)
    kept = torch.tensor([True, False, True, True, False, False])
    found = divergence_of_kept(student, teacher, 4.0, kept)
    assert found.item() == pytest.approx(soft_divergence(student[kept], teacher[kept], 4.0).item(), rel=1e-5)
    assert divergence_of_kept(student, teacher, 4.0, torch.zeros(6, dtype=torch.bool)) == 0


def unfrozen(student, teacher, shapes):
    torch.manual_seed(0)
    method = SSKD()
    method.build(student, teacher, shapes.train)
    return method


def test_the_stage_trains_its_head_and_nothing_of_the_teacher(make_network, shapes):
    student, teacher = make_network("cnn"), make_network("vit").eval()
    method = unfrozen(student, teacher, shapes)
    before = copy.deepcopy(method.teacher_part.state_dict())
    states = trained(student, teacher, method, shapes)
    assert all(not torch.equal(before[name], value) for name, value in method.teacher_part.named_parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert {"stage_loss", "stage_accuracy"} < states[0].history[0].keys()


def test_going_on_from_a_checkpoint_ends_bit_for_bit_the_same(make_network, shapes):
    teacher = make_network("vit").eval().requires_grad_(False)
    student, again = make_network("cnn", seed=1), make_network("cnn", seed=9)
    method, other = (unfrozen(network, teacher, shapes) for network in (student, again))
    states = trained(student, teacher, method, shapes)
    after = trained(again, teacher, other, shapes, copy.deepcopy(states[0]))
    for one, two in ((student, again), (method, other)):
        resumed = two.state_dict()
        assert all(torch.equal(value, resumed[name]) for name, value in one.state_dict().items())
    assert after[-1].history == states[1].history


def test_upright_rows_alone_are_labelled(make_network, shapes):
    teacher, student = (make_network(name).eval() for name in VIT_TO_CNN)
    method, batch = built("sskd", student, teacher, shapes), make_batch(shapes)
    label = terms_of(method, student, teacher, batch)["label"] / method.label_weight
    assert label.item() == pytest.approx(
        F.cross_entropy(student(batch.images).logits, batch.labels).item(), abs=1e-5
    )
