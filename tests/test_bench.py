import json

import pandas as pd
import pytest
import torch

from kdlib.study import Study
from kdlib.study.bench import Contender, flops, keep, seconds

CPU = torch.device("cpu")


def test_a_linear_layers_operations_are_counted():
    layer, inputs = torch.nn.Linear(30, 50), torch.randn(20, 30, requires_grad=True)
    assert flops(lambda: layer(inputs)) == 2 * 20 * 30 * 50
    assert flops(lambda: layer(inputs).sum().backward()) == 3 * 2 * 20 * 30 * 50


def test_attention_is_counted_as_its_two_products():
    tokens = torch.randn(2, 3, 65, 32, requires_grad=True)
    product = 2 * 2 * 3 * 65 * 65 * 32
    attend = torch.nn.functional.scaled_dot_product_attention
    assert flops(lambda: attend(tokens, tokens, tokens).sum().backward()) == 3 * 2 * product


def test_seconds_are_of_one_call():
    calls = []
    assert seconds(lambda: calls.append(1), CPU, times=5) >= 0
    assert len(calls) == 5


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("bench")
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    overrides = {"data.train_images": 64, "data.options": {"test_images": 20}, "training.batch_size": 16}
    overrides |= {"directions.cnn_to_vit.methods": ["lm", "crd"], "directions.cnn_to_vit.controls": []}
    overrides |= {
        "directions.vit_to_cnn.methods": ["sskd"],
        "directions.vit_to_cnn.controls": ["most_epochs"],
    }
    overrides |= {"students.vit.model.options": small, "teachers.vit.model.options": small}
    return Study("quick", folder, folder, overrides, quiet=True)


def contender(study: Study, role: str) -> Contender:
    return next(Contender(study, member.spec) for member in study.members() if member.role == role)


def test_the_floor_sees_the_methods_images_and_reads_the_teacher_it_reads(study):
    alone, taught, turned = (contender(study, role) for role in ("baseline", "lm", "sskd"))
    assert len(alone.images) == len(taught.images) == 16
    assert len(turned.images) == len(turned.labels) == 4 * 16
    forward = flops(lambda: taught.run.teacher(taught.images))
    assert flops(taught.floor) == flops(alone.floor) + forward
    assert flops(taught.step) == flops(taught.floor)  # logit matching multiplies no matrices


def test_what_is_kept_can_be_read(study):
    table, as_json = keep(study, rounds=1)
    found = json.loads(as_json.read_text())
    assert found["machine"]["threads"] == torch.get_num_threads() and found["rounds"] == 1
    pd.testing.assert_frame_equal(pd.DataFrame(found["steps"]), table)
    # Not the baseline of more epochs: its step is the same.
    assert list(table.role) == ["baseline", "lm", "crd", "baseline", "sskd"]
    assert table.extra_parameters[0] == 0 and table.extra_parameters[1] == 0 < table.extra_parameters[2]
    assert (table[["milliseconds", "floor", "over_floor", "gflop"]] > 0).all(axis=None)
