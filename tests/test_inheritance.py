"""Known answers of tau, and the coverage of its interval with the variances of the published records."""

import numpy as np
import pytest
from scipy import stats

from kdlib.bias.statistics import crossed_interval, standard_error
from kdlib.bias.transfer import inheritance, p_value, ratio_influence, share
from kdlib.report.made import kept


def hits(rate: float, seed: int = 0, seeds: int = 3, images: int = 2000) -> np.ndarray:
    return (np.random.default_rng(seed).random((seeds, images)) < rate).astype(float)


def four(tau: float) -> tuple[np.ndarray, ...]:
    """Students and teachers whose differences are exactly proportional."""
    plain, untaught, made = hits(0.2), hits(0.3, 1), hits(0.8, 2)
    return plain + tau * (made - untaught), plain, made, untaught


@pytest.mark.parametrize("tau", [-0.3, 0.0, 0.5, 1.0, 1.4])
def test_tau_is_the_share_of_the_teachers_difference_that_the_student_has(tau):
    found = inheritance(*four(tau), smallest_effect=0.05)
    assert found.established
    np.testing.assert_allclose([found.ratio, found.low, found.high], tau, atol=1e-6)
    assert (found.p_none == 1) == (tau == 0)
    assert found.movement.estimate == pytest.approx(tau * found.gap.estimate)


def test_small_whole_numbers_and_lists_give_the_tau_of_floats():
    student, plain, made, untaught = hits(0.5), hits(0.6, 3), hits(0.8, 2), hits(0.3, 1)  # a negative tau
    found = inheritance(student, plain, made, untaught)
    assert found.ratio < 0
    for kind in (np.uint8, bool):  # in uint8, 0 - 1 is 255
        assert inheritance(*(matrix.astype(kind) for matrix in (student, plain, made, untaught))) == found
    assert inheritance(student.tolist(), plain.tolist(), made.tolist(), untaught.tolist()) == found


def test_a_student_with_noise_has_an_interval_that_is_not_clipped():
    _, plain, made, untaught = four(1)
    student = hits(0.75, 3)
    found = inheritance(student, plain, made, untaught)
    assert found.low < found.ratio < found.high
    assert found.low > 1 and found.p_none < 0.001 and found.p_all < 0.05  # more than the teacher has


def test_each_end_and_each_p_belong_to_one_test():
    _, plain, made, untaught = four(1)
    student = hits(0.5, 3)
    found = inheritance(student, plain, made, untaught)
    moved, apart = student - plain, made - untaught
    for end in (found.low, found.high):
        assert p_value(moved, apart, end) == pytest.approx(0.05, abs=1e-6)
    assert found.p_none == crossed_interval(moved).p
    assert found.p_all == crossed_interval(moved - apart).p


def test_a_property_that_falls_in_the_teacher_and_in_the_student_has_arrived():
    made, plain, taught, untaught = four(0.5)
    found = inheritance(-made, -plain, -taught, -untaught)
    assert found.ratio == pytest.approx(0.5) and found.gap.estimate < 0


def test_without_a_difference_between_the_teachers_it_is_not_testable():
    student, plain, _, untaught = four(0.5)
    found = inheritance(student, plain, hits(0.3, 4), untaught)
    assert not found.established
    assert np.isnan([found.ratio, found.low, found.high, found.p_none, found.p_all]).all()
    assert found.reason == "the teachers' difference is not established"
    assert found.gap.low < 0 < found.gap.high  # both differences are still told
    assert found.movement.p < 0.05


def test_a_difference_too_small_to_matter_is_not_testable():
    plain = hits(0.3)
    found = inheritance(plain, plain, plain + 0.01, plain, smallest_effect=0.05)
    assert found.reason == "the teachers' difference is below the smallest effect, 0.05"


def test_a_network_that_did_not_learn_is_not_testable_and_named():
    student, plain, made, untaught = four(0.5)
    student[1] = np.nan
    found = inheritance(student, plain, made, untaught)
    assert found.reason == "the student of the made teacher did not learn in 1 of 3 seeds"
    assert np.isnan(found.movement.low) and found.gap.low > 0


def test_one_seed_is_not_testable():
    assert inheritance(*(matrix[:1] for matrix in four(0.5))).reason == "one seed gives no interval"


def test_other_shapes_are_refused():
    student, plain, made, untaught = four(0.5)
    with pytest.raises(ValueError, match="give each seed its own row"):
        inheritance(student, plain, made[:1], untaught)


def test_a_measure_without_images_has_an_interval_over_seeds():
    columns = np.array([[0.32, 0.3, 0.34], [0.1, 0.12, 0.1], [0.9, 0.88, 0.91], [0.5, 0.51, 0.5]])[:, :, None]
    found = inheritance(*columns)
    assert found.ratio == pytest.approx((0.32 - 0.32 / 3) / (2.69 / 3 - 1.51 / 3))
    assert found.low < found.ratio < found.high


def test_a_seed_is_kept_if_it_has_nine_tenths_of_the_references_accuracy():
    reference = np.ones((3, 100)) * (np.arange(100) < 80)
    own = np.ones((3, 100)) * (np.arange(100) < np.array([[73], [71], [90]]))
    assert kept(own, reference).tolist() == [True, False, True]


def test_the_part_that_a_control_explains():
    moved = hits(0.6) - hits(0.2, 1)
    found = share(0.25 * moved, moved)
    np.testing.assert_allclose([found.ratio, found.low, found.high], 0.25, atol=1e-6)
    lost = np.where(np.arange(3)[:, None] == 1, np.nan, moved)
    assert share(lost, moved).reason == "movement is not defined in 1 of 3 seeds"
    with pytest.raises(ValueError, match="movement, gap have shapes"):
        share(moved[:, :100], moved)


def test_the_influence_of_tau_has_tau_as_its_mean_and_nearly_its_interval():
    _, plain, made, untaught = four(1)
    moved, apart = hits(0.5, 3) - plain, made - untaught
    found, exact = crossed_interval(ratio_influence(moved, apart)), share(moved, apart)
    assert found.estimate == pytest.approx(exact.ratio)
    np.testing.assert_allclose([found.low, found.high], [exact.low, exact.high], atol=0.01)


# The published records of cifar10-cpu, 34 kinds of runs: standard deviations of a rate over seeds, of images
# over seeds of one kind, of what remains; of images in the difference of two kinds of student.
# Cue conflict, 450 images: shape rate .13; seeds .005 (0 to .018), images .26, rest .21; difference .15.
# Clean, 1000 images: accuracy .47; seeds .013 (0 to .031), images .40, rest .29; difference .25.
# A latent normal whose images' parts are these gives both.
RECORDS = {"cue conflict": (450, 0.15, 0.55, 0.01), "clean": (1000, 0.3, 0.55, 0.013)}
SHARED, OWN = 0.75, 0.1  # images' parts of the latent variance: in all networks, in one kind of network


def draw(rates: list[float], count: int, k: int, n: int, seed_sd: float, rng) -> np.ndarray:
    """Hits (count, networks, k, n): a latent normal variable below a threshold that varies with the seed."""
    shape = (count, len(rates), k, n)
    latent = np.sqrt(SHARED) * rng.standard_normal((count, 1, 1, n), dtype=np.float32)
    latent = latent + np.sqrt(OWN) * rng.standard_normal((count, len(rates), 1, n), dtype=np.float32)
    latent = latent + np.sqrt(1 - SHARED - OWN) * rng.standard_normal(shape, dtype=np.float32)
    cut = stats.norm.ppf(rates)[:, None, None]
    # The networks of a seed vary independently: the worst case, as nothing cancels in their differences.
    seeds = seed_sd * rng.standard_normal((count, len(rates), k, 1)) / stats.norm.pdf(cut)
    return latent < cut + seeds


def holds_zero(values: np.ndarray) -> np.ndarray:
    """Whether the crossed interval of each of (count, k, n) holds 0: many at once."""
    _, k, n = values.shape
    mean = values.mean((1, 2))
    seeds, images = values.mean(2) - mean[:, None], values.mean(1) - mean[:, None]
    rest = ((values - mean[:, None, None]) ** 2).sum((1, 2)) - n * (seeds**2).sum(1) - k * (images**2).sum(1)
    squares = np.stack([n * (seeds**2).sum(1), k * (images**2).sum(1), rest], axis=1)
    squares /= [k - 1, n - 1, (k - 1) * (n - 1)]
    return np.array(
        [
            abs(middle) <= stats.t.ppf(0.975, df) * error
            for middle, row in zip(mean, squares, strict=True)
            for error, df in [standard_error(row, k, n)]
        ]
    )


def test_the_simulated_hits_vary_as_the_records_do():
    made = draw([0.13, 0.13], 100, 3, 450, 0.0, np.random.default_rng(0)).astype(float)
    images = (made[:, 0, 0] * made[:, 0, 1]).mean() - made.mean() ** 2
    apart = made[:, 0] - made[:, 1]
    assert images**0.5 == pytest.approx(0.26, abs=0.01)
    assert (apart[:, 0] * apart[:, 1]).mean() ** 0.5 == pytest.approx(0.15, abs=0.02)


def test_tau_is_in_its_interval_exactly_where_the_difference_at_tau_may_be_0():
    networks = draw([0.35, 0.15, 0.55, 0.15], 40, 3, 450, 0.01, np.random.default_rng(2)).astype(float)
    found = [inheritance(*one) for one in networks]
    student, plain, made, untaught = networks.swapaxes(0, 1)
    for tau in (0.4, 0.5, 0.6):
        inside = [one.low <= tau <= one.high for one in found]
        assert holds_zero(student - plain - tau * (made - untaught)).tolist() == inside


@pytest.mark.slow
@pytest.mark.parametrize("records", RECORDS)
def test_the_interval_covers_tau_as_often_as_it_says(records):
    """As long as seeds hardly vary it is too wide (up to .977), with .03 between seeds down to .93."""
    n, low, high, seed_sd = RECORDS[records]
    rng, covered = np.random.default_rng(0), {}
    for tau in (0.0, 0.5, 1.0):
        for k in (3, 5):
            held = []
            for _ in range(12):
                networks = draw([low + tau * (high - low), low, high, low], 100, k, n, seed_sd, rng)
                student, plain, made, untaught = networks.astype(np.float32).swapaxes(0, 1)
                held.append(holds_zero(student - plain - np.float32(tau) * (made - untaught)))
            covered[tau, k] = float(np.mean(held))
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered
