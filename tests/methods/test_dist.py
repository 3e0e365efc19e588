import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.methods import METHODS
from kdlib.methods.dist import correlation_distance
from kdlib.models import Output

from .common import make_batch


def random_pair(seed, rows=64, classes=10):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, classes, generator=generator)


def distances(student, teacher, shapes, **hyper):
    """The weighted terms "inter" and "intra" of given logits."""
    outputs = (Output(logits, {}, logits, logits) for logits in (student, teacher))
    terms = METHODS["dist"](**hyper)(make_batch(shapes, len(student), progress=0.5), *outputs)
    return terms["inter"].item(), terms["intra"].item()


def test_equal_logits_and_shifted_rows_cost_nothing(shapes):
    student, shift = random_pair(0)
    assert distances(student, student, shapes) == pytest.approx((0, 0), abs=1e-6)
    assert distances(student + shift[:, :1], student, shapes) == pytest.approx((0, 0), abs=1e-5)


def test_another_affine_map_for_each_image_costs_within_classes_only(shapes):
    _, teacher = random_pair(2)
    sharpness = torch.linspace(0.01, 1, 64)[:, None]
    probabilities = sharpness * teacher.softmax(1) + (1 - sharpness) / 10
    inter, intra = distances(probabilities.log(), teacher, shapes)
    assert inter == pytest.approx(0, abs=1e-4)
    assert intra > 0.1


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_uniform_student_costs_the_squared_temperature_a_part(temperature, shapes):
    _, teacher = random_pair(1)
    found = distances(torch.zeros(64, 10), teacher, shapes, weight=1.0, temperature=temperature)
    assert found == pytest.approx((temperature**2, temperature**2))
    assert sum(distances(torch.zeros(64, 10), teacher, shapes)) == 4.0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_each_distance_ignores_affine_maps_of_its_own_rows(seed, scale, shift):
    student, teacher = random_pair(seed).double().softmax(2)
    rows = 1 + torch.arange(64)[:, None]  # another map for each row
    mapped = scale * rows * teacher + shift * rows
    assert correlation_distance(mapped, teacher).item() == pytest.approx(0, abs=1e-5)
    expected = correlation_distance(student, teacher).item()
    assert correlation_distance(student, mapped).item() == pytest.approx(expected, abs=1e-5)
    assert correlation_distance(mapped.T, teacher.T) > 0.1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), scale=st.floats(-50, 50))
def test_distances_lie_between_0_and_2(seed, scale):
    student, teacher = random_pair(seed)
    for sign in (1, -1):
        distance = correlation_distance((scale * student).softmax(1), (sign * scale * teacher).softmax(1))
        assert -1e-6 <= distance <= 2 + 1e-6
    assert correlation_distance(-teacher, teacher).item() == pytest.approx(2, abs=1e-6)
