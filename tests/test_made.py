"""The experiment with made properties: tables and verdicts of students whose tau is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdlib.report import figures, findings
from kdlib.report import made as tables
from kdlib.report.hypotheses import second_test
from kdlib.report.made import specificity_matrix, tau_table, teacher_table
from kdlib.study.controls import title_of

from .made import Synthetic


def row(table, *keys):
    names = ["direction", "property", "role", "measure"]
    found = table.set_index(names).sort_index().loc[keys]
    return found if isinstance(found, pd.Series) else found.iloc[0]


TEXTURE = ("cnn_to_vit", "texture", "lm", "shape rate")


def test_each_row_has_the_tau_that_its_students_were_given():
    table = tau_table(Synthetic({"lm": 0.5, "crd": -0.25, ("lm", "vit_to_vit", "noise"): 1.2}))
    assert table.testable.all() and len(table) == 2 * 4 * (2 + 1 + 1)
    expected = [1.2 if row.direction == "vit_to_vit" and row.property == "noise" and row.role == "lm"
                else {"lm": 0.5, "crd": -0.25}[row.role] for row in table.itertuples()]  # fmt: skip
    np.testing.assert_allclose(table.tau, expected, atol=1e-6)
    one = row(table, *TEXTURE)
    assert (one.student, one.teacher) == pytest.approx((0.2, 0.4)) and one.primary
    second = row(table, "cnn_to_vit", "texture", "lm", "texture rate")
    assert (second.teacher, second.tau) == pytest.approx((-0.3, 0.5)) and not second.primary
    assert (one.accuracy, one.price, one.agreement, one.seeds) == pytest.approx((1, 0, 0.6, 3))


def test_p_is_corrected_within_a_directions_property():
    table = tau_table(Synthetic({"lm": 0.02, "crd": 0.01, "rsd": 0.6}, noise=0.4))
    part = table[(table.direction == "cnn_to_vit") & (table.property == "texture")]
    ordered = part.sort_values("p_none")
    assert len(part) == 6 and ordered.holm_none.iloc[0] == min(1, 6 * ordered.p_none.iloc[0])
    assert (part.holm_none >= part.p_none).all() and (part.holm_none > part.p_none).any()


def test_a_student_that_did_not_learn_has_no_tau_and_no_mean():
    table = tau_table(Synthetic({"lm": 0.5, "crd": 0.5}, clean={("lm", "texture"): 0.6}))
    lost = row(table, *TEXTURE)
    assert not lost.testable and np.isnan([lost.tau, lost.student, lost.holm_none]).all()
    assert lost.reason == "the student of the made teacher did not learn in 3 of 3 seeds"
    assert lost.accuracy == pytest.approx(6 / 7) and lost.price == pytest.approx(-0.1)
    assert row(table, "cnn_to_vit", "texture", "crd", "shape rate").testable
    assert row(table, "cnn_to_vit", "noise", "lm", "retention, noise").testable


def test_a_teacher_that_did_not_learn_or_does_not_differ_has_no_students_to_compare():
    table = tau_table(Synthetic({"lm": 0.5}, clean={("teacher", "noise"): 0.6}))
    lost = table[table.property == "noise"]
    assert (lost.reason == "the made teacher did not learn in 3 of 3 seeds").all()
    assert lost.teacher_accuracy.to_numpy() == pytest.approx(6 / 7)
    small = tau_table(Synthetic({"lm": 0.5}, gains=0.1))  # .04 of shape rate, .03 of the others
    assert (small.reason == "the teachers' difference is below the smallest effect, 0.05").all()
    assert small.teacher.notna().all() and small.student.notna().all()
    assert tau_table(Synthetic({"lm": 0.5}, gains=0.15)).testable.tolist() == 4 * [True, False, False, False]


def test_one_seed_has_differences_and_no_tau():
    table = tau_table(Synthetic({"lm": 0.5}, seeds=1))
    assert (table.reason == "one seed gives no interval").all()
    assert table.tau.isna().all() and row(table, *TEXTURE).student == pytest.approx(0.2)


def test_a_probe_that_was_not_asked_is_left_out_and_a_series_stands_for_its_levels():
    evidence = Synthetic({"lm": 1}).evidence("cnn_to_vit")
    assert tables.probes_of(evidence, "retention, patches moved") == ["scramble_2"]
    evidence.questions += [("retention", "scramble"), ("retention", "scramble_4_offset")]
    assert tables.probes_of(evidence, "retention, patches moved") == ["scramble", "scramble_4_offset"]
    assert tables.probes_of(evidence, "embedding invariance") == []
    with_it, without = (np.ones((3, count)) for count in (4, 6))
    assert [part.shape for part in tables.aligned([with_it, without])] == [(3, 1), (3, 1)]


def test_the_matrix_tells_what_else_a_made_property_moved():
    table = specificity_matrix(Synthetic({"lm": 0.5}, directions=["cnn_to_vit"]), "lm")
    found = table.set_index(["role", "made", "measure"])
    assert found.loc[("lm", "texture", "texture rate"), "estimate"] == pytest.approx(-0.15)
    assert found.loc[("teacher", "noise", "retention, noise"), "estimate"] == pytest.approx(0.3)
    others = found.sort_index().loc[("lm", "noise")].drop("retention, noise")
    assert len(others) == 3 and others.estimate.abs().max() == pytest.approx(0)
    names = {"row": "network", "column": "measure", "panel": "role"}
    left, right, _ = figures.heat_map(table, "", (-0.6, 0.6), **names, numbers=True, columns=2).axes
    assert [left.get_title(), right.get_title()] == ["Teacher", "LM"]
    assert left.get_yticklabels()[0].get_text() == "CNN → ViT: shape bias"


def test_teachers_stand_once_for_each_network():
    found = teacher_table(Synthetic({"lm": 0.5}))
    assert list(found.network.unique()) == ["cnn", "vit"] and len(found) == 2 * 4
    assert list(found.property.unique()) == ["shape bias", "noise robustness", "permutation invariance"]


def test_titles_of_what_no_method_trains():
    assert [title_of(role) for role in ("ceiling", "rsd_read")] == [
        "Trained on changed images",
        "RSD, teacher's head",
    ]


def test_the_figure_has_a_panel_a_property_and_a_row_a_method():
    taus = {"lm": 0.5, ("lm", "cnn_to_vit"): 0.25, "ceiling": 1.0}
    table = tables.panels(tau_table(Synthetic(taus, clean={("ceiling", "noise"): 0.5})))
    axes = figures.taus(table, tables.PUBLISHED).axes
    assert [axis.get_title() for axis in axes] == ["shape bias", "noise robustness", "permutation invariance"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["LM", "Trained on changed images"]
    lines = {line.get_label(): line for line in axes[0].lines}
    assert lines["CNN → ViT"].get_xdata() == pytest.approx([0.25, 1.0])
    assert lines["CNN → CNN"].get_markerfacecolor() == "white" != lines["CNN → ViT"].get_markerfacecolor()
    assert list(lines["published"].get_xdata()) == [0.08, 0.48] and axes[0].get_xlim()[1] > 1
    noise = {line.get_label(): line for line in axes[1].lines}
    assert np.isnan(noise["CNN → ViT"].get_xdata()[1]) and not len(noise["published"].get_xdata())
    nothing = tables.panels(tau_table(Synthetic({"lm": 0.5}, seeds=1)))
    assert figures.taus(nothing, tables.PUBLISHED) is None


def test_a_table_to_read_has_dashes_and_reasons_where_nothing_is_known():
    table = tables.shown(tau_table(Synthetic({"lm": 0.5}, clean={("lm", "texture"): 0.6})))
    assert list(table.property.unique()) == ["shape bias", "noise robustness", "permutation invariance"]
    lost, kept = table.iloc[0], table[table.property == "noise robustness"].iloc[0]
    assert (lost.tau, lost.student) == ("—", "—") and lost["not testable"].endswith("in 3 of 3 seeds")
    assert lost.teacher == "+0.400 [+0.400, +0.400]" and kept.tau.startswith("+0.50 [")


# ---- takeaways ----


@pytest.mark.parametrize(
    ("crossing", "told"),
    [
        ({}, "**Yes. Students of the other architecture significantly inherit a property that was "
             "trained into their teacher in 6 of 6 comparisons (method, property and direction). With logit "
             "matching, they inherit 50% of it on average; if teacher and student share an architecture, "
             "80%.**"),
        ({("lm", "vit_to_cnn"): 0.0, ("lm", "cnn_to_vit", "noise"): 0.0}, "**Partly. Students of"),
        ({("lm", "vit_to_cnn"): 0.0, ("lm", "cnn_to_vit"): -0.2}, "**Not detectably. Students of"),
    ],
)  # fmt: skip
def test_the_title_is_answered_by_crossings_alone(crossing, told):
    taus = {"lm": 0.8, ("lm", "cnn_to_vit"): 0.5, ("lm", "vit_to_cnn"): 0.5, "ceiling": 1.0, "rsd_read": 1.0}
    assert findings.made_headline(tau_table(Synthetic(taus | crossing))).startswith(told)


def test_without_a_crossing_the_title_is_not_answered():
    told = findings.made_headline(tau_table(Synthetic({"lm": 0.5}, directions=["cnn_to_cnn"])))
    assert told.endswith("other architecture: no direction crosses architectures.**")


def test_the_best_method_is_named_with_its_accuracy():
    made = Synthetic({"lm": 0.3, "rsd": 0.6}, clean={("lm", "noise"): 0.5}, directions=["cnn_to_vit"])
    told = findings.arrives(tau_table(made))
    assert told.startswith("* **CNN → ViT.** tau is significantly above 0 in 5 of 5 pairs")
    assert "The largest tau for shape bias is that of RSD (+0.60 [" in told
    assert "at 1.00 times the baseline's accuracy" in told
    assert told.endswith(" Not testable: the student of the made teacher did not learn (1).")
    assert findings.arrives(tau_table(made).iloc[:0]) == "No trained-in property is measured here."


def test_what_else_moved_is_counted():
    made = Synthetic({"lm": 0.5}, directions=["cnn_to_vit"])
    told = findings.specificity(specificity_matrix(made, "lm"))
    assert told.startswith("Teacher: 0 of 8 off-target measures changed significantly.")
    told = findings.specificity(specificity_matrix(Synthetic({"lm": 0.5}), "lm"))
    assert "Teacher: 0 of 16 off" in told and "LM: 0 of 32 off" in told  # two teachers, four directions


def test_a_baseline_that_diverged_is_the_reason(monkeypatch):
    def evidence(self, *asked, evidence=Synthetic.evidence):
        found = evidence(self, *asked)
        found["baseline", "accuracy", "clean"][1] = np.nan
        return found

    monkeypatch.setattr(Synthetic, "evidence", evidence)
    reasons = tau_table(Synthetic({"lm": 0.5})).reason
    assert (reasons == "the baseline diverged in 1 of 3 seeds").all()


def test_the_two_heads_are_told():
    made = Synthetic({"lm": 0.8, "rsd": 0.2, "rsd_read": 0.6})
    assert findings.readings(tau_table(made)).endswith("tau is 0.60 on average instead of 0.20.")
    heads = tables.panels(tau_table(made), heads=True)
    assert list(heads.role.unique()) == ["rsd", "rsd_read"]


def test_claims_get_a_second_test_with_made_properties():
    other = Synthetic({"lm": 0.2, "crd": 0.5, "sskd": 0.5}, noise=0.05)
    again = Synthetic({"crd": 0.0}, noise=0.02)
    again.study.profile["title"] = "Again"
    lines = findings.second_test(second_test([other, again])).splitlines()
    assert lines[2:4] == ["| claim, with a trained-in property | experiment | verdict |", "|---|---|---|"]
    assert [line[2:4] for line in lines[4:]] == ["C1", "C2", "C3", '" ', "C5", '" ']
    assert lines[4].endswith("(H10) | — | — |")
    supported = "(H5) | Drawn images | **supported**, 6 of 6 comparisons support it and 0 contradict it |"
    assert lines[6].endswith(supported)
    assert lines[7].startswith('| " | Again | **contradicted**, for CRD alone: 0 of 3 comparisons support it')
    assert findings.second_test(second_test([Synthetic({"marginalise": 0.2})])) == ""
    again.study.profile["title"] = "Drawn images"
    assert findings.second_test(second_test([other, again])).count("| Drawn images |") == 4


def test_experiments_are_told_with_the_method_that_carries_most():
    def told(**more):
        taus = {"lm": 0.2, "sskd": 0.6, "lm_strong": 0.7}  # the last is a control
        other = Synthetic(taus, directions=["vit_to_cnn", "cnn_to_cnn"], **more)
        other.properties = ["texture"]
        return findings.by_experiment([Synthetic({"crd": 0.1}, noise=0.1), other])

    rows = told().split("\n\n")[1].splitlines()
    assert rows[3].endswith("| 2 | 3 | 600 | 2 of 2 | 0 | SSKD, ViT → CNN: +0.60 [+0.60, +0.60] |")
    assert told().split("\n\n")[2] == (
        "**Which method to choose.** To pass a property on to the other architecture: SSKD passed on most, "
        "tau +0.60 [+0.60, +0.60] at 1.00 times the baseline's accuracy (ViT → CNN; shape bias, cifar10 "
        "(drawn)). To keep most of one out: CRD and LM passed on less than a quarter in every testable "
        "comparison, by the 95% intervals."
    )
    lost = {(role, "any"): 0.3 for role in ("lm", "sskd")}
    assert told(clean=lost).split("\n\n")[1].endswith("| 0 of 0 | 2 | — |")
    nothing = findings.by_experiment([Synthetic({"lm": 0.5}, seeds=1)])
    assert "No method significantly passes a property on" in nothing and "of one out" not in nothing


def test_who_has_to_choose_sees_what_transfers_most_and_what_little():
    made = Synthetic({"lm": 0.6, "crd": 0.1, "sskd": 0.0}, noise=0.01, directions=["vit_to_cnn"])
    table = tables.choices([made]).set_index("property").loc["shape bias"]
    assert table["largest tau"] == "LM" and table["less than a quarter"] == "CRD; SSKD"
    assert table["images"] == "cifar10 (drawn)"  # and the profile: experiments may share the images
    assert table["tau"].startswith("+0.60") and table["testable methods"] == 3
    alone = tables.choices([Synthetic({"lm": 0.6}, seeds=1)])
    assert (alone["largest tau"] == "—").all() and alone["accuracy / baseline"].isna().all()


def test_of_several_properties_the_one_with_the_largest_tau_is_named():
    taus = {"lm": 0.5, ("lm", "vit_to_cnn", "texture"): 0.9, ("lm", "vit_to_cnn", "noise"): -0.3}
    told = findings.by_experiment([Synthetic(taus)])
    assert "| LM, ViT → CNN, shape bias: +0.90 [+0.90, +0.90] |" in told


def test_experiments_side_by_side_are_told_apart():
    one, other = Synthetic({"lm": 0.2}), Synthetic({"lm": 0.2}, data="shape_texture", profile="wide")
    panels = tables.across([one, other]).panel.unique()
    assert "shape bias\ncifar10\n(drawn)" in panels and "shape bias\nshape_texture\n(wide)" in panels
    assert "shape bias" in set(tables.across([one]).panel)


def test_the_answers_figure_has_the_experiments_on_the_studys_own_images():
    one, other = Synthetic({"lm": 0.2}), Synthetic({"lm": 0.2}, data="shape_texture")
    study = SimpleNamespace(profile={"data": {"name": "cifar10"}}, experiments=[one, other])
    assert tables.on_own_images(study) == [one]
    study.profile["data"]["name"] = "mine"
    assert tables.on_own_images(study) == [one, other]


def test_a_table_by_direction_has_a_dash_where_nothing_is_testable():
    made = Synthetic({"lm": 0.3}, clean={("lm", "noise"): 0.5}, directions=["cnn_to_vit"])
    table = tables.by_direction(tau_table(made)).set_index("role")
    assert table.loc["LM", "CNN → ViT, shape bias"] == "0.30 [0.30, 0.30]"
    assert table.loc["LM", "CNN → ViT, noise robustness"] == "—"


def test_means_across_and_within_are_of_the_same_teachers():
    taus = {"lm": 0.2, ("lm", "cnn_to_cnn"): 0.6, ("lm", "vit_to_cnn"): 0.4, ("lm", "vit_to_vit"): 1.0}
    lost = {("lm", "any"): 0.3}
    assert tables.crossing_and_not(tau_table(Synthetic(taus)), "lm") == pytest.approx((0.3, 0.8))
    alone = tau_table(Synthetic(taus, directions=["cnn_to_vit", "vit_to_vit"]))
    assert tables.crossing_and_not(alone, "lm") == pytest.approx((0.2, np.nan), nan_ok=True)
    nothing = tables.crossing_and_not(tau_table(Synthetic(taus, clean=lost)), "lm")
    assert np.isnan(nothing).all()
