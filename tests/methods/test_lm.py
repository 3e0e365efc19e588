import pytest
import torch

from kdlib.methods.lm import soft_divergence


def test_soft_divergence_of_a_known_pair():
    teacher = torch.log(torch.tensor([[0.9, 0.1]]))
    assert soft_divergence(torch.zeros(1, 2), teacher, 1.0).item() == pytest.approx(0.368064, abs=1e-6)


def test_soft_divergence_ignores_a_constant_in_each_row():
    logits = torch.randn(6, 10)
    assert soft_divergence(logits + torch.randn(6, 1), logits, 4.0).item() == pytest.approx(0, abs=1e-5)


def test_soft_divergence_tends_to_the_squared_distance_of_centred_logits():
    student, teacher = torch.randn(2, 8, 10, dtype=torch.float64)
    distance = (student - student.mean(1, True)) - (teacher - teacher.mean(1, True))
    expected = distance.square().sum(1).mean() / 20
    assert soft_divergence(student, teacher, 1000.0).item() == pytest.approx(expected.item(), rel=1e-2)
