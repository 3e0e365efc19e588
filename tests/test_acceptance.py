import pytest

from kdlib.bias.acceptance import acceptance_table, mark
from kdlib.report import findings
from kdlib.report.tables import measure_table, severity_table, transfer_table

from .common import make_answers, make_evidence

NOISES = {f"gaussian_noise_{level}": 0.7 - 0.1 * level for level in (1, 2, 3, 4)}


def table_of(cnn: dict, vit: dict | None = None):
    directions = {"vit_to_cnn": cnn, "cnn_to_vit": vit or cnn}
    references = {
        direction: make_answers({"baseline": rates}, direction=direction)
        for direction, rates in directions.items()
    }
    return acceptance_table(references).set_index("probe")


def test_a_readable_ordered_costly_probe_is_accepted():
    table = table_of({"clean": 0.8, **NOISES})
    assert table.accepted.all() and (table.reason == "").all()
    assert findings.accepted(table.reset_index()).endswith("**5 of 5 probes are accepted on these images.**")


@pytest.mark.parametrize(
    ("changes", "probe", "reason"),
    [
        ({"edges": 0.12}, "edges", "no network reads this probe"),
        ({"edges": 0.8}, "edges", "it costs no network anything"),
        ({"gaussian_noise_4": 0.6}, "gaussian_noise_1", "a harder level is easier for the CNN"),
        ({"grey_box": 0.5, "local_noise": 0.5}, "local_noise", "it does no more than its control"),
    ],
)
def test_a_probe_that_fails_a_check_is_refused_with_the_reason(changes, probe, reason):
    table = table_of({"clean": 0.8, **NOISES} | changes)
    assert reason in table.loc[probe, "reason"] and not table.accepted[probe]
    assert f"{probe.replace('_', ' ')} (" in findings.accepted(table.reset_index())


def test_no_map_shows_what_is_refused():
    rates = {"clean": 0.8, "edges": 0.12, **NOISES}
    references = {"vit_to_cnn": make_answers({"baseline": rates}, direction="vit_to_cnn")}
    evidence = make_evidence(dict.fromkeys(("teacher", "baseline", "lm"), rates), direction="vit_to_cnn")
    acceptance = acceptance_table(references)
    table = mark(measure_table(evidence), acceptance)
    assert set(table.probe[~table.accepted]) == {"edges"}
    kept = table[table.accepted & table.heading & (table.measure == "retention")]
    moved = mark(transfer_table(evidence), acceptance)
    assert set(kept.probe) == {"gaussian_noise"} and "edges" not in set(moved.probe[moved.accepted])


def test_a_run_that_diverged_decides_nothing():
    answers = make_answers({"baseline": {"clean": 0.8, **NOISES}}, direction="vit_to_cnn")
    whole = acceptance_table({"vit_to_cnn": answers})
    for answer in answers.answers["baseline"].values():
        answer["predicted"][0] = -1
    assert acceptance_table({"vit_to_cnn": answers}).accepted.equals(whole.accepted)
    for answer in answers.answers["baseline"].values():
        answer["predicted"][:] = -1
    assert not acceptance_table({"vit_to_cnn": answers}).accepted.any()


def test_one_network_that_reads_a_probe_is_enough():
    assert table_of({"clean": 0.8, "edges": 0.1}, {"clean": 0.8, "edges": 0.4}).accepted["edges"]


def test_a_network_that_goes_by_texture_reads_a_cue_conflict():
    """It never names the shape: of these answers nine in ten are the texture's class."""
    table = table_of({"clean": 0.8, "cue_conflict": 0.1})
    assert table.accepted["cue_conflict"] and table.readable["cue_conflict"] > 0.8


def test_disorder_counts_for_the_cnn_only():
    """A ViT may gain from a finer grid that falls on its tokens."""
    falling = {"clean": 0.8, "scramble_2": 0.5, "scramble_4": 0.4, "scramble_8": 0.3}
    rising = falling | {"scramble_8": 0.6}
    assert table_of(falling, rising).accepted.all()
    assert not table_of(rising, falling).accepted["scramble_8"]


def test_a_mild_level_counts_with_its_series():
    """The mildest level may cost nothing, as long as the hardest costs something."""
    assert table_of({"clean": 0.8, **NOISES, "gaussian_noise_1": 0.8}).accepted["gaussian_noise_1"]


def test_severities_are_told_for_each_network():
    rates = {"clean": 0.8, **NOISES}
    references = {
        name: make_answers({"baseline": rates}, direction=name) for name in ("cnn_to_vit", "vit_to_cnn")
    }
    table = severity_table(references)
    assert set(table.network) == {"Baseline ViT", "Baseline CNN"}
    assert list(table[table.network == "Baseline CNN"].level) == [1, 2, 3, 4]
    assert table.value.is_monotonic_decreasing or (table.groupby("network").value.diff().dropna() < 0).all()


def test_a_study_without_directions_accepts_nothing():
    table = acceptance_table({})
    assert table.empty and findings.accepted(table).endswith(
        "**0 of 0 probes are accepted on these images.**"
    )
