import math

import pytest
import torch

from kdlib.methods import METHODS

from .common import make_batch


def test_independent_starts_at_ln_10_with_uniform_logits(make_network, shapes):
    student = make_network("cnn").eval()
    for part in student.backbone.fc.parameters():
        torch.nn.init.zeros_(part)
    batch = make_batch(shapes)
    terms = METHODS["independent"]()(batch, student(batch.images), None)
    assert terms["label"].item() == pytest.approx(math.log(10), abs=1e-6)
