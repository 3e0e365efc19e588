import math

import pytest
import torch
from torch.nn import functional as F

from kdlib.methods.ofa import TokenBranch, enhanced_loss, map_branch

from .common import CNN_TO_VIT, VIT_TO_CNN, built, make_batch, terms_of

CERTAIN = 100 * torch.eye(10)  # a teacher that is sure of class b of row b


def test_exponent_1_is_the_cross_entropy_with_the_teachers_distribution():
    student, teacher = torch.randn(2, 6, 10)
    found = enhanced_loss(student, teacher, torch.arange(6), 1.0)
    assert found.item() == pytest.approx(F.cross_entropy(student, teacher.softmax(1)).item(), abs=1e-6)


@pytest.mark.parametrize(("exponent", "expected"), [(1.0, 2.302585), (1.5, 4.210109), (2.0, 6.907755)])
def test_a_sure_and_right_teacher_costs_a_uniform_student_its_analytic_value(exponent, expected):
    found = enhanced_loss(torch.zeros(10, 10), CERTAIN, torch.arange(10), exponent).item()
    assert found == pytest.approx((2**exponent - 1) * math.log(10), abs=1e-5)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
def test_a_sure_and_wrong_teacher_costs_ln_10_at_any_exponent(exponent):
    wrong = (torch.arange(10) + 1) % 10
    found = enhanced_loss(torch.zeros(10, 10), CERTAIN, wrong, exponent)
    assert found.item() == pytest.approx(math.log(10), abs=1e-5)


@pytest.mark.parametrize(("teacher", "student"), [CNN_TO_VIT, VIT_TO_CNN])
def test_gradients_of_a_branch_reach_only_the_stages_up_to_its_own(teacher, student, make_network, shapes):
    teacher, student = make_network(teacher).eval(), make_network(student)
    method = built("ofa", student, teacher, shapes)
    if student.num_prefix_tokens:  # two blocks: the first three stages are all after the first
        parts = dict(enumerate([student.backbone.blocks[0], student.backbone.blocks[1]], 1))
        last = {0: 1, 1: 1, 2: 1, 3: 2}
    else:
        parts = {stage: getattr(student.backbone, f"layer{stage}") for stage in (1, 2, 3, 4)}
        last = {0: 1, 1: 2, 2: 3, 3: 4}
    images = make_batch(shapes).images
    for branch in range(4):
        student.zero_grad()
        method.branch_logits(student(images, ("stages",)))[branch].square().sum().backward()
        reached = {
            stage for stage, part in parts.items() if any(p.grad is not None for p in part.parameters())
        }
        assert reached == {stage for stage in parts if stage <= last[branch]}


def test_a_cnns_branch_follows_the_students_widths_up_to_the_wider_network(make_network, shapes):
    method = built("ofa", make_network("cnn"), make_network("vit"), shapes)  # 8, 8, 16, 16; and 16
    convolutions = [
        [m for m in branch.modules() if isinstance(m, torch.nn.Conv2d)] for branch in method.branches
    ]
    assert [len(found) for found in convolutions] == [12, 8, 4, 1]
    assert [m.out_channels for m in convolutions[0][3::4]] == [8, 16, 16]
    assert all(branch[-1].weight.shape == (10, 16) for branch in method.branches)


@pytest.mark.parametrize("side", [1, 2, 4, 5])
def test_a_cnns_branch_takes_any_grid(side):
    assert map_branch([4, 6, 6, 10], 12, 10)(torch.randn(2, 4, side, side)).shape == (2, 10)


@pytest.mark.parametrize(("grid", "merges"), [((8, 8), 0), ((14, 14), 1), ((28, 28), 2), ((15, 15), 0)])
def test_a_vits_branch_merges_patches_while_seven_a_side_are_left(grid, merges):
    branch = TokenBranch(6, grid, depth=1, classes=10)
    assert len(branch.merges) == merges
    assert branch.blocks[0].attn.num_heads == 3  # the largest number up to 4 that divides the width
    assert branch(torch.randn(2, 6, *grid), torch.randn(2, 1, 6)).shape == (2, 10)


def test_a_vits_branch_without_prefix_tokens_averages_the_patches():
    branch = TokenBranch(8, (4, 4), depth=1, classes=10).eval()
    stage = torch.randn(2, 8, 4, 4)
    found = branch(stage, torch.zeros(2, 0, 8))
    assert torch.allclose(found, branch(stage.flip(2, 3), torch.zeros(2, 0, 8)), atol=1e-6)
    assert not torch.allclose(found, branch(stage, torch.zeros(2, 1, 8)), atol=1e-3)


def test_uniform_branches_cost_ln_10_each(make_network, shapes):
    teacher, student = make_network("vit").eval(), make_network("cnn")
    method = built("ofa", student, teacher, shapes, branch_weight=0.5)
    for branch in method.branches:
        torch.nn.init.zeros_(branch[-1].weight)
    terms = terms_of(method, student, teacher, make_batch(shapes))
    assert terms["branches"].item() == pytest.approx(0.5 * 4 * math.log(10), abs=1e-4)
