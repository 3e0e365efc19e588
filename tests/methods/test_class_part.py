import pytest
import torch
from torch import Tensor

from kdlib.data import Split
from kdlib.methods import METHODS
from kdlib.methods.class_part import class_means, within_class
from kdlib.models import Output

from .common import built, make_batch, terms_of


class Knows(torch.nn.Module):
    """A network that answers with the first channel's first row, in tenths."""

    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, images: Tensor) -> Output:
        rows = images[:, 0, 0].float() / 10
        return Output(rows, {"class": rows}, rows, rows[:, :, None, None])


def test_class_means_average_the_softened_answers_of_each_class():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 40, (60, 3, 2, 10), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 9  # class 9 has none
    means = class_means(Knows(), Split(images, labels), 10, 4.0, size=7)
    answers = (images[:, 0, 0].float() / 40).softmax(1)
    torch.testing.assert_close(means[3], answers[labels == 3].mean(0))
    torch.testing.assert_close(means.sum(1), torch.ones(10))
    assert means[9].tolist() == pytest.approx([0.1] * 10)


@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 2, 3], [2, 0, 2, 2, 1, 0], [1, 0, 1, 0, 1, 0, 1]])
def test_exchange_is_a_turn_within_each_class(labels):
    labels = torch.tensor(labels)
    partner = within_class(labels)
    assert torch.equal(partner.sort().values, torch.arange(len(labels)))
    assert torch.equal(labels[partner], labels)
    alone = torch.bincount(labels)[labels] == 1
    assert torch.equal(partner == torch.arange(len(labels)), alone)


def test_exchange_keeps_the_answers_of_each_class_and_moves_every_one():
    labels = torch.randint(0, 5, (64,), generator=torch.Generator().manual_seed(1))
    logits = torch.randn(64, 10)
    moved = logits[within_class(labels)]
    for label in range(5):
        one, other = logits[labels == label], moved[labels == label]
        assert torch.equal(one.sum(1).sort().values, other.sum(1).sort().values)
    assert (moved != logits).any(1).all()


def test_a_teacher_that_tells_the_class_only_makes_lm_and_both_controls_equal(make_network, shapes):
    student, teacher, batch = make_network("cnn", seed=1).eval(), make_network("cnn"), make_batch(shapes)
    answers = torch.randn(10, 10)
    learned = student(batch.images)
    taught = Output(answers[batch.labels], {}, learned.embedding, learned.feature_map)
    found = []
    for name in ("lm", "within_class"):
        found.append(built(name, student, teacher, shapes)(batch, learned, taught)["logits"])
    means = METHODS["class_means"]()
    means.register_buffer("means", 4 * (answers / 4).log_softmax(1))
    found.append(means(batch, learned, None)["logits"])
    assert [value.item() for value in found] == pytest.approx([found[0].item()] * 3, rel=1e-5)


def test_building_class_means_asks_the_teacher_and_training_does_not(make_network, shapes):
    student, teacher = make_network("vit", seed=1), make_network("cnn").eval()
    method = built("class_means", student, teacher, shapes)
    expected = class_means(teacher, shapes.train, 10, 4.0)
    torch.testing.assert_close((method.means / 4).exp(), expected)
    assert method.reads == () and "means" in method.state_dict()
    assert set(terms_of(method, student, teacher, make_batch(shapes))) == {"label", "logits"}
