import re

import numpy as np
import pandas as pd
import pytest
import torch

from kdlib.bias.influence import Answers, Measures
from kdlib.bias.statistics import with_interval
from kdlib.probes import Stimuli
from kdlib.report import findings, summaries, tables
from kdlib.report.tables import measure_table, transfer_table
from kdlib.study.controls import WITHOUT_IT

from .common import IMAGES, make_answers, make_evidence

RATES = {
    "teacher": {"clean": 0.9, "edges": 0.8, "cue_conflict": 0.8},
    "baseline": {"clean": 0.7, "edges": 0.3, "cue_conflict": 0.3},
    "lm": {"clean": 0.7, "edges": 0.3, "cue_conflict": 0.3},
    "crd": {"clean": 0.8, "edges": 0.6, "cue_conflict": 0.6},
}


@pytest.fixture(scope="module")
def evidence():
    return make_evidence(RATES)


@pytest.fixture(scope="module")
def measures(evidence):
    return measure_table(evidence)


@pytest.fixture(scope="module")
def transfer(evidence):
    return transfer_table(evidence)


def value(measures, role, measure, probe):
    row = measures.set_index(["role", "measure", "probe"]).loc[(role, measure, probe)]
    return row.estimate


def test_measures_are_those_of_the_answers(measures):
    assert value(measures, "teacher", "accuracy", "clean") == pytest.approx(0.9, abs=0.05)
    assert value(measures, "crd", "retention", "edges") == pytest.approx(0.5 / 0.7, abs=0.08)
    assert value(measures, "crd", "raw_ratio", "edges") == pytest.approx(0.6 / 0.8, abs=0.08)
    assert value(measures, "baseline", "shape_bias", "cue_conflict") == pytest.approx(0.3, abs=0.06)
    assert value(measures, "baseline", "cue_rate", "cue_conflict") == 1


def test_intervals_hold_the_estimate_and_the_ratio_has_none(measures):
    shown = measures[measures.measure != "raw_ratio"]
    assert ((shown.low <= shown.estimate) & (shown.estimate <= shown.high)).all()
    assert measures[measures.measure == "raw_ratio"].low.isna().all()


def test_reference_hits_follow_the_images_not_their_order():
    answers = make_answers(RATES)
    order = torch.randperm(IMAGES)
    edges = answers.stimuli["edges"]
    shuffled = {
        **answers.stimuli,
        "edges": Stimuli(edges.images, edges.labels[order], order, None),
    }
    said = {
        role: {**told, "edges": {name: array[:, order] for name, array in told["edges"].items()}}
        for role, told in answers.answers.items()
    }
    one, other = Measures(answers), Measures(Answers("cnn_to_vit", shuffled, said, {}, 0.1))
    for role in RATES:
        assert np.allclose(one[role, "retention", "edges"][:, order], other[role, "retention", "edges"])


def test_images_of_one_source_count_once():
    """Forty shapes, each with ten textures: the estimate stays, the units are the shapes."""
    answers = make_answers(RATES)
    conflict = answers.stimuli["cue_conflict"]
    sources = Stimuli(conflict.images, conflict.labels, torch.arange(IMAGES) // 10, conflict.texture_labels)
    said = {
        role: {"clean": told["clean"], "geirhos": told["cue_conflict"]}
        for role, told in answers.answers.items()
    }
    stimuli = {"clean": answers.stimuli["clean"], "geirhos": sources}
    other = Measures(Answers("cnn_to_vit", stimuli, said, {}, 0.1))
    grouped = other["crd", "shape_bias", "geirhos"]
    alone = Measures(answers)["crd", "shape_bias", "cue_conflict"]
    assert grouped.shape == (3, 40) and np.allclose(grouped.mean(axis=1), alone.mean(axis=1))
    assert np.allclose(grouped[:, 0], alone[:, :10].mean(axis=1))
    assert ("retention", "geirhos") not in other.questions


def test_one_seed_gives_estimates_without_intervals_and_says_why_nothing_follows():
    single = make_evidence(RATES, seeds=1)
    assert measure_table(single).low.isna().all()
    transfer = transfer_table(single)
    assert transfer.movement.isna().all() and not transfer.established.any()
    reason = "one seed gives no interval"
    assert f"Not testable: {reason}" in findings.moved(transfer, "shape_bias", "cue_conflict")
    told = findings.headline(summaries.movements(transfer))
    assert told.startswith("**This study cannot tell: one seed gives no interval")


def test_networks_at_chance_are_told():
    rates = {role: dict.fromkeys(("clean", "edges", "cue_conflict"), 0.1) for role in RATES}
    guessers = make_evidence(rates)
    measures = measure_table(guessers)
    assert measures[measures.measure == "retention"].estimate.isna().all()
    assert findings.ratio(measures).startswith("This study has no retention")


def test_sentences_name_the_numbers(measures, transfer):
    clean = {role: value(measures, role, "accuracy", "clean") for role in RATES}
    told = findings.accuracy(measures)
    assert f"The best students are CRD ({clean['crd']:.1%}" in told and "of 3 with" in told
    assert f"the teacher gets {clean['teacher']:.1%}" in told
    told = findings.moved(transfer, "retention", "edges")
    assert re.search(
        r"The teacher differs from the baseline by \+0.\d\d .* 1 of 2 methods move .*: CRD \(\+0", told
    )
    assert findings.moved(transfer, "retention", "grey") == "This study has no retention on grey."


def test_diverged_runs_are_told():
    rows = [("lm", 0, 1, False), ("lm", 0, 2, False), ("crd", 1, 1, True)]
    history = pd.DataFrame(rows, columns=["role", "seed", "epoch", "diverged"])
    assert findings.training(history).startswith("1 of 2 runs diverged: CRD, seed 1, in epoch 1.")
    assert findings.training(history[:2]) == "All 1 runs reached their last epoch; none diverged."


def test_sides_are_told_where_the_teacher_differs(transfer):
    """CRD moves halfway to the teacher on every probe, LM not at all."""
    told = transfer.assign(side=tables.sides(transfer))[transfer.established].groupby("method").side
    assert set(told.get_group("crd")) == {"toward"} and set(told.get_group("lm")) == {"neither"}


def test_originals_retentions_are_those_of_its_accuracies():
    table = summaries.original_table()
    rows = table.set_index(["direction", "model"])
    assert rows.loc[("cnn_to_vit", "CSKD"), "retention texture"] == pytest.approx(30.4 / 85.2)
    assert rows.loc[("vit_to_cnn", "CRD"), "ratio texture"] == pytest.approx(10.5 / 14.7)
    assert rows.loc[("vit_to_cnn", ["CRD", "SSKD", "CAPD"]), "retention noise"].isna().all()
    told = findings.original(table)
    assert "CRD (ViT → CNN) gets 14.7%" in told and "CAPD" in told and "Baseline" not in told


def test_a_cell_reads_as_estimate_and_interval():
    assert with_interval(0.5, 0.4, 0.6) == "+0.500 [+0.400, +0.600]"
    assert with_interval(0.5, np.nan, np.nan, ".2f") == "0.50"
    assert with_interval(np.nan, np.nan, np.nan) == "not defined"


def test_wide_table_keeps_the_order_of_probes_and_roles(measures):
    wide = summaries.wide_table(measures[measures.measure == "accuracy"])
    assert list(wide.role) == ["Teacher", "Baseline", "LM", "CRD"]
    assert list(wide.columns) == ["role", "clean", "edges", "cue_conflict"]


def test_a_student_on_the_line_of_schedules_has_no_residual():
    """Retention rises by half of what accuracy does; CRD keeps more than its accuracy makes likely."""
    rates = {}
    for role, clean in (("fewest_epochs", 0.5), ("fewer_epochs", 0.6), ("baseline", 0.7), ("lm", 0.65)):
        rates[role] = {"clean": clean, "edges": 0.1 + (clean - 0.1) * (0.3 + 0.5 * (clean - 0.5))}
    rates["crd"] = {"clean": 0.65, "edges": 0.1 + 0.55 * 0.7}
    rates["teacher"] = {"clean": 0.9, "edges": 0.8}
    table = tables.schedule_table(make_evidence(rates, spread=0.002)).set_index("role")
    assert list(table.index[table.schedule]) == ["fewest_epochs", "fewer_epochs", "baseline"]
    assert abs(table.loc["lm", "residual"]) < 0.04
    assert table.loc["crd", "low"] > 0.2
    cells = summaries.residuals(table)
    assert cells.mark["crd"] == "•" and "baseline" not in cells.index


def test_slopes_are_the_share_of_the_teachers_distance(evidence):
    slopes = tables.slope_table(evidence).set_index("role")
    assert slopes.loc["lm", "slope"] == pytest.approx(0, abs=0.1)
    assert 0.3 < slopes.loc["crd", "slope"] < 0.9


# ---- the answer ----


CONFLICT = {
    "teacher": {"clean": 0.8, "cue_conflict": 0.8, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "baseline": {"clean": 0.8, "cue_conflict": 0.3, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "lm": {"clean": 0.8, "cue_conflict": 0.6, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "crd": {"clean": 0.8, "cue_conflict": 0.3, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "lm_same_family": {"clean": 0.8, "cue_conflict": 0.1, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
}


def moved_of(rates: dict, *directions: str) -> pd.DataFrame:
    made = [transfer_table(make_evidence(rates, direction=name)) for name in directions or ("cnn_to_vit",)]
    return summaries.movements(pd.concat(made))


def headline(moved: pd.DataFrame) -> str:
    return findings.headline(moved)


def test_the_properties_come_direction_by_direction():
    moved = moved_of(CONFLICT, "vit_to_cnn", "cnn_to_vit")  # in the study's order, whatever the alphabet says
    known = ["shape bias", "texture bias: robustness to texture conflict", "noise robustness"]
    assert list(moved.direction.unique()) == ["vit_to_cnn", "cnn_to_vit"]
    assert [list(part.property.unique()) for _, part in moved.groupby("direction")] == [known, known]
    assert len(moved) == 2 * 3 * 3  # directions, properties, students


def test_the_headline_tells_whether_it_needs_such_a_teacher():
    told = headline(moved_of(CONFLICT, "vit_to_cnn", "cnn_to_vit"))
    assert told.startswith("**Yes. The two differ significantly in 4 of")
    told = headline(moved_of(CONFLICT | {"lm_same_family": CONFLICT["lm"]}))
    assert told.startswith("**Mostly not. The two differ significantly in 2 of")
    assert "toward their teacher in 2 of these, in none of them farther than with every control" in told
    without = {role: rates for role, rates in CONFLICT.items() if role != "lm_same_family"}
    assert "without controls this study cannot tell" in headline(moved_of(without))


def test_the_headline_tells_when_there_is_nothing_to_transfer():
    same = dict.fromkeys(("teacher", "baseline", "lm"), CONFLICT["baseline"])
    assert "from the baseline student in any of 3 comparisons" in headline(moved_of(same))
    still = {role: CONFLICT[role] for role in ("teacher", "baseline", "crd")}
    assert headline(moved_of(still)).startswith("**No. The teacher differs significantly")
    assert headline(moved_of(same)[:0]) == (
        "**This study cannot tell: it measures none of the five properties with an accepted probe.**"
    )


def test_the_headline_counts_controls_that_could_be_compared():
    """A control moves where no method does; a control with the teacher itself; one that did not learn."""
    methods = {role: CONFLICT[role] for role in ("teacher", "baseline", "lm")}
    control = {"lm_same_family": CONFLICT["lm"]}
    told = headline(moved_of(methods | {"lm": CONFLICT["baseline"]} | control))
    assert told.endswith("no method moves a student significantly toward it in any of them.**")
    guesser = {"lm_same_family": dict.fromkeys(CONFLICT["lm"], 0.1)}
    for other in ({"lm_shuffled": CONFLICT["baseline"]}, guesser):
        assert "without controls this study cannot tell" in headline(moved_of(methods | other))
    assert headline(moved_of(methods | guesser | {"label_smoothing": CONFLICT["baseline"]})).endswith(
        "with every control that learned without that teacher (LM in shape bias, CNN → ViT; "
        "LM in texture bias, CNN → ViT).**"
    )


def test_a_small_gap_and_a_refused_probe_are_told():
    rates = {"teacher": {"clean": 0.8, "cue_conflict": 0.32}, "baseline": {"clean": 0.8, "cue_conflict": 0.3}}
    transfer = transfer_table(make_evidence(rates | {"lm": rates["baseline"]}, spread=0.0005))
    row = transfer.query("measure == 'shape_bias'").iloc[0]
    assert 0 < row.gap_low < row.gap < 0.05  # the smallest effect
    assert "does not differ enough to matter from" in findings.moved(transfer, "shape_bias", "cue_conflict")
    refused = findings.moved(transfer.assign(accepted=False), "shape_bias", "cue_conflict")
    assert refused.endswith("Not told: the probe is not accepted on these images (chapter 1).")


def test_a_verdict_shows_its_least_favourable_number_or_its_reason():
    number = findings.TEXTS.filters["first_number"]
    assert number("CSKD / LM 0.9 [0.8, 0.95]; CSKD / CRD 0.5 [0.4, 0.6]") == "CSKD / LM 0.9 [0.8, 0.95]"
    reason = "retention is not defined for LM in every seed"
    assert number(reason) == reason


def test_controls_with_the_other_architectures_teacher_are_not_among_those_without():
    assert {"lm_same_family", "label_smoothing", "rotations", "more_epochs"} < set(WITHOUT_IT)
    assert not {"lm_shuffled", "capd_no_discriminator"} & set(WITHOUT_IT)
