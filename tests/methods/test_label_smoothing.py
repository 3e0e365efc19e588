import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from kdlib.methods.label_smoothing import epsilon_of, mean_entropy, smoothed_entropy

from .common import built, make_batch, terms_of


@settings(deadline=None, max_examples=40)
@given(classes=st.integers(2, 100), share=st.floats(0, 0.999))
def test_smoothed_labels_have_the_entropy_that_was_asked_for(classes, share):
    entropy = share * math.log(classes)
    assert smoothed_entropy(epsilon_of(entropy, classes), classes) == pytest.approx(entropy, abs=1e-6)


def test_epsilon_of_known_entropies():
    assert smoothed_entropy(0.1, 10) == pytest.approx(-0.91 * math.log(0.91) - 0.09 * math.log(0.01))
    assert epsilon_of(smoothed_entropy(0.1, 10), 10) == pytest.approx(0.1, abs=1e-9)
    assert epsilon_of(0.0, 10) == 0
    assert epsilon_of(math.log(10), 10) == epsilon_of(5.0, 10) == 1


def test_a_uniform_network_has_entropy_ln_10_and_a_sharp_one_none(make_network, shapes):
    network = make_network("cnn").eval()
    for part in network.backbone.fc.parameters():
        torch.nn.init.zeros_(part)
    assert mean_entropy(network, shapes.train.images, 1.0) == pytest.approx(math.log(10))
    network.backbone.fc.bias.data[3] = 50.0
    assert mean_entropy(network, shapes.train.images, 1.0) == pytest.approx(0, abs=1e-6)


def test_the_labels_are_as_uncertain_as_the_teacher(make_network, shapes):
    teacher, student = make_network("vit").eval(), make_network("cnn")
    teacher.backbone.head.weight.data *= 30
    expected = mean_entropy(teacher, shapes.train.images, 1.0)
    softer = mean_entropy(teacher, shapes.train.images, 4.0)
    assert 0.1 < expected < softer < math.log(10)
    for temperature, entropy in ((1.0, expected), (4.0, softer)):
        method = built("label_smoothing", student, teacher, shapes, temperature=temperature)
        assert smoothed_entropy(method.epsilon.item(), 10) == pytest.approx(entropy, abs=1e-5)


def test_the_loss_is_the_smoothed_cross_entropy_of_the_checkpoints_epsilon(make_network, shapes):
    teacher, student = make_network("vit").eval(), make_network("cnn").eval()
    method = built("label_smoothing", student, teacher, shapes)
    method.load_state_dict({"epsilon": torch.tensor(0.3)})
    batch = make_batch(shapes)
    found = terms_of(method, student, teacher, batch)
    logits = student(batch.images).logits
    expected = F.cross_entropy(logits, batch.labels, label_smoothing=0.3)
    assert found["label"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert found["label"].item() != pytest.approx(F.cross_entropy(logits, batch.labels).item(), abs=1e-6)
