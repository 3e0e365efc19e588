import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.methods import METHODS
from kdlib.methods.lm import soft_divergence
from kdlib.methods.lskd import standardise

from .common import built, make_batch, terms_of


def test_a_one_hot_vector_standardises_to_its_analytic_value():
    found = standardise(torch.eye(10)[3:4])[0]
    assert found[3].item() == pytest.approx(2.846050, abs=1e-6)
    assert found[0].item() == pytest.approx(-0.316228, abs=1e-6)
    assert (found[3] - found[0]).item() == pytest.approx(math.sqrt(10), abs=1e-5)


def test_the_default_temperature_gives_ten_classes_the_top_of_a_hundred_at_temperature_two():
    cases = (10, METHODS["lskd"]().temperature), (100, 2)
    top = [(standardise(torch.eye(classes)[:1]) / t).softmax(1)[0, 0] for classes, t in cases]
    assert top[0].item() == pytest.approx(0.61, abs=0.005)
    assert top[0].item() == pytest.approx(top[1].item(), abs=0.01)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), scale=st.floats(0.1, 50), shift=st.floats(-20, 20))
def test_positive_affine_maps_of_the_logits_cost_nothing(seed, scale, shift):
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = soft_divergence(standardise(scale * logits + shift), standardise(logits), 1.2)
    assert found.item() == pytest.approx(0, abs=1e-6)


def test_gradients_pass_through_the_students_mean_and_deviation():
    """Then what a change of shift or scale would do is nothing: the gradient is orthogonal to both."""
    student, teacher = torch.randn(2, 6, 10, dtype=torch.float64)
    student.requires_grad_(True)
    soft_divergence(standardise(student), standardise(teacher), 1.2).backward()
    assert student.grad.norm() > 1e-2
    assert torch.allclose(student.grad.sum(1), torch.zeros(6, dtype=torch.float64), atol=1e-6)
    assert torch.allclose((student.grad * student).sum(1), torch.zeros(6, dtype=torch.float64), atol=1e-6)


def test_constant_logits_have_a_finite_gradient_that_the_first_step_does_not_see(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit").eval()
    for part in student.backbone.head.parameters():
        torch.nn.init.zeros_(part)
    method = built("lskd", student, teacher, shapes)
    for progress, seen in ((0.0, False), (0.5, True)):
        term = terms_of(method, student, teacher, make_batch(shapes, progress=progress))["logits"]
        (gradient,) = torch.autograd.grad(term, student.backbone.head.weight)
        assert torch.isfinite(gradient).all()
        assert (gradient.norm() > 0) == seen
