import math

import pytest
import torch

from kdlib.messages import UnknownName
from kdlib.methods import METHODS

from .common import built, make_batch


def test_baseline_starts_at_ln_10_with_uniform_logits(make_network, shapes):
    student = make_network("cnn").eval()
    for part in student.backbone.fc.parameters():
        torch.nn.init.zeros_(part)
    batch = make_batch(shapes)
    terms = METHODS["baseline"]()(batch, student(batch.images), None)
    assert terms["label"].item() == pytest.approx(math.log(10), abs=1e-6)


@pytest.mark.parametrize(("augmentation", "count"), [("plain", 1), ("rotations", 4), ("transformed", 1)])
def test_every_view_is_labelled_as_its_image(augmentation, count, make_network, shapes):
    student, batch = make_network("cnn").eval(), make_batch(shapes)
    method = built("baseline", student, None, shapes, augmentation=augmentation)
    views = method.views(batch)
    assert len(views) == count * len(batch.labels)
    assert torch.equal(views, batch.images) == (augmentation == "plain")
    output = student(views)
    chosen = output.logits.log_softmax(1)[torch.arange(len(views)), batch.labels.repeat_interleave(count)]
    assert method(batch, output, None)["label"].item() == pytest.approx(-chosen.mean().item(), rel=1e-5)


def test_unknown_augmentation_is_named(make_network, shapes):
    with pytest.raises(UnknownName, match="augmentation of Baseline 'rotation'. Did you mean 'rotations'"):
        built("baseline", make_network("cnn"), None, shapes, augmentation="rotation")
