import copy
import math

import pytest
import torch
from torch.nn import functional as F

from kdlib.messages import UnknownName
from kdlib.methods.crd import CRD, contrastive_loss, draw_negatives

from .common import built, make_batch


@pytest.mark.parametrize(("negatives", "temperature"), [(4096, 0.07), (4096, 0.1), (512, 0.07)])
@pytest.mark.parametrize("positive", ["memory", "live"])
def test_crd_starts_at_its_analytic_value(negatives, temperature, positive):
    """ln K + 1 + 1 / (2 T² d) a side, for random embeddings; d = 128, here with 2,000 training images."""
    torch.manual_seed(0)
    count, batch, dimension = 2000, 64, 128
    bound = math.sqrt(3 / dimension)
    memory = torch.empty(count, dimension).uniform_(-bound, bound)
    own, other = F.normalize(torch.randn(2, batch, dimension), dim=2)
    columns = torch.randint(0, count, (batch, negatives + 1))
    similarity = (own @ memory.T).gather(1, columns)
    if positive == "live":
        similarity[:, 0] = (own * other).sum(1)
    similarity /= temperature
    normaliser = count * similarity.exp().mean()
    found = contrastive_loss(similarity[:, 0], similarity[:, 1:], normaliser, negatives / count).item()
    expected = math.log(negatives) + 1 + 1 / (2 * temperature**2 * dimension)
    assert found == pytest.approx(expected, abs=4 / (temperature * math.sqrt(dimension * batch)))


def test_crd_of_equal_scores_is_exact():
    similarity = torch.full((5, 8), 3.0, dtype=torch.float64)
    normaliser = 100 * similarity.exp().mean()
    found = contrastive_loss(similarity[:, 0], similarity[:, 1:], normaliser, 7 / 100)
    assert found.item() == pytest.approx(math.log(8) + 7 * math.log(1 + 1 / 7), abs=1e-9)
    assert found.item() == pytest.approx(3.014161, abs=1e-6)


def test_negatives_come_from_all_other_classes_and_no_own():
    labels = torch.tensor([0] * 5 + [1] * 20 + [2] * 2)[torch.randperm(27)]
    sizes = torch.bincount(labels)
    drawn = draw_negatives(
        torch.tensor([0, 1, 2]), labels.argsort(stable=True), sizes.cumsum(0) - sizes, sizes, 3000
    )
    for label in range(3):
        assert set(drawn[label].tolist()) == set((labels != label).nonzero().flatten().tolist())


def test_memory_moves_only_the_batchs_rows_and_keeps_them_on_the_sphere(make_network, shapes):
    teacher, student = make_network("cnn"), make_network("vit")
    method = built("crd", student, teacher, shapes)
    before = copy.deepcopy(method.state_dict())
    batch = make_batch(shapes, count=16, start=8)
    method(batch, student(batch.images), teacher(batch.images))
    method.after_step()
    for side in ("student", "teacher"):
        old, new = before[f"memory_{side}"], method.state_dict()[f"memory_{side}"]
        assert torch.allclose(new[batch.indices].norm(dim=1), torch.ones(16), atol=1e-6)
        untouched = torch.ones(len(new), dtype=bool)
        untouched[batch.indices] = False
        assert torch.equal(new[untouched], old[untouched])


def test_memory_without_momentum_is_the_projection(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit").eval()
    method = built("crd", student, teacher, shapes, momentum=0.0)
    batch = make_batch(shapes)
    with torch.no_grad():
        output = student(batch.images)
        method(batch, output, teacher(batch.images))
        method.after_step()
        expected = F.normalize(method.project_student(output.embedding), dim=1)
    assert torch.allclose(method.memory_student[batch.indices], expected, atol=1e-6)


def test_the_normaliser_is_set_by_the_first_batch_and_kept(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit").eval()
    method = built("crd", student, teacher, shapes)
    values = []
    for start in (0, 16):
        batch = make_batch(shapes, start=start)
        with torch.no_grad():
            method(batch, student(batch.images), teacher(batch.images))
        values.append((method.normaliser_student.item(), method.normaliser_teacher.item()))
    assert values[0] == values[1] and min(values[0]) > 0


def test_wrong_kind_of_positive_is_named(make_network, shapes):
    with pytest.raises(UnknownName, match="positive of CRD 'lively'. Did you mean 'live'"):
        CRD(positive="lively").build(make_network("vit"), make_network("cnn"), shapes.train)
