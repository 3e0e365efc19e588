"""Known answers and invariances of the agreement of two networks' answers, and of calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdlib.bias import (
    accuracy,
    agreement,
    agreement_kappa,
    error_consistency,
    expected_calibration_error,
    learned,
    negative_log_likelihood,
    raw_ratio,
    retention,
)

from .test_measures import CHANCE, HITS, cue_following, random_hits, rng


def test_kappa_of_ten_images_by_hand():
    first, second = np.array([[0, 0, 0, 0, 0, 1, 1, 1, 2, 2]]), np.array([[0, 0, 0, 0, 1, 1, 1, 0, 2, 1]])
    # o = 7/10; shares .5 .3 .2 and .5 .4 .1, so e = .25 + .12 + .02
    assert agreement_kappa(first, second).mean() == pytest.approx((0.7 - 0.39) / (1 - 0.39))


def test_answers_that_know_only_the_shares_agree_by_chance():
    first, second = rng().choice(3, p=[0.7, 0.2, 0.1], size=(2, 3, 100_000))
    np.testing.assert_allclose(agreement_kappa(first, second).mean(axis=1), 0, atol=0.01)


def test_equal_answers_have_kappa_one_without_variance():
    answers = rng().integers(0, 10, (3, 50), dtype=np.uint8)
    assert (agreement_kappa(answers, answers) == 1).all()


def test_kappa_of_networks_that_only_ever_name_one_class_is_nan():
    first, second = np.array([[4] * 6, [4] * 6]), np.array([[4] * 6, [4] * 5 + [5]])
    np.testing.assert_array_equal(np.isnan(agreement_kappa(first, second)).all(axis=1), [True, False])


def test_kappa_takes_whole_floats_and_is_nan_for_a_run_that_gave_no_answer():
    first, second = np.array([[0, 0, 1, 2], [-1] * 4]), np.array([[0, 1, 1, 2], [-1] * 4])
    values = agreement_kappa(first.astype(float), second)
    # o = 3/4; shares .5 .25 .25 and .25 .5 .25, so e = 5/16
    assert values[0].mean() == pytest.approx((3 / 4 - 5 / 16) / (1 - 5 / 16)) and np.isnan(values[1]).all()


@settings(deadline=None)
@given(arrays(np.uint8, (2, 3, 30), elements=st.integers(0, 4)), st.permutations(range(5)))
def test_kappa_is_symmetric_and_blind_to_the_names_of_classes(answers, names):
    values = agreement_kappa(*answers)
    np.testing.assert_allclose(agreement_kappa(*answers[::-1]), values, atol=1e-12)
    np.testing.assert_allclose(agreement_kappa(*np.array(names)[answers]), values, atol=1e-12)


@settings(deadline=None)
@given(HITS, HITS)
def test_error_consistency_is_kappa_with_its_printed_influence(hits, other):
    hits[:, 0], other[:, 0], hits[:, 1] = True, True, False
    p, q = hits.mean(axis=1, keepdims=True), other.mean(axis=1, keepdims=True)
    same, expected = hits == other, p * q + (1 - p) * (1 - q)
    observed = same.mean(axis=1, keepdims=True)
    value = (observed - expected) / (1 - expected)
    drift = (2 * q - 1) * (hits - p) + (2 * p - 1) * (other - q)
    influence = (same - observed) / (1 - expected) + (observed - 1) / (1 - expected) ** 2 * drift
    np.testing.assert_allclose(error_consistency(hits, other), value + influence, atol=1e-9)


def test_error_consistency_of_nested_errors_is_what_two_accuracies_allow():
    hits, other = np.arange(100) < np.array([[90], [50]]), np.arange(100) < np.array([[60], [50]])
    limit = [(0.7 - 0.58) / 0.42, 1]  # by hand: e = .9 * .6 + .1 * .4 = .58, o = .7
    np.testing.assert_allclose(error_consistency(hits, other).mean(axis=1), limit)
    apart = error_consistency(hits, rng().permuted(other, axis=1)).mean(axis=1)
    assert (apart < limit).all()


def test_a_run_without_answers_has_no_measure_and_hides_no_other():
    labels = np.arange(40) % 10
    predicted = np.stack([np.where(np.arange(40) < 30, labels, (labels + 1) % 10), np.full(40, -1)])
    hits = accuracy(predicted, labels)
    assert hits[0].mean() == 0.75
    assert learned(hits, CHANCE).tolist() == [True, False]
    alike = error_consistency(hits, accuracy(predicted[[0, 0]], labels))
    for found in (hits, retention(hits, hits, CHANCE), alike, raw_ratio(hits, hits)):
        assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_error_consistency_without_a_single_error_is_nan():
    hits = np.ones((2, 9))
    assert np.isnan(error_consistency(hits, hits)).all()


def test_agreement_counts_equal_answers_right_or_wrong():
    np.testing.assert_array_equal(agreement([[0, 1, 2]], [[0, 2, 2]]), [[1, 0, 1]])
    np.testing.assert_array_equal(agreement([[-1, -1, 2]], [[-1, 2, -1]]), [[np.nan] * 3])  # diverged


@pytest.mark.parametrize("image", [0, 17, 399])
def test_influence_on_kappa_is_the_jackknife_to_first_order(image):
    first, *_ = cue_following()
    second = np.where(random_hits(0.6), first, cue_following(seed=3)[0])
    values = agreement_kappa(first, second)
    without = agreement_kappa(np.delete(first, image, axis=1), np.delete(second, image, axis=1))
    pseudo = 400 * values.mean(axis=1) - 399 * without.mean(axis=1)
    np.testing.assert_allclose(values[:, image], pseudo, atol=0.02)


@settings(deadline=None)
@given(arrays(np.uint8, (2, 3, 40), elements=st.integers(0, 3)))
def test_mean_of_kappa_is_the_value_of_the_run(answers):
    first, second = answers
    first[:, 0], second[:, 0] = 0, 1
    shares = [(part[..., None] == np.arange(4)).mean(axis=1) for part in answers]
    expected = (shares[0] * shares[1]).sum(axis=1)
    run = ((first == second).mean(axis=1) - expected) / (1 - expected)
    np.testing.assert_allclose(agreement_kappa(first, second).mean(axis=1), run, atol=1e-9)


# Calibration


def test_nll_is_minus_log_of_the_confidence_and_finite_where_float16_underflows():
    values = negative_log_likelihood(np.array([[1, 0.5, 1e-12]], dtype=np.float16))
    np.testing.assert_allclose(values, [[0, np.log(2), 24 * np.log(2)]])


@pytest.mark.parametrize("wrong", [[[0.5, 80.0]], [[-1.5, 0.5]]])
def test_percentages_and_logits_are_no_confidences(wrong):
    with pytest.raises(ValueError, match=r"confidence_label must lie in \[0, 1\]"):
        negative_log_likelihood(wrong)
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\]"):
        expected_calibration_error(wrong, [[0, 1]], bins=1)


def test_calibration_error_of_equal_confidences_is_their_distance_from_accuracy():
    confidence = np.full((2, 300), 0.75)
    hits = np.stack([np.arange(300) % 2, np.ones(300)])
    # half right: each bin of 20 loses the variance of its ten hits and ten misses
    values = expected_calibration_error(confidence, hits)
    np.testing.assert_allclose(values, [np.sqrt(0.25**2 - 10 / 19 / 2 / 20), 0.25])


def test_calibration_of_fewer_than_two_images_a_bin_is_not_defined():
    assert np.isnan(expected_calibration_error(np.ones((1, 29)), np.ones((1, 29)))).all()


def test_debiasing_more_than_halves_the_error_of_a_calibrated_network():
    generator = rng()
    confidence = generator.uniform(0.4, 1, (20, 1000))
    hits = generator.random((20, 1000)) < confidence
    order = np.argsort(confidence, axis=1)
    gaps = np.take_along_axis(confidence - hits, order, axis=1)[:, :990].reshape(20, 15, 66).mean(axis=2)
    assert expected_calibration_error(confidence, hits).mean() < np.abs(gaps).mean() / 2


def test_overconfidence_is_measured_in_points():
    generator = rng()
    confidence = generator.uniform(0.4, 1, (5, 10_000))
    hits = generator.random((5, 10_000)) < confidence - 0.2
    np.testing.assert_allclose(expected_calibration_error(confidence, hits), 0.2, atol=0.02)
