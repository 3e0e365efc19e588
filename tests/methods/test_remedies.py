"""Each remedy is LM where it changes nothing, and what its equation says where it does."""

import math

import pytest
import torch
from torch.nn import functional as F

from kdlib.methods.cue_versions import CounterAugment, Gate, Marginalise, jensen_shannon
from kdlib.methods.lm import LogitMatching, divergences, soft_divergence

from .common import make_batch, terms_of


@pytest.fixture
def networks(make_network):
    """A student, and a teacher whose answers differ between images."""
    student, teacher = make_network("vit", seed=1), make_network("cnn")
    teacher.eval().backbone.get_classifier().weight.data *= 200
    return student.eval(), teacher


def ready(method, networks, shapes):
    torch.manual_seed(0)
    method.build(*networks, shapes.train)
    return method


def found(method, networks, shapes, **batch):
    return terms_of(ready(method, networks, shapes), *networks, make_batch(shapes, **batch))


def test_divergences_average_to_lms_loss():
    student, teacher = torch.randn(2, 12, 10)
    each = divergences(student, (teacher / 4).log_softmax(1), 4.0)
    assert each.mean().item() == pytest.approx(soft_divergence(student, teacher, 4.0).item(), rel=1e-5)


def test_jensen_shannon_goes_from_0_to_ln_2():
    one, other = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0]])
    assert jensen_shannon(one, one).item() == pytest.approx(0, abs=1e-6)
    assert jensen_shannon(one, other).item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        Marginalise(versions=1, dose=0.0),
        Marginalise(versions=3, dose=0.0),
        Gate(dose=0.0),
        CounterAugment(dose=0.0, counter_weight=0.0),
    ],
    ids=lambda method: method.title,
)
def test_without_a_change_it_is_lm(method, networks, shapes):
    expected = terms_of(LogitMatching(), *networks, make_batch(shapes))
    terms = found(method, networks, shapes)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name


@pytest.mark.parametrize("cue", ["texture", "grey", "noise", "patches"])
def test_marginalising_averages_the_teachers_answers_to_the_versions(cue, networks, shapes):
    student, teacher = networks
    dose = 0.2 if cue == "noise" else 1.0
    method, batch = ready(Marginalise(versions=2, cue=cue, dose=dose), networks, shapes), make_batch(shapes)
    torch.manual_seed(5)
    terms = terms_of(method, student, teacher, batch)
    torch.manual_seed(5)
    asked = [teacher(method.changed(batch.images)).logits for _ in range(2)]
    target = torch.stack([(logits / 4).softmax(1) for logits in asked]).mean(0)
    expected = 0.9 * divergences(student(batch.images).logits, target.log(), 4.0).mean()
    assert terms["logits"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_gate_shuts_where_the_answer_follows_the_cue(networks, shapes):
    student, teacher = networks
    method, batch = ready(Gate(), networks, shapes), make_batch(shapes)
    other = torch.full((16, 10), -100.0)
    other[:, 0] = 100  # the changed image is always of class 0
    method.asked = lambda images: other
    taught, learned = teacher(batch.images), student(batch.images)
    sure = F.one_hot(torch.arange(16) % 2, 10).float() * 100  # of class 0 in every second image
    terms = method(batch, learned, type(taught)(sure, {}, taught.embedding, taught.feature_map))
    each = divergences(learned.logits, (sure / 4).log_softmax(1), 4.0)
    assert terms["logits"].item() == pytest.approx(0.9 * each[::2].mean().item(), rel=1e-4)


def test_confidence_weighs_by_the_largest_probability(networks, shapes):
    student, teacher = networks
    batch = make_batch(shapes)
    terms = found(Gate(by="confidence"), networks, shapes)
    taught, learned = teacher(batch.images).logits, student(batch.images).logits
    weight = taught.softmax(1).amax(1)
    each = divergences(learned, (taught / 4).log_softmax(1), 4.0)
    expected = 0.9 * (weight * each).sum() / weight.sum()
    assert terms["logits"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_counter_augmentation_adds_labels_on_changed_images(networks, shapes):
    method, batch = (
        ready(CounterAugment(cue="grey", counter_weight=2.0), networks, shapes),
        make_batch(shapes),
    )
    torch.manual_seed(5)
    views = method.views(batch)
    assert torch.equal(views[::2], batch.images) and (views[1::2, 0] == views[1::2, 1]).all()
    torch.manual_seed(5)
    terms = terms_of(method, *networks, batch)
    expected = 2 * F.cross_entropy(networks[0](views[1::2]).logits, batch.labels)
    assert terms["counter"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_no_teacher_is_part_of_a_methods_state(networks, shapes):
    for method in (Marginalise(), Gate(), CounterAugment()):
        assert not ready(method, networks, shapes).state_dict()


def test_a_dose_that_the_cue_cannot_have_is_refused(networks, shapes):
    with pytest.raises(ValueError, match="dose of noise is 1.0; give the largest standard deviation"):
        ready(Gate(cue="noise"), networks, shapes)
