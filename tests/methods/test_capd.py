import copy
import dataclasses
import math

import pytest
import torch

from kdlib.methods.capd import (
    CAPD,
    GroupwiseLinear,
    attend,
    attention_loss,
    real_or_not,
    replace_some,
    value_loss,
)
from kdlib.models import ModelSpec, Network

from ..conftest import CNN
from .common import VIT_TO_CNN, built, make_batch, terms_of, trained


@pytest.fixture
def pair(make_network):
    return [make_network(name).eval() for name in VIT_TO_CNN]


def qkv():
    return torch.randn(3, 2, 2, 16, 8)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_queries_keys_and_values_like_the_teachers_cost_nothing(probability):
    teacher = qkv()
    assert attention_loss(replace_some(teacher.clone(), teacher, probability), teacher) == 0
    assert value_loss(teacher[2].clone(), teacher[2]) == 0


def test_with_every_element_replaced_attention_teaches_nothing():
    student, teacher = qkv().requires_grad_(), qkv()
    loss = attention_loss(replace_some(student, teacher, 1.0), teacher)
    loss.backward()
    assert loss == 0 and (student.grad == 0).all()


def test_each_element_of_queries_keys_and_values_is_replaced_on_its_own():
    torch.manual_seed(0)
    replaced = replace_some(torch.zeros(3, 8, 2, 64, 16), torch.ones(3, 8, 2, 64, 16), 0.5)
    assert set(replaced.unique().tolist()) == {0.0, 1.0}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (replaced[one] == replaced[other]).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_zero_queries_attend_to_all_cells_alike():
    _, keys, values = qkv()
    found = attend(torch.zeros_like(keys), keys, values)
    assert torch.allclose(found, values.mean(2, keepdim=True).expand_as(found), atol=1e-6)


def test_values_are_compared_as_products_of_all_pairs():
    student, teacher = torch.eye(4)[None, None], torch.zeros(1, 1, 4, 4)
    assert value_loss(student, teacher).item() == pytest.approx(4 / 16 / 4)  # (1 / √4)² in 4 of 16 entries


def test_every_4_by_4_cells_have_a_layer_of_their_own():
    layer = GroupwiseLinear((14, 14), 3, 1, dropout=0.0)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.arange(16.0).view(16, 1, 1))
    found = layer(torch.randn(2, 3, 14, 14)).view(2, 14, 14)
    for row in range(14):
        for column in range(14):
            assert (found[:, row, column] == (row // 4) * 4 + column // 4).all()
    assert sorted(torch.bincount(found[0].long().flatten()).tolist()) == [4] + [8] * 6 + [16] * 9


@pytest.mark.parametrize(("grid", "groups"), [((8, 8), 4), ((7, 7), 4), ((4, 6), 2)])
def test_a_cell_is_mapped_by_its_groups_layer_and_by_nothing_else(grid, groups):
    layer, features = GroupwiseLinear(grid, 3, 5, dropout=0.0), torch.randn(2, 3, *grid)
    found = layer(features)
    assert len(layer.weight) == groups and found.shape == (2, math.prod(grid), 5)
    for cell in range(math.prod(grid)):
        row, column = divmod(cell, grid[1])
        group = row // 4 * math.ceil(grid[1] / 4) + column // 4
        expected = features[:, :, row, column] @ layer.weight[group] + layer.bias[group]
        assert torch.allclose(found[:, cell], expected, atol=1e-6)


def test_a_discriminator_that_cannot_tell_costs_2_ln_2():
    undecided = torch.zeros(2, 16, 1)
    assert real_or_not(undecided, undecided).item() == pytest.approx(1.386294, abs=1e-6)
    assert real_or_not(undecided + 50, undecided - 50) < 1e-6


def test_known_values_of_empty_projections(pair, shapes):
    teacher, student = pair
    method = built("capd", student, teacher, shapes)
    with torch.no_grad():
        for part in (method.to_tokens.weight, method.to_tokens.bias, *method.discriminator[-1].parameters()):
            part.zero_()
    terms = terms_of(method, student, teacher, make_batch(shapes, progress=0.5))
    assert terms["tokens"].item() == pytest.approx(1, abs=1e-3)  # what LayerNorm leaves of a variance
    assert terms["adversarial"].item() == pytest.approx(0.1 * 0.693147, abs=1e-6)
    assert terms["attention"].item() == pytest.approx(1, abs=1e-6)
    assert terms["values"].item() == pytest.approx(0.25, abs=1e-6)
    assert method.after_step()["discriminator"].item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_the_first_batch_sets_the_scale_of_attention_and_values(pair, shapes):
    teacher, student = pair
    method, scales = built("capd", student, teacher, shapes), []
    for start in (0, 16):
        terms_of(method, student, teacher, make_batch(shapes, start=start))
        scales.append((method.first_attention.item(), method.first_values.item()))
    assert scales[0] == scales[1] and min(scales[0]) > 0
    assert {"first_attention", "first_values"} < method.state_dict().keys()


def test_the_teachers_prefix_tokens_take_no_part(pair, shapes):
    teacher, student = pair
    method, batch = built("capd", student, teacher, shapes).eval(), make_batch(shapes, progress=0.5)
    with torch.no_grad():
        learned, taught = student(batch.images, method.reads_student), teacher(batch.images, method.reads)
        changed = taught.qkv[-1].clone()
        changed[..., :1, :] += 100
        other = dataclasses.replace(taught, qkv=(changed,))
        found, again = method(batch, learned, taught), method(batch, learned, other)
    assert changed.shape[-2] == 65
    assert all(torch.equal(found[term], again[term]) for term in found)


def test_nothing_is_replaced_or_dropped_in_evaluation_mode(pair, shapes):
    teacher, student = pair
    method, batch = built("capd", student, teacher, shapes), make_batch(shapes, progress=0.5)
    with torch.no_grad():
        outputs = student(batch.images, method.reads_student), teacher(batch.images, method.reads)
        trained = [method(batch, *outputs) for _ in range(2)]
        method.eval()
        asked = [method(batch, *outputs) for _ in range(2)]
    assert trained[0]["attention"] != trained[1]["attention"] and trained[0]["tokens"] != trained[1]["tokens"]
    assert all(torch.equal(asked[0][term], asked[1][term]) for term in asked[0])


def test_the_adversarial_gradient_reaches_the_backbone_and_leaves_the_discriminator(pair, shapes):
    teacher, student = pair
    method = built("capd", student, teacher, shapes)
    before = copy.deepcopy(method.discriminator.state_dict())
    parts = [*student.parameters(), *method.shared_parameters().values()]
    optimiser = torch.optim.SGD(parts, 0.1)
    terms_of(method, student, teacher, make_batch(shapes, progress=0.5))["adversarial"].backward()
    assert student.backbone.conv1[0].weight.grad.abs().max() > 0
    assert all(part.grad is None for part in method.discriminator.parameters())
    optimiser.step()
    assert not any("discriminator" in name for name in method.shared_parameters())
    assert all(torch.equal(before[name], value) for name, value in method.discriminator.state_dict().items())


def test_the_discriminators_step_changes_it_and_nothing_else(pair, shapes):
    teacher, student = pair
    method = built("capd", student, teacher, shapes)
    terms_of(method, student, teacher, make_batch(shapes))
    before = copy.deepcopy(method.state_dict())
    method.after_step()
    for name, value in method.state_dict().items():
        assert torch.equal(before[name], value) == (not name.startswith("discriminator")), name
    assert all(part.grad is None for part in (*student.parameters(), method.to_tokens.weight))


def test_going_on_from_a_checkpoint_ends_bit_for_bit_the_same(make_network, shapes):
    teacher = make_network("vit").eval().requires_grad_(False)

    def run(seed, resume=None):
        student = make_network("cnn", seed=seed)
        torch.manual_seed(0)
        method = CAPD()
        method.build(student, teacher, shapes.train)
        states = trained(student, teacher, method, shapes, resume)
        return {**student.state_dict(), **method.state_dict()}, states

    whole, states = run(1)
    resumed, later = run(9, copy.deepcopy(states[0]))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert later[-1].history == states[1].history
    assert {"attention", "values", "tokens", "adversarial", "discriminator"} < states[0].history[0].keys()


def test_a_teacher_without_attention_is_refused(make_network, shapes):
    with pytest.raises(ValueError, match="attention of a plain ViT, but the teacher is resnet18; give"):
        CAPD().build(make_network("cnn"), make_network("cnn"), shapes.train)


def test_a_student_whose_third_stage_is_one_cell_is_refused(make_network, shapes):
    spec = ModelSpec("resnet18", image_size=16, options=CNN.options)
    student = Network(spec, len(shapes.classes), *shapes.statistics)
    with pytest.raises(
        ValueError, match="CAPD needs at least 2 x 2 cells; resnet18 has 1 x 1: take larger images"
    ):
        CAPD().build(student, make_network("vit"), shapes.train)
    assert student.training


def test_one_by_one_convolutions_may_replace_the_papers(pair, shapes):
    teacher, student = pair
    method = built("capd", student, teacher, shapes, kernel_size=1)
    assert method.to_qkv.weight.shape[-2:] == (1, 1)
    assert terms_of(method, student, teacher, make_batch(shapes))["attention"].isfinite()
