import pytest
import torch

from kdlib.methods.lm import shuffle_wrong, soft_divergence


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


def test_shuffling_moves_every_wrong_class_and_no_right_one():
    logits, labels = torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 2), torch.tensor([1, 3])
    expected = torch.tensor([[2.0, 1.0, 3.0, 0.0], [1.0, 2.0, 0.0, 3.0]])
    torch.testing.assert_close(shuffle_wrong(logits, labels), expected)


def test_shuffling_keeps_certainty():
    logits, labels = torch.randn(6, 10), torch.arange(6)
    shuffled = shuffle_wrong(logits, labels)
    assert torch.equal(shuffled.sort(1).values, logits.sort(1).values)
    assert torch.equal(shuffled[range(6), labels], logits[range(6), labels])
