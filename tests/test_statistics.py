"""Known answers and invariances of the interval, of Holm's correction, and of the words for a difference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kdlib.bias import crossed_interval, holm, wilson_lower

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# Crossed seeds and images


def test_pure_seed_effects_give_the_t_interval_of_the_seed_means():
    means = rng().normal(0.1, 0.2, 5)
    interval = crossed_interval(np.repeat(means[:, None], 300, axis=1))
    expected = stats.ttest_1samp(means, 0)
    reference = expected.confidence_interval(0.95)
    assert interval.df == 4
    np.testing.assert_allclose(
        [interval.estimate, interval.p, interval.low, interval.high],
        [means.mean(), expected.pvalue, reference.low, reference.high],
        rtol=1e-10,
    )


def test_pure_image_effects_give_the_t_interval_of_the_images():
    images = rng().normal(0.1, 1, 50)
    interval = crossed_interval(np.tile(images, (4, 1)), level=0.9)
    expected = stats.ttest_1samp(images, 0)
    reference = expected.confidence_interval(0.9)
    np.testing.assert_allclose(
        [interval.df, interval.p, interval.low, interval.high],
        [49, expected.pvalue, reference.low, reference.high],
        rtol=1e-10,
    )


def test_additive_effects_add_their_variances():
    seeds, images = rng().normal(size=(4, 1)), rng().normal(size=80)
    interval = crossed_interval(seeds + images)
    var_seeds, var_images = seeds.var(ddof=1) / 4, images.var(ddof=1) / 80
    variance = var_seeds + var_images
    df = variance**2 / (var_seeds**2 / 3 + var_images**2 / 79)
    half_width = stats.t.ppf(0.975, df) * np.sqrt(variance)
    np.testing.assert_allclose([interval.df, interval.high - interval.estimate], [df, half_width], rtol=1e-10)


def test_independent_entries_give_at_least_the_standard_error_of_all_of_them():
    values = rng().normal(size=(40, 50))
    interval = crossed_interval(values)
    error = (interval.high - interval.estimate) / stats.t.ppf(0.975, interval.df)
    assert error == pytest.approx(stats.sem(values, axis=None), rel=0.2)
    assert interval.df >= 39


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.02])
def test_interval_covers_the_truth_95_times_in_100(seeds, seed_sd):
    generator, truth, repeats = rng(), 0.1, 400
    covered = 0
    for _ in range(repeats):
        means = truth + generator.normal(0, seed_sd, (seeds, 1)) + generator.normal(0, 0.3, 1000)
        interval = crossed_interval(means + generator.normal(0, 0.3, (seeds, 1000)))
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / repeats <= 0.98


def test_interval_scales_with_the_units():
    values = rng().normal(0.2, 1, (3, 20))
    one, tiny = crossed_interval(values), crossed_interval(values * 1e-120)
    np.testing.assert_allclose([tiny.low * 1e120, tiny.df, tiny.p], [one.low, one.df, one.p])


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.1, 0.0)])
def test_no_variance_gives_no_width(value, p):
    interval = crossed_interval(np.full((3, 7), value))
    assert interval.low == interval.estimate == interval.high == value
    assert interval.p == p


def test_p_is_the_level_at_which_the_interval_reaches_zero():
    values = rng().normal(0.2, 1, (4, 30))
    interval = crossed_interval(values, level=1 - crossed_interval(values).p)
    assert interval.low == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(arrays(np.float64, (3, 8), elements=st.floats(-1, 1)), st.randoms(use_true_random=False))
def test_order_of_seeds_and_images_does_not_matter(values, random):
    rows, columns = random.sample(range(3), 3), random.sample(range(8), 8)
    one, other = crossed_interval(values), crossed_interval(values[rows][:, columns])
    np.testing.assert_allclose([one.low, one.high], [other.low, other.high], atol=1e-6)


def test_one_seed_has_an_estimate_alone_and_a_run_that_did_not_learn_leaves_nothing():
    assert str(crossed_interval(np.full((1, 9), 0.25))) == "+0.250"
    assert str(crossed_interval([[0, 1.0], [np.nan, 1]])) == "not defined"


def test_a_row_of_seeds_is_refused_in_a_line_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"shape \(9,\); stack one row a seed"):
        crossed_interval(np.zeros(9))


def test_level_in_percent_is_refused():
    with pytest.raises(ValueError, match=r"write 95% as 0\.95"):
        crossed_interval(np.zeros((2, 2)), level=95)
    with pytest.raises(ValueError, match=r"write 95% as 0\.95"):
        wilson_lower(np.zeros((2, 2)), level=95)


# Seeds alone


def test_of_one_column_it_is_the_t_interval():
    values = rng().normal(0.1, 0.2, 4)
    interval, expected = crossed_interval(values[:, None], level=0.9), stats.ttest_1samp(values, 0)
    reference = expected.confidence_interval(0.9)
    np.testing.assert_allclose(
        [interval.estimate, interval.low, interval.high, interval.p, interval.df],
        [values.mean(), reference.low, reference.high, expected.pvalue, 3],
        rtol=1e-10,
    )


def test_equal_seeds_give_no_width():
    interval = crossed_interval([[0.1]] * 3)
    assert interval.low == interval.estimate == interval.high == 0.1


# Holm


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_one_test_alone_needs_no_correction():
    assert holm([0.3]) == 0.3


def test_a_test_that_could_not_be_done_does_not_count():
    np.testing.assert_array_equal(holm([0.02, np.nan, 0.01]), [0.02, np.nan, 0.02])
    assert np.isnan(holm([np.nan, np.nan])).all()


@given(PROBABILITIES)
def test_holm_lies_between_each_p_and_bonferroni_and_keeps_their_order(p):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(np.multiply(p, len(p)), 1)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@given(PROBABILITIES, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_of_the_tests(p, random):
    order = random.sample(range(len(p)), len(p))
    np.testing.assert_array_equal(holm(np.array(p)[order]), holm(p)[order])


@pytest.mark.parametrize("p", [[0.1, 1.2], [-0.1], 0.5])
def test_holm_refuses_what_is_no_list_of_probabilities(p):
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]"):
        holm(p)
