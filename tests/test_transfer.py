"""Known answers of the movement toward a teacher, of its ratio to the gap, and of its slope over probes."""

import numpy as np
import pytest

from kdlib.bias import (
    SMALLEST_EFFECTS,
    crossed_interval,
    profile_slopes,
    ratio_interval,
    transfer,
)

GAPS = np.array([0.1, -0.1, 0.05, 0.2, -0.15, 0.1, 0.0, 0.08])  # of eight probes


def random_hits(rate: float, seeds: int = 3, images: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < rate


def three_runs():
    """Baseline at .5, teacher at .8, on the same images; seeds differ little."""
    return random_hits(0.5, images=2000).astype(float), random_hits(0.8, images=2000, seed=1).astype(float)


def test_student_equal_to_its_teacher_transfers_everything():
    baseline, teacher = three_runs()
    result = transfer(teacher, baseline, teacher, SMALLEST_EFFECTS["accuracy"])
    assert result.established
    assert result.ratio == 1
    np.testing.assert_allclose([result.low, result.high], 1, atol=1e-6)
    assert result.toward == result.movement == result.gap


def test_student_equal_to_the_baseline_does_not_move():
    baseline, teacher = three_runs()
    result = transfer(baseline, baseline, teacher, SMALLEST_EFFECTS["accuracy"])
    assert result.established
    assert result.movement.low == result.movement.estimate == result.movement.high == 0
    assert (result.ratio, result.movement.p) == (0, 1)


def test_teacher_equal_to_the_baseline_leaves_transfer_undefined():
    baseline, student = three_runs()
    result = transfer(student, baseline, baseline, SMALLEST_EFFECTS["accuracy"])
    assert not result.established
    assert np.isnan([result.ratio, result.low, result.high]).all()
    assert np.isnan([result.toward.estimate, result.toward.low, result.toward.high, result.toward.p]).all()


def test_gap_that_is_certain_but_too_small_to_matter_is_not_established():
    baseline = np.zeros((3, 100))
    result = transfer(baseline, baseline, baseline + 0.01, SMALLEST_EFFECTS["accuracy"])
    assert result.gap.p == 0
    assert not result.established
    assert np.isnan(result.ratio)


@pytest.mark.parametrize("side", [1, -1])
def test_moving_away_from_the_teacher_is_negative_on_either_side(side):
    baseline, teacher = three_runs()
    student = baseline - (teacher - baseline) / 2
    result = transfer(side * student, side * baseline, side * teacher, SMALLEST_EFFECTS["accuracy"])
    assert result.toward.low < result.toward.estimate < result.toward.high < 0
    assert result.toward.p == result.movement.p
    assert result.ratio == pytest.approx(-0.5)


def test_a_seed_that_did_not_learn_leaves_no_ratio():
    baseline, teacher = three_runs()
    student = teacher.copy()
    student[2] = np.nan
    result = transfer(student, baseline, teacher, 0.05)
    assert result.reason.startswith("student is not defined in 1 of 3 seeds (did not learn")
    assert np.isnan([result.ratio, result.movement.low]).all() and result.gap.low > 0


def test_transfer_refuses_unpaired_seeds():
    baseline, teacher = three_runs()
    with pytest.raises(ValueError, match="own row"):
        transfer(baseline, baseline, teacher[:1], 0.05)


def test_a_measure_without_images_transfers_with_seeds_alone():
    baseline, student, teacher = np.array([[[0.1], [0.12], [0.09]], [[0.3], [0.35], [0.3]], [[0.5]] * 3])
    result = transfer(student, baseline, teacher, 0.05)
    assert result.movement == crossed_interval(student - baseline)
    assert result.established
    assert result.low < result.ratio < result.high


# The ratio's interval


def test_ends_of_the_ratio_are_where_a_difference_becomes_sure():
    baseline, teacher = three_runs()
    movement, gap = random_hits(0.6, images=2000, seed=2) - baseline, teacher - baseline
    low, high = ratio_interval(movement, gap)
    assert low < movement.mean() / gap.mean() < high
    for end in (low, high):
        assert crossed_interval(movement - end * gap).p == pytest.approx(0.05, abs=1e-6)


def test_transfer_shows_the_ratio_with_its_interval():
    baseline, teacher = three_runs()
    student = random_hits(0.6, images=2000, seed=2)
    result = transfer(student, baseline, teacher, 0.02)
    expected = ratio_interval(student - baseline, teacher - baseline)
    assert (result.low, result.high) == expected
    assert result.low < result.ratio < result.high


@pytest.mark.parametrize("side", [1, -1])
def test_large_gap_gives_the_delta_method_interval(side):
    generator = np.random.default_rng(0)
    movement, gap = generator.normal(50, 1, (3, 200)), side * generator.normal(100, 1, (3, 200))
    value = movement.mean() / gap.mean()
    difference = crossed_interval(movement - value * gap)
    half_width = (difference.high - difference.low) / 2 / 100
    np.testing.assert_allclose(
        ratio_interval(movement, gap), [value - half_width, value + half_width], atol=half_width / 100
    )


def test_ratio_has_no_ends_where_the_gap_may_be_zero():
    baseline, student = three_runs()
    noise = random_hits(0.5, images=2000, seed=3)
    assert ratio_interval(student - baseline, 0 * baseline) == (-np.inf, np.inf)
    assert ratio_interval(student - baseline, noise - baseline) == (-np.inf, np.inf)


@pytest.mark.parametrize("share", [1, 0, -0.5])
def test_ratio_without_error_is_a_point(share):
    baseline, teacher = three_runs()
    gap = teacher - baseline
    np.testing.assert_allclose(ratio_interval(share * gap, gap), share, atol=1e-6)


def test_swapping_movement_and_gap_inverts_the_ratio():
    generator = np.random.default_rng(0)
    movement, gap = generator.normal(1, 1, (4, 100)), generator.normal(2, 1, (4, 100))
    low, high = ratio_interval(movement, gap)
    np.testing.assert_allclose(ratio_interval(gap, movement), [1 / high, 1 / low], rtol=1e-6)


# Slope over probes


def profile(share: float, seeds: int = 3, seed_sd: float = 0.01, seed: int = 0):
    """Student, baseline and teacher on eight probes, (seeds, 1); the student moves a share of the gap."""
    generator = np.random.default_rng(seed)
    means = [share * GAPS, 0 * GAPS, GAPS]
    return [list(mean[:, None, None] + generator.normal(0, seed_sd, (8, seeds, 1))) for mean in means]


def test_student_equal_to_its_teacher_has_slope_one():
    _, baseline, teacher = profile(0.5)
    np.testing.assert_allclose(profile_slopes(teacher, baseline, teacher), 1)


def test_student_equal_to_the_baseline_has_slope_zero():
    _, baseline, teacher = profile(0.5)
    np.testing.assert_allclose(profile_slopes(baseline, baseline, teacher), 0, atol=1e-12)


def test_student_on_the_far_side_has_slope_minus_one():
    _, baseline, teacher = profile(0.5)
    student = [2 * i - t for i, t in zip(baseline, teacher, strict=True)]
    np.testing.assert_allclose(profile_slopes(student, baseline, teacher), -1)


def test_probes_may_have_different_numbers_of_images():
    widths = range(2, 10)
    matrices = [
        [np.repeat(values, n, axis=1) for values, n in zip(part, widths, strict=True)]
        for part in profile(0.5)
    ]
    np.testing.assert_allclose(profile_slopes(*matrices), profile_slopes(*profile(0.5)))


def test_slope_is_undefined_where_the_teacher_is_nowhere_else():
    student, baseline, _ = profile(0.5)
    assert np.isnan(profile_slopes(student, baseline, baseline)).all()


def test_noise_of_the_shared_baseline_student_does_not_pass_for_transfer():
    found, naive = [], []
    for seed in range(500):
        matrices = profile(0, seed_sd=0.05, seed=seed)
        found.append(profile_slopes(*matrices).mean())
        student, baseline, teacher = np.mean(matrices, axis=(2, 3))
        moves, gaps = student - baseline, teacher - baseline
        naive.append(moves @ gaps / (gaps @ gaps))
    assert np.median(naive) > 0.03
    assert abs(np.median(found)) < 0.02


def test_interval_of_the_slope_covers_the_truth_about_95_times_in_100():
    intervals = [
        crossed_interval(profile_slopes(*profile(0.5, seeds=5, seed=seed))[:, None]) for seed in range(300)
    ]
    assert 0.92 <= np.mean([interval.low <= 0.5 <= interval.high for interval in intervals]) <= 0.98


def test_there_is_no_slope_with_a_seed_that_did_not_learn():
    student, baseline, teacher = profile(0.5)
    student[3][1] = np.nan
    assert np.isnan(profile_slopes(student, baseline, teacher)).any()
