"""The sceptic's table on students whose answers are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdlib.report import findings, sceptic
from kdlib.report.claims import Records
from kdlib.report.sceptic import QUESTIONS, Evidence, objection_table, power_table
from kdlib.report.tables import transfer_table

from .common import make_evidence
from .made import Synthetic

CLEAN = {"clean": 0.8, "edges": 0.3, "cue_conflict": 0.3, "superpixels_100": 0.5, "superpixels_64": 0.5}
RATES = {  # LM goes most of the way on outlines and cue conflict; its own family brings it as far
    "teacher": {
        "clean": 0.8,
        "edges": 0.7,
        "cue_conflict": 0.7,
        "superpixels_100": 0.5,
        "superpixels_64": 0.5,
    },
    "baseline": CLEAN,
    "lm": {"clean": 0.8, "edges": 0.6, "cue_conflict": 0.6, "superpixels_100": 0.5, "superpixels_64": 0.5},
    "lm_same_family": {
        "clean": 0.8,
        "edges": 0.6,
        "cue_conflict": 0.6,
        "superpixels_100": 0.5,
        "superpixels_64": 0.5,
    },
    "label_smoothing": CLEAN,
    "fewest_epochs": {
        "clean": 0.6,
        "edges": 0.25,
        "cue_conflict": 0.25,
        "superpixels_100": 0.4,
        "superpixels_64": 0.4,
    },
    "fewer_epochs": {
        "clean": 0.7,
        "edges": 0.28,
        "cue_conflict": 0.28,
        "superpixels_100": 0.45,
        "superpixels_64": 0.45,
    },
}
SPECS = [
    SimpleNamespace(id=place, seed=place, teacher=SimpleNamespace(seed=500 * place)) for place in range(4)
]


def evidence(rates=RATES, made=None, seeds=3) -> Evidence:
    parts = {name: make_evidence(rates, seeds, name) for name in ("cnn_to_vit", "vit_to_cnn")}
    study = SimpleNamespace(made=made, seeds=list(range(seeds)), yardstick_images=None, store=None)
    study.experiments = [made, made] if made else []
    study.specs = lambda: SPECS
    if made:
        made.study.specs = list
    moved = pd.concat(map(transfer_table, parts.values()), ignore_index=True).assign(accepted=True)
    return Evidence(study, Records(parts, {}, {}, set()), moved)


def told(given: Evidence) -> dict[str, tuple[str, str]]:
    """Number and meaning by the questions' names."""
    table = objection_table(given)
    return dict(zip(QUESTIONS, zip(table.number, table["it means"], strict=True), strict=True))


@pytest.fixture(scope="module")
def answers():
    return told(evidence())


def test_every_answer_exists_and_every_number_has_a_meaning():
    for name, asked in QUESTIONS.items():
        assert {"objection", "measured"} <= asked.keys(), name
        if "answer" in asked:
            assert hasattr(Evidence, asked["answer"][0]), name
            assert "means" in asked or {"above", "across", "below"} <= asked.keys(), name


def test_a_control_that_does_as_much_leaves_the_objection_standing(answers):
    assert answers["softness"][1] == "they would not"
    assert answers["any_teacher"][1] == "it may" and "[-" in answers["any_teacher"][0]


def test_movements_beyond_accuracy_and_without_the_other_cue_are_counted(answers):
    assert answers["accuracy"][0] == "4 of 4"  # outlines and cue conflict, in two directions
    assert answers["suppression"][0] == "0 of 2"  # without texture LM is the baseline
    assert answers["rates"] == ("+0.80 [+0.80, +0.80]", "they all read the cues")  # all name a cue
    assert answers["initialisation"][0] == "1 of 4"


def test_what_was_not_run_says_so(answers):
    assert {answers[name] for name in ("class_part", "capacity", "strength", "shuffled", "truth")} == {
        ("not run", "")
    }
    assert {answers[name] for name in ("weights", "method")} == {("not run", "")}
    assert answers["scope"] == ("not answered here", "")


def test_taus_are_compared_where_they_cross():
    taus = {
        "lm": 0.3,
        ("lm", "cnn_to_cnn"): 0.7,
        ("lm", "vit_to_vit"): 0.7,
        "class_means": 0.1,
        "ceiling": 0.9,
    }
    answers = told(evidence(made=Synthetic(taus)))
    assert answers["class_part"] == (
        "+0.20 [+0.20, +0.20], mean of 6 of 6 comparisons",
        "predictions for single images transfer some of it",
    )
    assert answers["strength"][0].startswith("-0.40") and answers["strength"][1].startswith("crossing arch")
    assert answers["capacity"] == (
        "+0.60 [+0.60, +0.60], mean of 6 of 6 comparisons",
        "it could have acquired more",
    )
    assert answers["within_class"][0] == "not run"
    heavier = told(evidence(made=Synthetic({"lm": 0.2, "lm_strong": 0.5, "sskd": 0.4})))
    assert (
        heavier["weights"][0].startswith("+0.30 [")
        and heavier["weights"][1] == "a larger weight transfers more"
    )
    assert heavier["method"][0].startswith("-0.10 [")
    lost = {("ceiling", name): 0.3 for name in ("texture", "noise")}
    answers = told(evidence(made=Synthetic(taus, clean=lost)))
    assert answers["capacity"][0].endswith("mean of 2 of 6 comparisons")
    answers = told(evidence(made=Synthetic(taus, clean=lost | {("ceiling", "patches"): 0.3})))
    assert answers["capacity"][0].startswith("not defined, mean of 0 of 6")
    assert answers["capacity"][1] == "capacity or the short training may be the limit"


def test_comparisons_are_counted_before_and_after_holm():
    given = evidence(made=Synthetic({"lm": 0.5}, noise=0.1))
    p = given.compared().p
    count, significant = len(p), (p < 0.05).sum()
    number = told(given)["multiplicity"][0]
    assert number.startswith(f"{significant} of {count}; ") and int(number.split()[-1]) <= significant
    assert count == 2 * 3 + 2 * 12  # directions x properties of LM; the same of two experiments


def test_known_networks_are_named_or_not_defined(monkeypatch):
    given = evidence()
    given.study.yardstick_images = 100
    rows = {
        "measure": ["shape bias", "shape bias", "far/near"],
        "lowest": [0.9, np.nan, 0],
        "highest": [1, np.nan, 0],
    }
    monkeypatch.setattr(sceptic, "yardstick_table", lambda *asked: pd.DataFrame(rows))
    assert given.known_networks() == "0.95 and not defined"


def test_seeds_bound_what_a_sign_flip_test_can_say():
    assert told(evidence(seeds=5))["seeds"][0] == "0.062 with 5 seeds"


def test_power_is_the_half_width_beside_what_counts():
    table = power_table(evidence(made=Synthetic({"lm": 0.5}, noise=0.1))).set_index("measure")
    assert table.loc["shape bias", "would count"] == 0.05 and table.loc["shape bias", "comparisons"] == 2
    rows = evidence().transfer.query("method == 'lm' and measure == 'shape_bias'")  # one a direction
    half = (rows.movement_high - rows.movement_low).max() / 2
    assert table.loc["shape bias", "could be seen"] == pytest.approx(half)
    assert table.loc["tau, noise robustness, cifar10 (drawn)", "would count"] == 0.1
    told = findings.power(table.reset_index())
    assert " measures could detect " in told and " in every direction where they are defined: " in told
    wide = findings.power(table.reset_index().assign(**{"could be seen": 1.0}))
    assert wide.startswith(f"None of {len(table)} measures could detect")
    assert findings.power(table.iloc[:0]) == "This study has no interval, so it could not detect any effect."


def test_one_seed_has_numbers_without_intervals():
    answers = told(evidence(seeds=1))
    assert answers["rates"] == ("+0.80", "some may only guess")
    assert answers["accuracy"][0] == answers["multiplicity"][0] == "not run"
