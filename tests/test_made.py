"""The experiment with made properties: tables and verdicts of students whose tau is known."""

from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pandas as pd
import pytest

from kdlib.report import figures, findings
from kdlib.report import made as tables
from kdlib.report.hypotheses import _ratio, comparison_table, hypotheses_table, judge
from kdlib.report.made import RULES, specificity_matrix, tau_table, teacher_table
from kdlib.study.controls import title_of

IMAGES, DIRECTIONS = 600, ("cnn_to_vit", "vit_to_cnn", "cnn_to_cnn", "vit_to_vit")
ASKED = {  # measure, probe -> what teachers that were made "texture", "noise" and "patches" gain by it
    ("shape_rate", "cue_conflict"): {"texture": 0.4},
    ("texture_rate", "cue_conflict"): {"texture": -0.3},
    ("retention", "gaussian_noise"): {"noise": 0.3},
    ("retention", "scramble_2"): {"patches": 0.2},  # of the series that is named, one level alone
}


class Evidence(dict):
    """Influence by (role, measure, probe); the same images are hard for all networks."""

    def __init__(self, roles):
        self.roles, self.questions = roles, [*ASKED, ("accuracy", "clean"), ("agreement", "clean")]
        self.students = [role for role in roles if role not in ("teacher", "baseline")]


class Synthetic:
    """Students with given taus: role, or (role, direction), or (role, direction, property) -> tau.

    Teachers have the gains of ASKED in every image; ``noise`` is a student's standard deviation from that.
    ``clean`` gives accuracies by (role, property), else 0.7.
    """

    def __init__(self, taus, seeds=3, noise=0.0, clean=None, gains=1.0, data="cifar10", **more):
        self.taus, self.noise, self.clean, self.gains = taus, noise, clean or {}, gains
        self.properties = ["texture", "noise", "patches"]
        roles = dict.fromkeys(key if isinstance(key, str) else key[0] for key in taus)
        self.directions = {name: list(roles) for name in more.get("directions", DIRECTIONS)}
        self.study = SimpleNamespace(profile={"data": {"name": data}}, seeds=list(range(seeds)))

    def tau(self, role, direction, name):
        keys = ((role, direction, name), (role, direction), role)
        return next(self.taus[key] for key in keys if key in self.taus)

    def evidence(self, direction, made="plain"):
        found = Evidence(["teacher", "baseline", *self.directions[direction]])
        seeds = len(self.study.seeds)
        for role in found.roles:
            rate = self.clean.get((role, made), self.clean.get((role, "any"), 0.7))
            hits = np.arange(IMAGES) < rate * IMAGES
            found[role, "accuracy", "clean"] = np.tile(hits, (seeds, 1)).astype(float)
            found[role, "agreement", "clean"] = np.full((seeds, IMAGES), 0.6)
            for place, (question, gain) in enumerate(ASKED.items()):
                random = np.random.default_rng(crc32(repr((direction, role, made, place)).encode()))
                base = np.tile(np.random.default_rng(place).random(IMAGES), (seeds, 1))
                moved = self.gains * gain.get(made, 0.0)
                if role != "teacher":
                    moved *= 0 if role == "baseline" else self.tau(role, direction, made)
                    base = base + random.normal(0, self.noise, (seeds, IMAGES)) * (role != "baseline")
                found[(role, *question)] = base + moved
        return found


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
        ({}, "**Yes. A property that was trained into the teacher arrives significantly in a student of the "
             "other architecture in 6 of 6 comparisons of a method and a property. With logit matching, 50% "
             "of it arrives on average, and 80% if teacher and student share an architecture.**"),
        ({("lm", "vit_to_cnn"): 0.0, ("lm", "cnn_to_vit", "noise"): 0.0}, "**Partly. A property"),
        ({("lm", "vit_to_cnn"): 0.0, ("lm", "cnn_to_vit"): -0.2}, "**Not that this study could tell. A pro"),
    ],
)  # fmt: skip
def test_the_title_is_answered_by_crossings_alone(crossing, told):
    taus = {"lm": 0.8, ("lm", "cnn_to_vit"): 0.5, ("lm", "vit_to_cnn"): 0.5, "ceiling": 1.0, "rsd_read": 1.0}
    assert findings.made_headline(tau_table(Synthetic(taus | crossing))).startswith(told)


def test_without_a_crossing_the_title_is_not_answered():
    told = findings.made_headline(tau_table(Synthetic({"lm": 0.5}, directions=["cnn_to_cnn"])))
    assert told.endswith("cannot be told here: no direction crosses architectures.**")


def test_the_best_method_is_named_with_its_accuracy():
    made = Synthetic({"lm": 0.3, "rsd": 0.6}, clean={("lm", "noise"): 0.5}, directions=["cnn_to_vit"])
    told = findings.arrives(tau_table(made))
    assert told.startswith("* **CNN → ViT.** tau is significantly above 0 in 5 of 5 comparisons")
    assert "Most shape bias arrives by RSD (+0.60 [" in told and "at 1.00 of the baseline's accuracy" in told
    assert told.endswith("1 more are not testable: the student of the made teacher did not learn (1).")
    assert findings.arrives(tau_table(made).iloc[:0]) == "This study has no measure of a made property."


def test_what_else_moved_is_counted():
    made = Synthetic({"lm": 0.5}, directions=["cnn_to_vit"])
    told = findings.specificity(specificity_matrix(made, "lm"))
    assert told.startswith("Teacher: 0 of 8 measures that a teacher was not made for moved significantly.")


def test_the_two_heads_are_told():
    made = Synthetic({"lm": 0.8, "rsd": 0.2, "rsd_read": 0.6})
    assert findings.readings(tau_table(made)).endswith("tau is 0.60 on average instead of 0.20.")
    heads = tables.panels(tau_table(made), heads=True)
    assert list(heads.role.unique()) == ["rsd", "rsd_read"]


# ---- hypotheses ----


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
    moved, apart = _ratio({}, made, side, side | {"methods": ["lm"]}, 0)
    assert (moved.mean(), apart.mean()) == pytest.approx((0.5 * 0.4, 0.4))


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
    assert verdicts["H7"].because == "this study has no teachers with half texture (2); " + (
        "this study has no teachers with half noise (2)"
    )
    assert (
        "no teachers with colour invariance" in verdicts["H8"].because
        and verdicts["H6"].word == "not testable"
    )
    assert verdicts["H9b"].because == "this study's images are cifar10"
    assert {found.because for found in judge(Synthetic({"lm": 0.5}, seeds=2)).values()} == {
        "it needs 3 seeds; this study has 2", "this study's images are cifar10",
    }  # fmt: skip


def test_the_class_part_is_judged_on_the_data_it_is_about():
    taus = {"lm": 0.8, "class_means": 0.1}
    assert judge(Synthetic(taus, noise=0.02))["H9a"].word == "supported"
    still = judge(Synthetic(taus | {("lm", "vit_to_vit"): 0.0}))["H9a"]
    assert still.because.endswith("2 not testable: the method itself moves its students nowhere (2)")
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


def test_the_tables_of_verdicts_and_comparisons_have_everything():
    verdicts = judge(Synthetic({"lm": 0.5}))
    assert list(hypotheses_table(verdicts).hypothesis) == list(RULES["hypotheses"])
    compared = comparison_table(verdicts)
    assert set(compared.hypothesis) == set(RULES["hypotheses"]) - {"H9b"}
