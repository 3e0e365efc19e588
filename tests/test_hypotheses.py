"""Hypotheses about made properties: which verdict a known tau gets, and why."""

import numpy as np
import pytest

from kdlib.report.hypotheses import _taus, comparison_table, hypotheses_table, judge
from kdlib.report.made import RULES
from kdlib.study.controls import title_of

from .made import Synthetic


def test_every_hypothesis_names_what_exists():
    for name, hypothesis in RULES["hypotheses"].items():
        assert {"statement", "of", "supports", "contradicts", "agree"} <= hypothesis.keys(), name
        roles = hypothesis["of"]["methods"] + hypothesis.get("minus", {}).get("methods", [])
        assert all(map(title_of, roles))
    named = [measure for measures in RULES["properties"].values() for measure in measures]
    assert set(named) <= set(RULES["measures"])


@pytest.mark.parametrize(("tau", "word"), [(0.5, "supported"), (0.1, "contradicted"), (0.25, "inconclusive")])
def test_logits_carry_a_property_if_tau_is_above_a_quarter(tau, word):
    verdict = judge(Synthetic({"lm": tau}, noise=0.1))["H1"]
    assert verdict.word == word
    table = verdict.comparisons
    assert len(table) == 4 * (2 + 2 + 1) and table.comparison[0] == "LM, shape bias (shape rate), CNN → ViT"
    tested = table[table.reason == ""]
    np.testing.assert_allclose(tested.estimate, tau, atol=0.05)
    assert set(table.reason) == {"", "this study does not have embedding invariance"}
    assert "4 not testable: this study does not have embedding invariance (4)" in verdict.because


def test_most_need_more_than_half_and_no_comparison_against():
    taus = {"lm": 0.5, ("lm", "vit_to_vit"): 0.25}
    assert judge(Synthetic(taus, noise=0.05))["H1"].word == "supported"
    told = judge(Synthetic(taus | {("lm", "cnn_to_cnn", "noise"): 0.0}, noise=0.05))["H1"]
    assert told.word == "inconclusive"
    assert told.because.startswith(
        "11 of 16 comparisons support it and 1 contradict it; least favourable: LM, noise"
    )


def test_crossing_is_compared_with_the_same_teachers():
    taus = {"lm": 0.7, ("lm", "cnn_to_vit"): 0.3, ("lm", "vit_to_cnn"): 0.2}
    verdict = judge(Synthetic(taus, noise=0.05))["H3"]
    table = verdict.comparisons.set_index("comparison")
    assert verdict.word == "supported"
    first = "LM, shape bias (shape rate), CNN → ViT minus CNN → CNN"
    assert table.loc[first, "estimate"] == pytest.approx(-0.4, abs=0.03)
    assert table.loc[
        first.replace("CNN → ViT", "ViT → CNN").replace("CNN → CNN", "ViT → ViT"), "estimate"
    ] == (pytest.approx(-0.5, abs=0.03))
    assert judge(Synthetic({"lm": 0.5}, noise=0.02))["H3"].word == "contradicted"  # within ±0.1


def test_students_of_the_same_teachers_have_one_denominator():
    made = Synthetic({"lm": 0.2, "rsd": 0.7})
    side = {"methods": ["rsd"], "properties": ["texture"], "directions": ["cnn_to_vit"]}
    (ours, other), apart = _taus({}, made, side, side | {"methods": ["lm"]}, 0)
    assert ((ours - other).mean(), apart.mean()) == pytest.approx((0.5 * 0.4, 0.4))


def test_two_taus_of_nothing_are_no_evidence_that_crossing_costs_nothing():
    table = judge(Synthetic({"lm": 0.0, "crd": 0.5}, noise=0.02))["H3"].comparisons
    table = table[table.reason == ""]
    assert table[table.comparison.str.startswith("CRD")].contradicts.all()
    assert not table[table.comparison.str.startswith("LM")].contradicts.any()


def test_a_verdict_names_the_methods_that_it_rests_on_if_some_were_not_run():
    alone, both = judge(Synthetic({"sskd": 0.5}, noise=0.02)), judge(Synthetic({"sskd": 0.5, "crd": 0.5}))
    assert alone["H5"].because.startswith("for SSKD alone: 3 of 3 comparisons support it")
    assert both["H5"].because.startswith("6 of 6 comparisons support it")
    drawn = Synthetic({"sskd": 0.5}, noise=0.02)
    drawn.properties = ["texture"]
    assert judge(drawn)["H5"].because.startswith("for SSKD, shape bias alone: 2 of 2 comparisons support it")


def test_a_list_in_a_list_counts_as_its_mean():
    taus = {"lm": 0.2, ("lm", "vit_to_cnn"): 0.8, ("lm", "vit_to_vit"): 0.6}
    table = judge(Synthetic(taus, noise=0.02))["H4"].comparisons.set_index("comparison")
    name = "LM, noise robustness (retention, noise), ViT → CNN and ViT → ViT minus CNN → ViT and CNN → CNN"
    assert table.loc[name, "estimate"] == pytest.approx(0.5, abs=0.01)
    assert table.loc[name, "supports"]


def test_what_the_teachers_head_reads_is_compared_with_the_students_own():
    verdict = judge(Synthetic({"rsd": 0.3, "rsd_read": 0.7}, noise=0.05))["H2c"]
    assert verdict.word == "supported" and "FitNet" in verdict.because
    assert "RSD, teacher's head minus RSD" in verdict.comparisons.comparison.iloc[-1]


def test_what_is_absent_is_not_testable_with_its_reason():
    verdicts = judge(Synthetic({"lm": 0.5}))
    assert verdicts["H2a"].because == "this study does not have FitNet (20)"
    assert verdicts["H7"].because == (
        "this study has no teachers with shape bias at half dose (4); "
        "this study has no teachers with noise robustness at half dose (2)"
    )
    assert (
        "no teachers with colour invariance" in verdicts["H8"].because
        and verdicts["H6"].word == "not testable"
    )
    assert verdicts["H9b"].because == "this study's images are cifar10"
    assert {found.because for found in judge(Synthetic({"lm": 0.5}, seeds=2)).values()} == {
        "it needs 3 seeds; this study has 2", "this study's images are cifar10",
        "its runs are those of the profile sskd",
    }  # fmt: skip


def test_a_result_that_nobody_asked_for_is_tested_on_other_runs_only():
    taus = {"sskd": 0.6, "lm_strong": 0.3, "sskd_no_similarity": 0.6}
    assert judge(Synthetic(taus, noise=0.02))["H12a"].word == "not testable"
    verdicts = judge(Synthetic(taus, noise=0.02, profile="sskd"))
    assert verdicts["H12a"].word == "supported" and verdicts["H12b"].word == "contradicted"
    assert verdicts["H12c"].because == "this study does not have SSKD, upright logits (2)"


def test_the_class_part_is_judged_on_the_data_it_is_about():
    taus = {"lm": 0.8, "class_means": 0.1}
    assert judge(Synthetic(taus, noise=0.02))["H9a"].word == "supported"
    still = judge(Synthetic(taus | {("lm", "vit_to_vit"): 0.0}))["H9a"]
    assert still.because.endswith("the method itself does not move its students significantly (2)")
    verdicts = judge(Synthetic(taus, noise=0.02, data="shape_texture"))
    assert verdicts["H9a"].word == "not testable" and verdicts["H9b"].word == "contradicted"


def test_properties_with_other_images_are_compared_over_seeds():
    made = Synthetic({"lm": 0.2, ("lm", "cnn_to_vit", "texture"): 0.9}, noise=0.02)
    made.properties.append("grey")
    evidence = made.evidence

    def with_fewer_conflicts(direction, name="plain"):
        found = evidence(direction, name)
        for role in found.roles:
            for kind in ("shape_rate", "texture_rate"):
                found[role, kind, "cue_conflict"] = found[role, kind, "cue_conflict"][:, :90]
            gain = 0.3 * (name == "grey") * (1 if role == "teacher" else 0.5 * (role == "lm"))
            found[role, "retention", "grey"] = found[role, "accuracy", "clean"] + gain
        found.questions.append(("retention", "grey"))
        return found

    made.evidence = with_fewer_conflicts
    table = judge(made)["H8"].comparisons
    assert len(table) == 4 and table.estimate[0] == pytest.approx((0.9 + 0.5) / 2 - 0.2, abs=0.05)


def test_the_tables_have_every_hypothesis_and_what_can_test_it():
    one, other = Synthetic({"lm": 0.5}), Synthetic({"lm": 0.5, "crd": 0.2}, directions=["cnn_to_vit"])
    other.study.profile["title"] = "Other images"
    table = hypotheses_table([one, other])
    assert list(table.hypothesis.unique()) == list(RULES["hypotheses"])
    told = table.set_index(["hypothesis", "experiment"])
    assert {("H1", "Drawn images"), ("H1", "Other images")} <= set(told.index)
    assert [name for hypothesis, name in told.index if hypothesis == "H5"] == ["Drawn images"]
    assert told.verdict["H5", "Drawn images"] == "not testable"
    compared = comparison_table([one, other])
    assert set(compared.hypothesis) == set(RULES["hypotheses"]) - {"H9b", "H12a", "H12b", "H12c"}
    assert set(compared.experiment) == {"Drawn images", "Other images"}
