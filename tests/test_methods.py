import copy
import math

import pytest
import torch
from torch.nn import functional as F

from kdlib.data import PROJECT
from kdlib.methods import METHODS, Batch, hyperparameters
from kdlib.methods.crd import CRD, contrastive_loss, draw_negatives
from kdlib.methods.lm import soft_divergence
from kdlib.names import UnknownName

from .conftest import DIRECTIONS

TEACHED = [name for name, method in METHODS.items() if method.reads]


def make_batch(shapes, count=16, start=0):
    index = torch.arange(start, start + count)
    return Batch(shapes.train.images[index], shapes.train.labels[index], index, 0.0)


def built(name, student, teacher, shapes, **hyper):
    torch.manual_seed(0)
    method = METHODS[name](**hyper)
    method.build(student, teacher, shapes.train)
    return method


# ---------------------------------------------------------------------------------------- every method


@pytest.mark.parametrize(("teacher", "student"), DIRECTIONS)
@pytest.mark.parametrize("name", TEACHED)
def test_gradients_reach_student_and_method_but_never_the_teacher(
    name, teacher, student, make_network, shapes
):
    teacher, student = make_network(teacher), make_network(student, seed=1)
    method = built(name, student, teacher, shapes)
    batch = make_batch(shapes)
    with torch.no_grad():
        taught = teacher.eval()(batch.images)
    terms = method(batch, student(batch.images), taught)
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    sum(terms.values()).backward()
    for part in (*student.parameters(), *method.parameters()):
        assert part.grad is not None and torch.isfinite(part.grad).all()
    assert all(part.grad is None for part in teacher.parameters())


@pytest.mark.parametrize("name", TEACHED)
def test_same_seed_gives_the_same_terms(name, make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1).eval()
    batch = make_batch(shapes)
    found = []
    for _ in range(2):
        method = built(name, student, teacher, shapes)
        with torch.no_grad():
            found.append(method(batch, student(batch.images), teacher(batch.images)))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][term], found[1][term]) for term in found[0])


# CRD's memory is random at first, which is easy to tell from an image: its term falls from its peak.
@pytest.mark.parametrize(("name", "term", "factor"), [("lm", "logits", 0.7), ("crd", "contrast", 0.75)])
def test_the_methods_own_term_falls_on_a_repeated_batch(name, term, factor, make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1)
    with torch.no_grad():
        teacher.backbone.fc.weight *= 20  # an untrained teacher is nearly uniform: nothing to learn
    method = built(name, student, teacher, shapes, **({"negatives": 32} if name == "crd" else {}))
    batch = make_batch(shapes, count=32)
    with torch.no_grad():
        taught = teacher.train()(batch.images)  # batch statistics: without them its answers hardly differ
    optimiser = torch.optim.AdamW([*student.parameters(), *method.parameters()], 3e-3)
    values = []
    for _ in range(25):
        terms = method(batch, student(batch.images), taught)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        method.after_step()
        values.append(terms[term].item())
    assert values[-1] < factor * max(values)


def test_unknown_method_and_hyperparameter_are_named():
    with pytest.raises(UnknownName, match="unknown method 'crt'. Did you mean 'crd'.*independent, lm, crd"):
        hyperparameters("crt", {})
    with pytest.raises(UnknownName, match="hyper-parameter of lm 'temprature'. Did you mean 'temperature'"):
        hyperparameters("lm", {"temprature": 2})
    assert hyperparameters("lm", {"temperature": 2})["temperature"] == 2


# ------------------------------------------------------------------------------------ independent, LM


def test_independent_starts_at_ln_10_with_uniform_logits(make_network, shapes):
    student = make_network("cnn").eval()
    for part in student.backbone.fc.parameters():
        torch.nn.init.zeros_(part)
    batch = make_batch(shapes)
    terms = METHODS["independent"]()(batch, student(batch.images), None)
    assert terms["label"].item() == pytest.approx(math.log(10), abs=1e-6)


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


# ------------------------------------------------------------------------------------------------ CRD


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
    scores = torch.exp(similarity / temperature)
    found = contrastive_loss(scores, count * scores.mean(), negatives / count).item()
    expected = math.log(negatives) + 1 + 1 / (2 * temperature**2 * dimension)
    assert found == pytest.approx(expected, abs=4 / (temperature * math.sqrt(dimension * batch)))


def test_crd_of_equal_scores_is_exact():
    scores = torch.full((5, 8), 3.0, dtype=torch.float64)
    count = 100
    found = contrastive_loss(scores, count * scores.mean(), 7 / count, eps=0.0)
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


# --------------------------------------------------------------------------------------------- README


def test_the_readmes_example_is_a_method(make_network, shapes):
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    example = next(part for part in text.split("```python\n") if "class Hints" in part).split("```")[0]
    names = {"__name__": "hints"}
    exec(compile(example, "README.md", "exec"), names)
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1)
    method = names["Hints"](weight=2.0)
    method.build(student, teacher, shapes.train)
    batch = make_batch(shapes)
    with torch.no_grad():
        taught = teacher(batch.images)
    terms = method(batch, student(batch.images), taught)
    sum(terms.values()).backward()
    assert set(terms) == {"label", "hint"}
    assert method.map.weight.grad is not None
