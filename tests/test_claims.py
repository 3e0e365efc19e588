import numpy as np
import pandas as pd
import pytest

from kdlib.bias import holm
from kdlib.bias.influence import Measures
from kdlib.report import claims, tables
from kdlib.report.claims import Records, judge

from .common import make_answers

NOISES = ("gaussian_noise_1", "gaussian_noise_2")
SCRAMBLED = ("scramble_2_gutter", "scramble_4_gutter")
INTACT = ("intact_2_gutter", "intact_4_gutter")
PROBES = ("clean", "cue_conflict", "no_conflict", *NOISES, *INTACT, *SCRAMBLED)
TO_VIT = ("lm", "crd", "cskd", "vlfkd", "lm_same_family", "crd_same_family", "label_smoothing")
TO_CNN = ("lm", "crd", "sskd", "capd", "lm_same_family", "crd_same_family", "label_smoothing", "rotations")


def records(
    to_vit: dict | None = None,
    to_cnn: dict | None = None,
    accepted=PROBES,
    inside=None,
    cost=None,
    without=(),
    change=lambda answers: None,
    **more,
):
    """A study in which nothing differs but the teachers, and what is given: role -> probe -> rate."""
    plain = dict.fromkeys(PROBES, 0.4) | dict.fromkeys(("clean", "no_conflict", *INTACT), 0.7)
    teacher = plain | dict.fromkeys(("cue_conflict", *NOISES, *SCRAMBLED), 0.65)
    evidence = {}
    for direction, roles, changes in (
        ("cnn_to_vit", TO_VIT, to_vit or {}),
        ("vit_to_cnn", TO_CNN, to_cnn or {}),
    ):
        rates = {"teacher": teacher, "baseline": plain} | dict.fromkeys(roles, plain)
        rates = {role: rate | changes.get(role, {}) for role, rate in rates.items()}
        looked = dict.fromkeys(rates, (0.8, 0.3)) | {"teacher": (0.2, 0.6)} | (inside or {})
        looked = {role: looked[role] for role in rates}
        answers = make_answers(rates, direction=direction, inside=looked, **more)
        for role in without:
            answers.answers.pop(role, None)
        change(answers)
        evidence[direction] = Measures(answers)
    rows = [
        {"role": role, "seed": seed, "epoch": (cost or {}).get(role, 1.5) + 0.01 * seed, "epochs": 5}
        for role in ("baseline", *dict.fromkeys((*TO_VIT, *TO_CNN)))
        for seed in range(3)
    ]
    rows += [{"role": "teacher", "seed": 500 + seed, "epoch": 9.0, "epochs": 5} for seed in range(3)]
    looks = [
        {"role": role, "seed": seed, "measure": measure, "place": 1, "value": value + 0.001 * seed}
        for role in ("teacher", "baseline", *TO_VIT)
        for seed in range(3)
        for measure, value in (("rms", 10.0), ("attention", 0.9))
    ]
    costs, inside_table = pd.DataFrame(rows), pd.DataFrame(looks)
    directions = ("cnn_to_vit", "vit_to_cnn")
    return Records(
        evidence, dict.fromkeys(directions, costs), dict.fromkeys(directions, inside_table), set(accepted)
    )


def verdict(name: str, **given) -> claims.Verdict:
    return judge(records(**given))[name]


def test_every_claim_has_a_rule_a_judge_and_the_originals_numbers():
    names = list(claims.CLAIMS)
    table = claims.claims_table(judge(records()))
    assert list(table.claim) == names and table.notna().all(axis=None)
    numbers = table.set_index("claim")["its own numbers"]
    assert numbers["C1a"] == "seconds an epoch, one run each: CSKD 756, LM 816, VLFKD 1604, CRD 1748"
    assert numbers["C1c"].startswith("texture: +0.02, away from a teacher at -0.")
    assert "CRD did not learn (14.7%)" in numbers["C3a"] and "CAPD 10.0%" in numbers["C4"]


def test_where_nothing_moved_nothing_is_supported():
    words = {name: found.word for name, found in judge(records(spread=0.001)).items()}
    assert words["C1b"] == words["C3a"] == words["C3b"] == words["C4"] == "contradicted"
    assert words["C2"] == "supported"  # it claims that nothing is inherited
    assert words["C5"] == "inconclusive"


def test_cskd_is_cheapest_only_if_every_ratio_is_surely_below_one():
    assert verdict("C1a", cost={"cskd": 1.1}).word == "supported"
    assert verdict("C1a", cost={"lm": 1.1}).word == "contradicted"
    assert verdict("C1a").word == "inconclusive"
    ratio = verdict("C1a", cost={"cskd": 0.75}).comparisons.set_index("comparison").loc["CSKD / LM"]
    assert ratio.low < ratio.estimate < ratio.high and ratio.estimate == pytest.approx(0.5, abs=0.01)


def test_cskd_is_best_only_against_all_others_on_both_probes():
    better = dict.fromkeys(("cue_conflict", *NOISES), 0.6)
    found = verdict("C1b", to_vit={"cskd": better})
    assert found.word == "supported" and len(found.comparisons) == 8
    assert verdict("C1b", to_vit={"cskd": better, "lm": better}).word == "inconclusive"
    beyond = dict.fromkeys(("cue_conflict", *NOISES), 0.65)
    assert verdict("C1b", to_vit={"cskd": better, "lm": beyond}).word == "contradicted"


def test_being_better_is_transfer_only_toward_a_teacher_that_differs():
    better = dict.fromkeys(("cue_conflict", *NOISES), 0.6)
    assert verdict("C1c", to_vit={"cskd": better}).word == "supported"
    worse = dict.fromkeys(("cue_conflict", *NOISES), 0.2)
    away = verdict("C1c", to_vit={"cskd": better, "teacher": worse})
    assert away.word == "contradicted"
    alike = verdict("C1c", to_vit={"cskd": better, "teacher": dict.fromkeys(("cue_conflict", *NOISES), 0.4)})
    assert alike.word == "not testable"
    first = alike.because.split("; ")[0]  # what the answer shows of it
    assert first.startswith("the teacher's difference is not established (retention under cue conflict: ")
    assert " and retention under gaussian noise: " in first and first.endswith(")")


def test_locality_is_inherited_only_with_a_second_sign_of_it():
    halfway = {"lm": (0.5, 0.3)}
    assert verdict("C2", inside=halfway).word == "inconclusive"
    given = records(inside=halfway)
    look = given.inside["cnn_to_vit"]
    look.loc[(look.role == "lm") & (look.measure == "attention"), "value"] -= 0.3
    found = judge(given)["C2"]
    assert found.word == "contradicted" and "LM, share of the gap +0.5" in found.because
    same = verdict("C2", inside={"teacher": (0.8, 0.3)})
    assert same.word == "not testable" and "difference is not established" in same.because


def test_shape_bias_is_instilled_only_beyond_the_controls():
    students = {"crd": {"cue_conflict": 0.62}, "sskd": {"cue_conflict": 0.62}}
    found = verdict("C3a", to_cnn=students)
    assert found.word == "supported"
    copied = students | {"rotations": {"cue_conflict": 0.62}}
    found = verdict("C3a", to_cnn=copied)
    assert found.word == "inconclusive" and found.because.endswith("not every control is above 0")
    falling = {"crd": {"cue_conflict": 0.2}, "sskd": {"cue_conflict": 0.2}}
    assert verdict("C3a", to_cnn=falling).word == "contradicted"


def test_invariance_needs_behaviour_and_representation():
    moved = {role: dict.fromkeys(SCRAMBLED, 0.6) for role in ("crd", "sskd")}
    assert verdict("C3b", to_cnn=moved).word == "inconclusive"
    inside = {"crd": (0.8, 0.55), "sskd": (0.8, 0.55), "teacher": (0.2, 0.6)}
    assert verdict("C3b", to_cnn=moved, inside=inside).word == "supported"


@pytest.mark.parametrize(
    ("clean", "word"),
    [(0.1, "supported"), (0.3, "supported"), (0.55, "learns slowly"), (0.69, "contradicted")],
)
def test_capd_is_judged_by_accuracy(clean, word):
    found = verdict("C4", to_cnn={"capd": {"clean": clean}})
    assert found.word == word and "CAPD" in found.because


def test_teachers_are_compared_only_at_equal_accuracy():
    found = verdict("C5", to_cnn={"teacher": {"clean": 0.9}})
    assert found.word == "not testable" and "the teachers' accuracies differ by +0.2" in found.because
    near = dict.fromkeys(("cue_conflict", *NOISES, *SCRAMBLED), 0.6)
    found = verdict("C5", to_cnn={"lm": near, "crd": near})
    rows = found.comparisons.set_index("comparison")
    assert rows.loc["LM, slope", "low"] > 0 and rows.loc["CRD, slope", "estimate"] == pytest.approx(
        0.8, abs=0.1
    )


def test_the_comparison_that_reaches_farthest_against_the_claim_is_told_first():
    rows = {"group": "excess", "comparison": ["sure", "wide"], "estimate": [0.05, 0.45]}
    table = pd.DataFrame(rows | {"low": [0.02, -0.03], "high": [0.08, 0.93]})
    above, below = ({"supported": f"every excess is {word} 0", "form": ".2f"} for word in ("above", "below"))
    assert claims._tell(above, table) == "wide 0.45 [-0.03, 0.93]; sure 0.05 [0.02, 0.08]"
    assert claims._tell(below, table.assign(low=-table.high, high=-table.low)).startswith("wide")


def test_what_lacks_a_precondition_is_not_testable():
    assert verdict("C1b", accepted=("clean",)).because.startswith("probe not accepted on these images: cue")
    assert verdict("C3a", seeds=1).because == "one seed gives no interval"
    guesser = dict.fromkeys(PROBES, 0.1)
    found = verdict("C1b", to_vit={"lm": guesser})
    assert (found.word, found.because) == (
        "not testable",
        "retention under cue conflict is not defined for LM in every seed",
    )
    assert verdict("C3a", without=["rotations"]).because == "this study lacks Baseline, rotations"
    assert verdict("C4", without=["capd"]).because == "this study lacks CAPD"
    given = records()
    del given.evidence["vit_to_cnn"]
    assert judge(given)["C5"].because == "this study has no ViT → CNN"


def test_no_verdict_rests_on_a_student_that_has_not_learned():
    students = {role: {"cue_conflict": 0.62} for role in ("crd", "sskd")}
    weak = {"clean": 0.55}
    found = verdict("C3a", to_cnn=students | {"rotations": weak})
    assert found.word == "not testable" and "accuracy): Baseline, rotations 0." in found.because
    falling = {role: {"cue_conflict": 0.2} for role in ("crd", "sskd")}
    assert verdict("C3a", to_cnn=falling | {"rotations": weak}).word == "contradicted"  # without the control
    falling = {role: rates | weak for role, rates in falling.items()}
    assert verdict("C3a", to_cnn=falling).word == "not testable"


def test_a_family_is_corrected_together():
    """C1b's two groups are one family of eight; C3a's changes and controls are two of them."""
    apart = verdict("C1b", to_vit={"cskd": dict.fromkeys(NOISES, 0.45)}).comparisons
    np.testing.assert_allclose(apart.holm, holm(apart.p))
    rows = verdict("C3a", to_cnn={"crd": {"cue_conflict": 0.43}}).comparisons
    for _, group in rows.groupby("group"):
        np.testing.assert_allclose(group.holm, holm(group.p))


def test_a_measure_that_a_seed_lacks_is_told():
    """A network that names no cue has no shape bias."""

    def blind(answers):
        both = answers.stimuli["cue_conflict"]
        shape, texture = both.labels.numpy(), both.texture_labels.numpy()
        neither = (shape + 1 + (texture == (shape + 1) % 10)) % 10
        answers.answers["crd"]["cue_conflict"]["predicted"] = np.tile(neither, (3, 1))

    found = verdict("C3a", change=blind)
    assert found.word == "not testable"
    assert found.because == "shape bias under cue conflict is not defined for CRD in every seed"


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ("above 0.1", True),
        ("above 0.2", False),
        ("below the smallest effect", False),
        ("within 0.3", True),
        ("significantly above 0", False),
        ("below 0 or within 0.3", True),
        ("above 0.1 and local", False),
    ],
)
def test_a_clause_reads_the_interval_of_a_comparison(said, true):
    row = {"group": "change", "estimate": 0.2, "low": 0.15, "high": 0.26, "narrow_low": 0.16}
    row |= {"narrow_high": 0.25, "holm": 0.06, "local": False, "smallest": 0.05, "learned": True}
    table = pd.DataFrame([row])
    assert claims._holds(f"every change is {said}", table) == true
    assert claims._holds(f"some change is below 0, or some change is {said}", table) == true
    assert not claims._holds(f"every change is {said}", table.assign(learned=False))


# Degenerate studies: every table and every verdict comes, and says what it can't tell

GUESSER = dict.fromkeys(PROBES, 0.1)
DEGENERATE = {
    "one seed": {"seeds": 1},
    "networks that learned nothing": {
        name: dict.fromkeys(("teacher", "baseline", *roles), GUESSER)
        for name, roles in (("to_vit", TO_VIT), ("to_cnn", TO_CNN))
    },
    "no controls": {"without": ("lm_same_family", "crd_same_family", "label_smoothing", "rotations")},
    "one method": {"without": {*TO_VIT, *TO_CNN} - {"lm"}},
    "no student but the baseline": {"without": {*TO_VIT, *TO_CNN}},
    "two classes": {"classes": 2},
}


@pytest.mark.parametrize("given", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.filterwarnings("error")
def test_a_degenerate_study_has_every_table_and_verdict(given):
    found = records(**given)
    verdicts = judge(found)
    assert claims.claims_table(verdicts).notna().all(axis=None)
    words = {"supported", "contradicted", "inconclusive", "not testable"}
    assert {verdict.word for verdict in verdicts.values()} <= words
    for direction, measures in found.evidence.items():
        for made in (
            tables.measure_table(measures),
            tables.transfer_table(measures),
            tables.schedule_table(measures),
            tables.gain_table(measures, found.cost[direction]),
            tables.slope_table(measures),
        ):
            assert isinstance(made, pd.DataFrame)


def test_one_direction_is_judged_without_the_other():
    given = records()
    del given.evidence["cnn_to_vit"]
    found = judge(given)
    assert found["C2"] == claims.Verdict("not testable", "this study has no CNN → ViT")
    assert found["C4"].word == "contradicted"


def test_networks_at_chance_have_an_accuracy_and_no_other_measure():
    measures = records(to_vit={"lm": GUESSER}).evidence["cnn_to_vit"]
    assert np.isfinite(measures["lm", "accuracy", "clean"]).all()
    for measure, probe in measures.questions:
        assert measure == "accuracy" or np.isnan(measures["lm", measure, probe]).all()
    guessing = records(to_vit={"teacher": GUESSER}).evidence["cnn_to_vit"]
    assert np.isnan(guessing["lm", "error_consistency", "clean"]).all()  # errors like those of a guesser
    assert np.isfinite(guessing["lm", "retention", "cue_conflict"]).all()
    one = judge(records(seeds=1))
    assert {verdict.because for verdict in one.values()} == {"one seed gives no interval"}
