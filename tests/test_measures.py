"""Known answers and invariances of the measures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kdlib.bias import (
    SMALLEST_EFFECTS,
    accuracy,
    agreement,
    crossed_interval,
    cue_decisions,
    cue_rate,
    cue_sensitivity,
    error_consistency,
    learned,
    ratio,
    raw_ratio,
    retention,
    shape_bias,
    wilson_lower,
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


def test_ratio_of_two_rows_and_nan_where_there_is_nothing_to_divide_by():
    values = ratio([[1, 2, 3], [1, 2, 3]], [[4, 4, 4], [0, 0, 0]])
    np.testing.assert_allclose(values[0], [0.25, 0.5, 0.75])
    assert np.isnan(values[1]).all()


def test_lower_bound_is_wilsons():
    bounds = [stats.binomtest(hits, 50).proportion_ci(0.98, method="wilson").low for hits in range(51)]
    found = wilson_lower(np.arange(50) < np.arange(51)[:, None], level=0.98)
    np.testing.assert_allclose(found, bounds, atol=1e-12)


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


@pytest.mark.parametrize("wrong", [[[np.nan, 1]], [[0.4, 1.0]], [["cat", "dog"]]])
def test_what_is_no_class_is_refused(wrong):
    with pytest.raises(ValueError, match="predicted must be classes, whole numbers, as the argmax"):
        accuracy(wrong, [0, 1])
    with pytest.raises(ValueError, match="labels must be classes"):
        accuracy([[0, 1]], wrong[0])


def test_a_run_that_diverged_follows_no_cue_and_ignores_none():
    shape, texture = np.array([0, 1]), np.array([1, 2])
    assert np.isnan(cue_rate([[-1, -1]], shape, texture)).all()
    assert np.isnan(shape_bias([[-1, -1]], shape, texture)).all()


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


def test_of_three_classes_a_guesser_follows_two_thirds_of_the_cues_and_reads_none():
    shape, texture, guesses = np.arange(90) % 3, (np.arange(90) + 1) % 3, [np.arange(90) // 3 % 3]
    assert cue_rate(guesses, shape, texture).mean() == pytest.approx(2 / 3)
    assert np.isnan(shape_bias(guesses, shape, texture, 1 / 3)).all()
    assert shape_bias([shape % 2], shape % 2, 1 - shape % 2, 1 / 2).mean() == 1  # of two, none is left out


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


# Cue sensitivity and the choice between two cues


def test_cue_read_as_well_as_without_conflict_has_sensitivity_one_and_guessing_zero():
    no_conflict = np.arange(100) < np.array([[80], [80], [25]])
    decisions = np.arange(200) < np.array([[160], [20], [90]])  # .8, .1 and .45 of the conflict images
    values = cue_sensitivity(decisions, no_conflict, CHANCE)
    np.testing.assert_allclose(values.mean(axis=1)[:2], [1, 0], atol=1e-12)
    assert values.shape == (3, 200)
    assert np.isnan(values[2]).all()  # .25 of 100 images is not surely above .2


# Effects of interest


def test_smallest_effects_are_those_that_were_fixed_before_the_runs():
    fixed = {"accuracy": 0.02, "retention": 0.05, "shape_bias": 0.05, "far_near": 0.05}
    assert fixed.items() <= SMALLEST_EFFECTS.items()


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
        (lambda: agreement([[0, 1]], [[0], [1]]), r"\(1, 2\) and other \(2, 1\).*same order"),
        (lambda: error_consistency([[0, 2]], [[0, 1]]), "hits .*matrix of 0 and 1"),
        (lambda: cue_sensitivity(np.ones((2, 5)), np.ones((3, 5)), CHANCE), "2 seeds .* 3 .*both probes"),
    ],
)
def test_measures_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
