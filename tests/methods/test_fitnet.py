import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.methods.fitnet import hint_loss, resample

from .common import CNN_TO_VIT, VIT_TO_CNN, built, make_batch, terms_of

SIDES = st.integers(1, 9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), theirs=SIDES, ours=SIDES, scale=st.floats(0.1, 1000))
def test_predicting_zero_costs_1_whatever_the_teachers_grid_and_scale(seed, theirs, ours, scale):
    hint = scale * torch.randn(2, 24, theirs, theirs, generator=torch.Generator().manual_seed(seed))
    assert hint_loss(torch.zeros(2, 24, ours, ours), hint + 5).item() == pytest.approx(1, abs=1e-3)


def test_a_cell_without_active_channels_asks_for_zero():
    hint = torch.randn(1, 24, 2, 2)
    hint[..., 0, 0] = 0
    assert hint_loss(torch.zeros(1, 24, 2, 2), hint).item() == pytest.approx(0.75, abs=1e-3)


def test_the_normalised_target_itself_costs_nothing():
    hint = 7 * torch.randn(2, 24, 4, 4) + 3
    mean, std = hint.mean(1, keepdim=True), hint.std(1, correction=0, keepdim=True)
    assert hint_loss((hint - mean) / std, hint).item() == pytest.approx(0, abs=1e-6)


def test_resampling_averages_downwards_and_interpolates_upwards():
    feature_map = torch.arange(16.0).view(1, 1, 4, 4)
    assert resample(feature_map, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(resample(feature_map, (4, 4)), feature_map)
    finer = resample(feature_map[..., :1, :2], (1, 4))
    assert finer.flatten().tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize(("teacher", "student"), [CNN_TO_VIT, VIT_TO_CNN])
def test_a_regressor_of_zeros_costs_the_weight(teacher, student, make_network, shapes):
    teacher, student = make_network(teacher).eval(), make_network(student)
    method = built("fitnet", student, teacher, shapes, weight=2.0)
    for part in method.regressor.parameters():
        torch.nn.init.zeros_(part)
    batch = make_batch(shapes)
    found = terms_of(method, student, teacher, batch)["hint"].item()
    hint = teacher(batch.images, ("stages",)).stages[2]
    active = (hint.var(1) > 0).float().mean().item()  # of the untrained CNN's cells a few have none
    assert active > 0.9 and found == pytest.approx(2 * active, abs=0.02)


def test_building_reads_widths_and_changes_nothing(make_network, shapes):
    teacher, student = make_network("vit").eval(), make_network("cnn")
    before = {name: value.clone() for name, value in student.state_dict().items()}
    method = built("fitnet", student, teacher, shapes)
    assert (method.regressor.in_channels, method.regressor.out_channels) == (16, 16)
    assert student.training and not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
