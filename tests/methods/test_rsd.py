import pytest
import torch

from kdlib.methods.fitnet_last import read_by_teacher
from kdlib.methods.rsd import redundancy_loss

from .common import CNN_TO_VIT, VIT_TO_CNN, built, make_batch, terms_of


def orthogonal(count: int = 64, width: int = 8) -> torch.Tensor:
    """Columns of mean 0 and equal length, at right angles."""
    columns = torch.cat([torch.ones(count, 1), torch.randn(count, width)], 1).double()
    return torch.linalg.qr(columns).Q[:, 1:] * count**0.5


def test_equal_embeddings_with_orthogonal_columns_cost_nothing():
    values = orthogonal()
    assert redundancy_loss(3 * values + 2, values, 0.01).item() == pytest.approx(0, abs=1e-6)


def test_opposite_embeddings_cost_4_a_dimension():
    values = orthogonal()
    assert redundancy_loss(-values, values, 0.01).item() == pytest.approx(32, abs=1e-2)


def test_equal_columns_cost_kappa_for_every_pair():
    values = torch.randn(64, 1, dtype=torch.float64).expand(-1, 8)
    assert redundancy_loss(values, values, 0.01).item() == pytest.approx(0.56, abs=1e-3)


def test_independent_embeddings_cost_about_1_a_dimension():
    student, teacher = torch.randn(2, 4096, 8, generator=torch.Generator().manual_seed(0))
    assert redundancy_loss(student, teacher, 0.01).item() == pytest.approx(8, abs=0.5)


def test_a_column_that_does_not_vary_costs_1():
    values = orthogonal()
    flat = values.clone()
    flat[:, 0] = 5
    assert redundancy_loss(flat, values, 0.01).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("teacher", "student"), [CNN_TO_VIT, VIT_TO_CNN])
def test_the_weight_multiplies_the_loss_of_the_embeddings(teacher, student, make_network, shapes):
    teacher, student = make_network(teacher).eval(), make_network(student, seed=1).eval()
    method = built("rsd", student, teacher, shapes, weight=0.5).eval()
    batch = make_batch(shapes)
    projected = method.projector(student(batch.images).embedding)
    expected = 0.5 * redundancy_loss(projected, teacher(batch.images).embedding, 0.01)
    found = terms_of(method, student, teacher, batch)["redundancy"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_translation_gives_the_teachers_moments(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1).eval()
    method = built("rsd", student, teacher, shapes)
    batch = make_batch(shapes, count=64)
    for _ in range(200):
        terms_of(method, student, teacher, batch)
        method.after_step()
    method.projector.eval()
    seen, wanted = method.translate(student(batch.images).embedding), teacher(batch.images).embedding
    active = wanted.std(0) > 1e-3
    torch.testing.assert_close(seen.mean(0)[active], wanted.mean(0)[active], rtol=0.05, atol=0.02)
    torch.testing.assert_close(seen.std(0)[active], wanted.std(0)[active], rtol=0.1, atol=0.02)
    assert read_by_teacher(method, student, teacher, batch.images).shape == (64, 10)
