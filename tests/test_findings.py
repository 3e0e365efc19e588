import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch

from kdlib.bias.answers import Answers
from kdlib.bias.influence import Measures
from kdlib.bias.statistics import with_interval
from kdlib.probes import Stimuli
from kdlib.report import figures, findings, original, tables
from kdlib.report.tables import measure_table, transfer_table
from kdlib.study.controls import roles

from .common import IMAGES, make_answers, make_evidence

RATES = {
    "teacher": {"clean": 0.9, "edges": 0.8, "cue_conflict": 0.8},
    "independent": {"clean": 0.7, "edges": 0.3, "cue_conflict": 0.3},
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
    assert value(measures, "independent", "shape_bias", "cue_conflict") == pytest.approx(0.3, abs=0.06)
    assert value(measures, "independent", "cue_rate", "cue_conflict") == 1


def test_intervals_hold_the_estimate_and_the_ratio_has_none(measures):
    shown = measures[measures.measure != "raw_ratio"]
    assert ((shown.low <= shown.estimate) & (shown.estimate <= shown.high)).all()
    assert measures[measures.measure == "raw_ratio"].low.isna().all()


def test_baseline_hits_follow_the_images_not_their_order():
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


def test_words_follow_the_interval(transfer):
    told = findings.effect_table(transfer).set_index(["method", "measure", "probe"])
    moved, still = told.loc[("CRD", "retention", "edges")], told.loc[("LM", "accuracy", "clean")]
    assert moved.result.startswith("raises, +0.") and moved.teacher == "toward"
    assert not still.result.startswith(("raises,", "lowers,"))


@pytest.mark.parametrize(
    ("low", "high", "narrow", "expected"),
    [
        (0.03, 0.09, (0.04, 0.08), "raises"),
        (0.01, 0.09, (0.02, 0.08), "raises slightly"),
        (-0.09, -0.03, (-0.08, -0.04), "lowers"),
        (-0.015, 0.012, (-0.01, 0.01), "no meaningful difference (within ±0.02)"),
        (-0.05, 0.08, (-0.03, 0.06), "inconclusive"),
        (np.nan, np.nan, (np.nan, np.nan), "not evaluable (why)"),
    ],
)
def test_allowed_words(low, high, narrow, expected):
    row = pd.Series(
        {
            "measure": "accuracy",
            "movement_low": low,
            "movement_high": high,
            "narrow_low": narrow[0],
            "narrow_high": narrow[1],
            "p": 0.01 if low * high > 0 else 0.5,
            "reason": "why",
        }
    )
    assert findings.movement_word(row) == expected


def test_one_seed_gives_estimates_without_intervals():
    single = make_evidence(RATES, seeds=1)
    assert measure_table(single).low.isna().all()
    transfer = transfer_table(single)
    assert transfer.movement.isna().all() and not transfer.established.any()
    told = findings.effect_table(transfer)
    assert told.result.str.startswith("not evaluable (got 1 seed").all()
    assert findings.transfer_sentence(transfer).startswith("One seed gives no interval")


def test_networks_at_chance_are_not_evaluable():
    rates = {role: dict.fromkeys(("clean", "edges", "cue_conflict"), 0.1) for role in RATES}
    guessers = make_evidence(rates)
    measures = measure_table(guessers)
    assert measures[measures.measure == "retention"].estimate.isna().all()
    told = findings.effect_table(transfer_table(guessers))
    assert told[told.measure == "retention"].result.str.startswith("not evaluable").all()
    assert findings.ratio_sentence(measures) == "No model learned enough for a retention."


def test_sentences_name_the_numbers(measures, transfer):
    clean = {role: value(measures, role, "accuracy", "clean") for role in RATES}
    told = findings.accuracy_sentence(measures)
    assert f"the best students are CRD {clean['crd']:.1%}" in told and "of 3 with" in told
    assert f"the teacher gets {clean['teacher']:.1%}" in told
    bias = value(measures, "independent", "shape_bias", "cue_conflict")
    assert f"Independent {bias:.2f} (names a cue on 100%)" in findings.shape_bias_sentence(measures)
    assert "toward it in" in findings.transfer_sentence(transfer)


def test_sides_are_counted_where_the_teacher_differs(transfer):
    """CRD moves halfway to the teacher on every probe, LM not at all; a control has its own kind."""
    summary = findings.transfer_summary(transfer.replace({"method": {"lm": "lm_same_family"}}))
    told = summary.set_index("method")
    counted = told[["toward", "away", "neither"]]
    assert (counted.sum(axis=1) == transfer.established.groupby(transfer.method).sum()["crd"]).all()
    assert counted.loc["CRD", "toward"] == counted.loc["CRD"].sum() > 0
    assert counted.loc["LM, same family", "neither"] == counted.loc["LM, same family"].sum()
    assert told.loc["LM, same family", "kind"] == "control" and told.loc["CRD", "kind"] == "method"
    assert (told.direction == "CNN → ViT").all()


def test_the_largest_sure_movements_come_first(transfer):
    largest = findings.sure(transfer, count=2)
    assert list(largest.method) == ["CRD", "CRD"]
    assert largest.result.str.startswith("raises,").all()
    sizes = [float(text.split()[1]) for text in findings.sure(transfer, count=9)["result"]]
    assert len(sizes) > 2


def test_diverged_runs_are_told():
    rows = [("lm", 0, 1, False), ("lm", 0, 2, False), ("crd", 1, 1, True)]
    history = pd.DataFrame(rows, columns=["role", "seed", "epoch", "diverged"])
    assert findings.training_sentence(history).startswith("Diverged: CRD, seed 1, in epoch 1.")
    assert findings.training_sentence(history[:2]) == "All 1 runs came to their end; none diverged."


def test_convergence_is_told_from_the_last_epoch():
    """Teachers may have more epochs than students."""
    rows = [("teacher", 0, epoch, "test_accuracy", 0.9) for epoch in (1, 2, 3)]
    for role, gain in (("independent", 0.1), ("capd", 0.2)):
        for seed in (0, 1):
            for epoch in (1, 2):
                rows.append((role, seed, epoch, "test_accuracy", gain * epoch + 0.01 * seed))
                rows.append((role, seed, epoch, "label", 3 - epoch))
    history = pd.DataFrame(rows, columns=["role", "seed", "epoch", "term", "value"])
    told = findings.convergence_sentence(history, "capd")
    assert "CAPD gets 40.0% to 41.0%" in told and "independent: 20.0% to 21.0%" in told
    assert "Its mean passes nine tenths of the independent student's after epoch 1." in told
    assert told.endswith("went from 2.00 in the first epoch to 1.00 in the last.")
    assert findings.convergence_sentence(history, "sskd") == "This study has no SSKD."


def test_originals_retentions_are_those_of_its_accuracies():
    table = original.original_table()
    rows = table.set_index(["direction", "model"])
    assert rows.loc[("cnn_to_vit", "CSKD"), "retention texture"] == pytest.approx(30.4 / 85.2)
    assert rows.loc[("vit_to_cnn", "CRD"), "ratio texture"] == pytest.approx(10.5 / 14.7)
    assert rows.loc[("vit_to_cnn", ["CRD", "SSKD", "CAPD"]), "retention noise"].isna().all()
    sentence = original.original_sentence(table)
    assert "CRD (ViT → CNN) gets 14.7%" in sentence and "CAPD" in sentence and "Independent" not in sentence


def test_a_cell_reads_as_estimate_and_interval():
    assert with_interval(0.5, 0.4, 0.6) == "+0.500 [+0.400, +0.600]"
    assert with_interval(0.5, np.nan, np.nan, ".2f") == "0.50"
    assert with_interval(np.nan, np.nan, np.nan) == "not defined"


def test_wide_table_keeps_the_order_of_probes_and_roles(measures):
    wide = figures.wide_table(measures, "accuracy")
    assert list(wide.role) == ["Teacher", "Independent", "LM", "CRD"]
    assert list(wide.columns) == ["role", "clean", "edges", "cue_conflict"]


def test_figures_show_every_point(measures, evidence):
    accuracy = measures[measures.measure == "accuracy"]
    panels = figures.forest(accuracy, "accuracy", 0.1).axes
    shown = [line for axis in panels for line in axis.lines if line.get_marker() not in ("None", None)]
    drawn = sorted(float(x) for line in shown for x in line.get_xdata())
    assert drawn == pytest.approx(sorted(accuracy.estimate))
    for figure in (
        figures.ratio_beside_retention(measures),
        figures.shape_bias_plot(measures[measures.probe == "cue_conflict"]),
        figures.original_ratios(original.original_table()),
    ):
        assert any(len(axis.lines) > 2 for axis in figure.axes)
    plt.close("all")


def test_a_forest_shows_every_estimate_but_not_every_interval(measures):
    kept = measures[measures.measure == "retention"].assign(low=-50.0, high=50.0)
    for axis in figures.forest(kept, "retention", 0).axes:
        left, right = axis.get_xlim()
        assert -1 < left < min(0, kept.estimate.min()) and kept.estimate.max() < right < 2
    plt.close("all")


def test_the_effect_map_writes_every_movement_beside_the_teachers_gap(transfer):
    chosen = transfer[transfer.measure.isin(["accuracy", "retention", "shape_bias"])]
    (axis,) = figures.effect_map(chosen).axes
    lines = [label.get_text() for label in axis.get_yticklabels()]
    accuracies = ("accuracy clean", "accuracy edges", "accuracy cue conflict")
    assert lines == [*accuracies, "edges", "cue conflict", "shape bias cue conflict"]
    texts = {tuple(map(round, text.get_position())): text for text in axis.texts}
    for place, (_, row) in enumerate(chosen.iterrows()):
        column, line = 1 + ["lm", "crd"].index(row.method), place % len(lines)
        assert texts[0, line].get_text() == f"{row.gap:+.2f}"
        assert texts[column, line].get_text().startswith(f"{row.movement:+.2f}")
        sure = row.movement_low > 0 or row.movement_high < 0
        assert (texts[column, line].get_fontweight() == "bold") == sure
        assert ("▸" in texts[column, line].get_text()) == (row.established and row.toward_low > 0)
    plt.close("all")


def test_the_effect_map_leaves_empty_what_cannot_be_computed():
    rates = {**RATES, "crd": dict.fromkeys(RATES["crd"], 0.1)}  # no retention without learning
    transfer = transfer_table(make_evidence(rates))
    (axis,) = figures.effect_map(transfer[transfer.measure.isin(["accuracy", "retention"])]).axes
    written = {tuple(map(round, text.get_position())) for text in axis.texts}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["Teacher", "LM", "CRD"]
    assert {line for column, line in written if column == 2} == {0, 1, 2}
    assert {line for column, line in written if column == 1} == {0, 1, 2, 3, 4}
    plt.close("all")


def test_profiles_planes_and_costs_draw_every_student(measures, transfer, evidence):
    kept = measures[measures.measure == "retention"]
    cost = pd.DataFrame({"role": ["independent", "lm", "crd"], "epoch": [1.0, 1.2, 1.5], "epochs": [5, 5, 5]})
    gains = tables.gain_table(evidence, cost)
    assert gains.groupby("role")["cost"].first().to_dict() == pytest.approx({"lm": 1.2, "crd": 1.5})
    for figure in (figures.bias_profiles(kept), figures.movement_planes(transfer)):
        assert [axis.get_title() for axis in figure.axes] == ["LM", "CRD"]
    assert [axis.get_ylabel() for axis in figures.cost_beside_benefit(gains).axes] == list(
        tables.GAINS.values()
    )
    classes = tables.class_table(evidence, [f"class {label}" for label in range(10)])
    assert len(figures.shape_bias_by_class(classes).axes[0].get_yticklabels()) == 10
    plt.close("all")


def test_class_table_averages_to_the_shape_bias(evidence, measures):
    """Every image names a cue here, and classes are balanced."""
    classes = tables.class_table(evidence, range(10))
    for role, bias in classes.groupby("role")["shape_bias"].mean().items():
        assert bias == pytest.approx(value(measures, role, "shape_bias", "cue_conflict"))


def test_a_student_on_the_line_of_schedules_has_no_residual():
    """Retention rises by half of what accuracy does; CRD keeps more than its accuracy makes likely."""
    rates = {}
    for role, clean in (("fewest_epochs", 0.5), ("fewer_epochs", 0.6), ("independent", 0.7), ("lm", 0.65)):
        rates[role] = {"clean": clean, "edges": 0.1 + (clean - 0.1) * (0.3 + 0.5 * (clean - 0.5))}
    rates["crd"] = {"clean": 0.65, "edges": 0.1 + 0.55 * 0.7}
    rates["teacher"] = {"clean": 0.9, "edges": 0.8}
    table = tables.schedule_table(make_evidence(rates, spread=0.002)).set_index("role")
    assert list(table.index[table.schedule]) == ["fewest_epochs", "fewer_epochs", "independent"]
    assert abs(table.loc["lm", "residual"]) < 0.04
    assert table.loc["crd", "low"] > 0.2
    told = findings.schedule_sentence(table.reset_index())
    assert told.startswith("1 of 2 retentions lie surely off") and "CRD under edges: +0." in told
    (axis,) = figures.accuracy_lines(table.reset_index()).axes
    assert list(axis.lines[0].get_xdata()) == sorted(table.clean[table.schedule])
    plt.close("all")


def test_slopes_are_the_share_of_the_teachers_distance(evidence):
    slopes = tables.slope_table(evidence).set_index("role")
    assert slopes.loc["lm", "slope"] == pytest.approx(0, abs=0.1)
    assert 0.3 < slopes.loc["crd", "slope"] < 0.9 and slopes.loc["crd", "cosine"] > 0.9


def test_consistency_stands_between_chance_and_its_limit(evidence):
    table = tables.consistency_table(evidence).set_index("network")
    assert list(table.index) == ["two teachers", "two independents", "Independent", "LM", "CRD"]
    assert (table.consistency <= table.largest + 1e-9).all()
    assert (
        table.loc["CRD", "consistency"] > table.loc["LM", "consistency"]
    )  # nearer to the teacher's accuracy


def test_no_two_roles_look_alike():
    styles = [tuple(sorted(figures.style_of(role).items())) for role in ("teacher", *roles())]
    assert len(set(styles)) == len(styles)


def test_a_page_numbers_and_keeps_what_it_shows(tmp_path, measures, capsys):
    page = figures.Page(tmp_path, chapter=7)
    page.table(measures, "measures", "All.")
    for caption in ("Dots.", "Dots again."):
        page.figure(figures.ratio_beside_retention(measures), "dots", caption)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"07_dots.png", "07_dots.svg"}
    kept = pd.read_csv(tmp_path / "tables" / "07_measures.csv")
    assert len(kept) == len(measures)
    assert page.counts == {"Figure": 2, "Table": 1}


def test_a_chart_has_few_colours_and_a_picture_keeps_its_own(tmp_path, measures):
    page = figures.Page(tmp_path, chapter=7)
    page.figure(figures.ratio_beside_retention(measures), "chart", "Dots.")
    figure, axis = plt.subplots()
    axis.imshow(np.arange(3 * 64 * 64, dtype=np.uint8).reshape(64, 64, 3))
    page.figure(figure, "picture", "What a network saw.")
    chart, picture = (
        PIL.Image.open(tmp_path / "figures" / f"07_{name}.png") for name in ("chart", "picture")
    )
    assert (chart.mode, picture.mode) == ("P", "RGBA")
    assert chart.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
