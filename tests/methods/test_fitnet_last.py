import pytest
import torch

from kdlib.methods import hyperparameters
from kdlib.methods.fitnet_last import embeddings, read_by_teacher

from .common import CNN_TO_VIT, VIT_TO_CNN, built, make_batch, terms_of

BOTH = pytest.mark.parametrize(("teacher", "student"), [CNN_TO_VIT, VIT_TO_CNN])


@BOTH
def test_predicting_the_mean_embedding_costs_the_weight(teacher, student, make_network, shapes):
    teacher, student = make_network(teacher).eval(), make_network(student, seed=1)
    method = built("fitnet_last", student, teacher, shapes, weight=2.0)
    torch.nn.init.zeros_(method.regressor.weight)
    method.regressor.bias.data = embeddings(teacher, shapes.train.images).mean(0)
    found = terms_of(method, student, teacher, make_batch(shapes, count=80))["hint"]
    assert found.item() == pytest.approx(2, rel=1e-4)


@BOTH
def test_a_student_whose_map_is_right_is_read_as_its_teacher(teacher, student, make_network, shapes):
    teacher = make_network(teacher).eval()
    method = built("fitnet_last", teacher, teacher, shapes)
    torch.nn.init.eye_(method.regressor.weight)
    torch.nn.init.zeros_(method.regressor.bias)
    batch = make_batch(shapes)
    assert terms_of(method, teacher, teacher, batch)["hint"].item() == pytest.approx(0, abs=1e-9)
    read = read_by_teacher(method, teacher, teacher, batch.images)
    with torch.no_grad():
        torch.testing.assert_close(read, teacher(batch.images).logits)


def test_reading_changes_no_network(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1).eval()
    method = built("fitnet_last", student, teacher, shapes)
    before = [value.clone() for part in (teacher, student) for value in part.state_dict().values()]
    read_by_teacher(method, student, teacher, shapes.test.images)
    after = [value for part in (teacher, student) for value in part.state_dict().values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_the_last_layer_leaves_fitnets_hyperparameters_as_they_were():
    assert hyperparameters("fitnet", {}) == {"weight": 1.0}
