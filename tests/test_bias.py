"""Known answers and invariances of the measures and their interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kdlib.bias import (
    SMALLEST_EFFECTS,
    accuracy,
    crossed_interval,
    cue_decisions,
    cue_rate,
    learned,
    raw_ratio,
    retention,
    shape_bias,
    transfer,
)

CHANCE = 0.1
HITS = arrays(np.bool_, (3, 60))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_hits(rate: float, seeds: int = 3, images: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < rate


def conflict_labels(images: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    shape = generator.integers(0, 10, images)
    return shape, (shape + generator.integers(1, 10, images)) % 10


def cue_following(seeds: int = 3, images: int = 400, seed: int = 2):
    """Predictions that name shape, texture or any class, each a third of the time; and both labels."""
    generator = np.random.default_rng(seed)
    shape, texture = conflict_labels(images)
    anything = generator.integers(0, 10, (seeds, images))
    predicted = np.choose(generator.integers(0, 3, (seeds, images)), [shape, texture, anything])
    return predicted, shape, texture


# The interval


def test_pure_seed_effects_give_the_t_interval_of_the_seed_means():
    means = rng().normal(0.1, 0.2, 5)
    interval = crossed_interval(np.repeat(means[:, None], 300, axis=1))
    expected = stats.ttest_1samp(means, 0)
    reference = expected.confidence_interval(0.95)
    assert (interval.df, interval.seeds, interval.images) == (4, 5, 300)
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


@pytest.mark.parametrize("seed_sd", [0.01, 0.02])
def test_interval_covers_the_truth_95_times_in_100(seed_sd):
    generator, truth, repeats = rng(), 0.1, 1000
    covered = 0
    for _ in range(repeats):
        seeds = generator.normal(0, seed_sd, (3, 1))
        images = generator.normal(0, 0.3, 200)
        interval = crossed_interval(truth + seeds + images + generator.normal(0, 0.3, (3, 200)))
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / repeats <= 0.97


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((1, 9)), r"got 1 seed.*at least 2: train more seeds.*no interval"),
        (np.zeros((3, 1)), r"got 1 image.*at least 2: evaluate more images"),
        (np.array([[0, 1.0], [np.nan, 1]]), r"row\(s\) \[1\].*did not learn"),
        (np.zeros(9), r"shape \(9,\)"),
    ],
)
def test_interval_refuses_in_one_line_that_says_what_to_do(values, message):
    with pytest.raises(ValueError, match=message) as error:
        crossed_interval(values)
    assert "\n" not in str(error.value)


def test_level_in_percent_is_refused():
    with pytest.raises(ValueError, match=r"write 95% as 0\.95"):
        crossed_interval(np.zeros((2, 2)), level=95)


# Accuracy, raw ratio, retention


def test_accuracy_counts_hits():
    np.testing.assert_array_equal(accuracy([[0, 1, 2], [2, 1, 0]], [0, 1, 1]), [[1, 1, 0], [0, 1, 0]])


def test_raw_ratio_gives_a_guesser_full_marks_which_is_its_flaw():
    probe, clean = random_hits(0.1, images=100_000), random_hits(0.1, images=100_000, seed=1)
    np.testing.assert_allclose(raw_ratio(probe, clean), 1, atol=0.05)
    assert np.isnan(retention(probe, clean, CHANCE)).all()


def test_raw_ratio_without_a_single_clean_hit_is_nan():
    assert np.isnan(raw_ratio(np.ones((1, 5)), np.zeros((1, 5)))).all()


def test_guessing_on_the_probe_retains_nothing():
    values = retention(random_hits(0.1, images=100_000), random_hits(0.9, images=100_000, seed=1), CHANCE)
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=0.01)


def test_perfect_model_retains_everything():
    assert (retention(np.ones((2, 50)), np.ones((2, 50)), CHANCE) == 1).all()


def test_probe_that_changes_no_answer_retains_exactly_one_without_variance():
    hits = random_hits(0.7)
    interval = crossed_interval(retention(hits, hits, CHANCE))
    assert interval.low == interval.estimate == interval.high == 1


def test_retention_is_linear_in_probe_accuracy():
    clean = np.ones((1, 100))
    probe = (np.arange(100) < np.array([[10], [55], [100]])).astype(float)
    values = retention(probe, np.repeat(clean, 3, axis=0), CHANCE)
    np.testing.assert_allclose(values.mean(axis=1), [0, 0.5, 1], atol=1e-12)


@settings(deadline=None)
@given(HITS, HITS)
def test_mean_of_retention_is_the_value_of_the_run(probe, clean):
    clean[:, :30] = True
    run = (probe.mean(axis=1) - CHANCE) / (clean.mean(axis=1) - CHANCE)
    np.testing.assert_allclose(retention(probe, clean, CHANCE).mean(axis=1), run, atol=1e-12)


def test_only_the_run_that_did_not_learn_is_nan():
    clean = np.concatenate([random_hits(0.9, seeds=1), random_hits(0.1, seeds=1), random_hits(0.6, seeds=1)])
    np.testing.assert_array_equal(learned(clean, CHANCE), [True, False, True])
    rows = np.isnan(retention(random_hits(0.5), clean, CHANCE))
    np.testing.assert_array_equal(rows.all(axis=1), [False, True, False])
    np.testing.assert_array_equal(rows.any(axis=1), [False, True, False])


def test_learned_needs_the_lower_wilson_bound_above_chance_plus_a_tenth():
    bounds = {hits: stats.binomtest(hits, 100).proportion_ci(method="wilson").low for hits in range(101)}
    clean = np.arange(100) < np.arange(101)[:, None]
    np.testing.assert_array_equal(learned(clean, CHANCE), [bound > 0.2 for bound in bounds.values()])


# Shape bias


def test_shape_bias_of_six_images_by_hand():
    shape, texture = np.array([0, 1, 2, 3, 4, 5]), np.array([1, 2, 3, 4, 5, 6])
    predicted = np.array([[0, 1, 2, 4, 9, 9]])  # three shape, one texture, two neither
    by_shape, by_texture = cue_decisions(predicted, shape, texture)
    assert (by_shape.sum(), by_texture.sum()) == (3, 1)
    assert cue_rate(predicted, shape, texture).mean() == pytest.approx(4 / 6)
    values = shape_bias(predicted, shape, texture)
    assert values.mean() == pytest.approx(3 / 4)
    # by hand: B + (shape - B cue)/(4/6), so an image that follows no cue has no influence
    np.testing.assert_allclose(values, [[1.125, 1.125, 1.125, -0.375, 0.75, 0.75]])


def test_guessing_between_the_two_cues_has_shape_bias_one_half():
    shape, texture = conflict_labels(100_000)
    predicted = np.where(random_hits(0.5, images=100_000), shape, texture)
    np.testing.assert_allclose(shape_bias(predicted, shape, texture).mean(axis=1), 0.5, atol=0.01)


def test_ten_way_guesser_has_no_preference_but_reads_too_few_cues_to_say_so():
    shape, texture = conflict_labels(100_000)
    predicted = rng().integers(0, 10, (3, 100_000))
    by_shape, by_texture = cue_decisions(predicted, shape, texture)
    assert by_shape.sum() / (by_shape.sum() + by_texture.sum()) == pytest.approx(0.5, abs=0.01)
    assert cue_rate(predicted, shape, texture).mean() == pytest.approx(0.2, abs=0.01)
    assert np.isnan(shape_bias(predicted, shape, texture)).all()


def test_always_shape_is_one_and_always_texture_is_zero():
    shape, texture = conflict_labels(30)
    np.testing.assert_array_equal(shape_bias([shape, texture], shape, texture), [[1] * 30, [0] * 30])


def test_swapping_the_cues_gives_the_complement():
    predicted, shape, texture = cue_following()
    swapped = shape_bias(predicted, texture, shape)
    np.testing.assert_allclose(shape_bias(predicted, shape, texture), 1 - swapped, atol=1e-12)


@settings(deadline=None)
@given(arrays(np.int64, (3, 60), elements=st.integers(0, 9)))
def test_mean_of_shape_bias_is_the_value_of_the_run(predicted):
    shape, texture = conflict_labels(60)
    predicted[:, :10], predicted[:, 10:20] = shape[:10], texture[10:20]
    by_shape, by_texture = cue_decisions(predicted, shape, texture)
    run = by_shape.sum(axis=1) / (by_shape.sum(axis=1) + by_texture.sum(axis=1))
    np.testing.assert_allclose(shape_bias(predicted, shape, texture).mean(axis=1), run, atol=1e-12)


@settings(deadline=None)
@given(st.permutations(range(10)))
def test_names_of_the_classes_do_not_matter(names):
    names = np.array(names)
    predicted, shape, texture = cue_following(images=50)
    for measure, labels in (
        (accuracy, (shape,)),
        (cue_rate, (shape, texture)),
        (shape_bias, (shape, texture)),
    ):
        renamed = measure(names[predicted], *(names[label] for label in labels))
        np.testing.assert_array_equal(measure(predicted, *labels), renamed)


def test_order_of_the_images_only_reorders_the_influence():
    predicted, shape, texture = cue_following()
    order = rng().permutation(400)
    probe, clean = random_hits(0.5), random_hits(0.9, seed=1)
    np.testing.assert_allclose(
        shape_bias(predicted[:, order], shape[order], texture[order]),
        shape_bias(predicted, shape, texture)[:, order],
    )
    np.testing.assert_allclose(
        retention(probe[:, order], clean[:, order], CHANCE), retention(probe, clean, CHANCE)[:, order]
    )


# Influence against the jackknife: n value(all) - (n - 1) value(all but i) is D[i] up to terms of order 1/n


@pytest.mark.parametrize("image", [0, 17, 399])
def test_influence_on_retention_is_the_jackknife_to_first_order(image):
    probe, clean = random_hits(0.5), random_hits(0.9, seed=1)
    values = retention(probe, clean, CHANCE)
    without = retention(np.delete(probe, image, axis=1), np.delete(clean, image, axis=1), CHANCE)
    pseudo = 400 * values.mean(axis=1) - 399 * without.mean(axis=1)
    np.testing.assert_allclose(values[:, image], pseudo, atol=0.02)


@pytest.mark.parametrize("image", [0, 17, 399])
def test_influence_on_shape_bias_is_the_jackknife_to_first_order(image):
    predicted, *labels = cue_following()
    values = shape_bias(predicted, *labels)
    without = shape_bias(np.delete(predicted, image, axis=1), *(np.delete(label, image) for label in labels))
    pseudo = 400 * values.mean(axis=1) - 399 * without.mean(axis=1)
    np.testing.assert_allclose(values[:, image], pseudo, atol=0.02)


# Refusals of the measures


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([[0, 1]], [0, 1, 2]), r"\(1, 2\).*labels \(3,\)"),
        (lambda: accuracy([0, 1], [0, 1]), "one row a seed"),
        (lambda: retention(np.ones((2, 5)), np.ones((2, 6)), CHANCE), "same seeds and images"),
        (lambda: retention(np.full((2, 5), 7), np.ones((2, 5)), CHANCE), "matrix of 0 and 1"),
        (lambda: retention(np.ones((2, 5)), np.ones((2, 5)), 10), "0.1 for CIFAR-10"),
        (lambda: shape_bias([[0, 1]], [0, 1], [1, 1]), "conflict images only"),
    ],
)
def test_measures_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Transfer


def three_runs():
    """Independent at .5, teacher at .8, on the same images; seeds differ little."""
    return random_hits(0.5, images=2000).astype(float), random_hits(0.8, images=2000, seed=1).astype(float)


def test_student_equal_to_its_teacher_transfers_everything():
    independent, teacher = three_runs()
    result = transfer(teacher, independent, teacher, SMALLEST_EFFECTS["accuracy"])
    assert result.established
    assert result.ratio == 1
    assert result.toward == result.movement == result.gap


def test_student_equal_to_the_independent_one_does_not_move():
    independent, teacher = three_runs()
    result = transfer(independent, independent, teacher, SMALLEST_EFFECTS["accuracy"])
    assert result.established
    assert result.movement.low == result.movement.estimate == result.movement.high == 0
    assert (result.ratio, result.movement.p) == (0, 1)


def test_teacher_equal_to_the_independent_one_leaves_transfer_undefined():
    independent, student = three_runs()
    result = transfer(student, independent, independent, SMALLEST_EFFECTS["accuracy"])
    assert not result.established
    assert result.ratio is None
    assert np.isnan([result.toward.estimate, result.toward.low, result.toward.high, result.toward.p]).all()


def test_gap_that_is_certain_but_too_small_to_matter_is_not_established():
    independent = np.zeros((3, 100))
    result = transfer(independent, independent, independent + 0.01, SMALLEST_EFFECTS["accuracy"])
    assert result.gap.p == 0
    assert not result.established
    assert result.ratio is None


@pytest.mark.parametrize("side", [1, -1])
def test_moving_away_from_the_teacher_is_negative_on_either_side(side):
    independent, teacher = three_runs()
    student = independent - (teacher - independent) / 2
    result = transfer(side * student, side * independent, side * teacher, SMALLEST_EFFECTS["accuracy"])
    assert result.toward.low < result.toward.estimate < result.toward.high < 0
    assert result.toward.p == result.movement.p
    assert result.ratio == pytest.approx(-0.5)


def test_transfer_refuses_a_seed_that_did_not_learn():
    independent, teacher = three_runs()
    student = teacher.copy()
    student[2] = np.nan
    with pytest.raises(ValueError, match=r"student is NaN in seed row\(s\) \[2\].*not evaluable"):
        transfer(student, independent, teacher, 0.05)


def test_transfer_refuses_unpaired_seeds():
    independent, teacher = three_runs()
    with pytest.raises(ValueError, match="own row"):
        transfer(independent, independent, teacher[:1], 0.05)
