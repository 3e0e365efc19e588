import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.methods.base import ramp
from kdlib.methods.dkd import decoupled_divergences
from kdlib.methods.lm import soft_divergence

from .common import built, make_batch, terms_of


def logits_and_labels(seed, classes, scale=3.0, count=6):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, count, classes, dtype=torch.float64, generator=generator)
    return student, teacher, torch.randint(0, classes, (count,), generator=generator)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 999),
    classes=st.integers(2, 12),
    scale=st.floats(0.1, 20),
    temperature=st.floats(1, 8),
)
def test_the_two_parts_add_up_to_the_whole_divergence(seed, classes, scale, temperature):
    student, teacher, labels = logits_and_labels(seed, classes, scale)
    target, nontarget = decoupled_divergences(student, teacher, labels, temperature)
    true = (teacher / temperature).softmax(1).gather(1, labels[:, None])[:, 0]
    whole = soft_divergence(student, teacher, temperature) / temperature**2
    assert (target + (1 - true) * nontarget).mean().item() == pytest.approx(whole.item(), rel=1e-6, abs=1e-9)


def test_equal_logits_and_shifts_cost_nothing():
    student, _, labels = logits_and_labels(0, 10)
    for part in decoupled_divergences(student + 5, student, labels, 4.0):
        assert torch.allclose(part, torch.zeros_like(part), atol=1e-12)


def test_two_classes_have_no_other_classes_to_rank():
    target, nontarget = decoupled_divergences(*logits_and_labels(1, 2), 4.0)
    assert torch.equal(nontarget, torch.zeros_like(nontarget))
    assert target.min() > 0


def test_the_true_logit_alone_does_not_change_the_others_ranking():
    student, teacher, labels = logits_and_labels(2, 10)
    raised = student.scatter_add(1, labels[:, None], torch.full((6, 1), 3.0, dtype=torch.float64))
    before = decoupled_divergences(student, teacher, labels, 4.0)
    after = decoupled_divergences(raised, teacher, labels, 4.0)
    assert torch.allclose(before[1], after[1], atol=1e-12)
    assert (before[0] - after[0]).abs().min() > 1e-3


def test_a_certain_student_costs_a_finite_amount():
    """1 - p of the true class is exp(-1000): as a plain difference it would be 0, and its logarithm -inf."""
    student = torch.zeros(1, 10)
    student[0, 3] = 1000.0
    student.requires_grad_(True)
    target, nontarget = decoupled_divergences(student, torch.zeros(1, 10), torch.tensor([3]), 1.0)
    assert target.item() == pytest.approx(900, rel=1e-2)
    (target + nontarget).sum().backward()
    assert torch.isfinite(student.grad).all()


def test_each_part_has_its_own_weight_and_both_the_squared_temperature(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit").eval()
    method = built("dkd", student, teacher, shapes, alpha=0.5, beta=3.0, temperature=2.0)
    batch = make_batch(shapes, progress=0.5)
    terms = terms_of(method, student, teacher, batch)
    logits = student(batch.images).logits, teacher(batch.images).logits
    target, nontarget = decoupled_divergences(*logits, batch.labels, 2.0)
    assert terms["target"].item() == pytest.approx(0.5 * 4 * target.mean().item())
    assert terms["nontarget"].item() == pytest.approx(3 * 4 * nontarget.mean().item())


def test_the_weights_rise_over_the_first_steps(make_network, shapes):
    assert [ramp(progress, 0.08) for progress in (0.0, 0.02, 0.08, 0.5)] == [0, 0.25, 1, 1]
    assert [ramp(progress, 0.4, start=0.2) for progress in (0.1, 0.2, 0.3, 0.9)] == pytest.approx(
        [0, 0, 0.5, 1]
    )
    assert ramp(0.0, 0.0) == 1
    teacher, student = make_network("cnn").eval(), make_network("vit").eval()
    method = built("dkd", student, teacher, shapes)
    start, early, late = (
        terms_of(method, student, teacher, make_batch(shapes, progress=progress))
        for progress in (0.0, 0.02, 0.5)
    )
    for name in ("target", "nontarget"):
        assert start[name] == 0 and start[name].requires_grad
        assert 4 * early[name].item() == pytest.approx(late[name].item())
    assert start["label"] == late["label"]
