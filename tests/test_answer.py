import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from kdlib.report import answer, figures
from kdlib.report.claims import Verdict
from kdlib.report.tables import transfer_table
from kdlib.study.controls import WITHOUT_IT

from .common import make_evidence

RATES = {
    "teacher": {"clean": 0.8, "cue_conflict": 0.8, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "independent": {"clean": 0.8, "cue_conflict": 0.3, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "lm": {"clean": 0.8, "cue_conflict": 0.6, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "crd": {"clean": 0.8, "cue_conflict": 0.3, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
    "lm_same_family": {"clean": 0.8, "cue_conflict": 0.1, "gaussian_noise_1": 0.7, "gaussian_noise_2": 0.7},
}


@pytest.fixture(scope="module")
def moved():
    directions = ("vit_to_cnn", "cnn_to_vit")  # in the study's order, whatever the alphabet says
    tables = [transfer_table(make_evidence(RATES, direction=name)) for name in directions]
    return answer.movements(pd.concat(tables))


def test_the_biases_of_interest_come_direction_by_direction(moved):
    known = ["shape bias", "foreign texture withstood", "noise withstood"]
    assert list(moved.direction.unique()) == ["vit_to_cnn", "cnn_to_vit"]
    assert [list(part.bias.unique()) for _, part in moved.groupby("direction")] == [known, known]
    assert len(moved) == 2 * 3 * 3  # directions, biases, students


def test_who_moved_is_told_with_the_teachers_distance(moved):
    table = answer.bias_table(moved).set_index(["direction", "bias"])
    bias = table.loc["ViT → CNN", "shape bias"]
    assert bias["teacher − independent"].startswith("+0.5")
    assert re.fullmatch(r"LM \+0\.\d\d ★", bias["methods"])
    assert re.fullmatch(r"away: LM, same family -0\.\d\d", bias["controls"])
    noise = table.loc["CNN → ViT", "noise withstood"]
    assert set(noise[["methods", "controls"]]) == {"—"}


def test_who_moved_either_way_is_told_in_one_cell():
    rates = RATES | {"crd": RATES["lm_same_family"]}
    del rates["lm_same_family"]
    table = answer.bias_table(answer.movements(transfer_table(make_evidence(rates)))).set_index("bias")
    assert re.fullmatch(r"LM \+0\.\d\d; away: CRD -0\.\d\d", table.methods["shape bias"])
    assert table.controls["shape bias"] == "none"


def test_the_headline_tells_what_methods_move_and_controls_do_not(moved):
    words = {"C1a": "contradicted", "C2": "supported", "C4": "contradicted"}
    told = answer.headline({name: Verdict(word, "") for name, word in words.items()}, moved)
    assert told.startswith(
        "In 4 of 6 biases, by direction, a teacher surely differs from the independent student of the other "
        "architecture. Some method's student surely moves toward it in 4 of them, and in 4 surely farther "
        "than every control to which no such teacher came: most of what moves needs such a teacher. ViT → "
        "CNN: the teacher differs in 2 of 3 biases, students move in 2, farther than every control in "
        "2: shape bias (LM), foreign"
    )
    assert told.endswith("The original's claims, in 3 testable parts: contradicted: C1a, C4; supported: C2.")


def test_a_control_that_moves_as_far_takes_the_credit():
    rates = RATES | {"lm_same_family": RATES["lm"]}
    moved = answer.movements(transfer_table(make_evidence(rates)))
    assert set(moved.side[moved.method == "lm"]) == {"toward", "teacher not different"}
    told = answer.headline({}, moved)
    assert "toward it in 2 of them, and in none surely farther than every control" in told
    assert "most of what moves is not shown to need such a teacher." in told


def test_where_nothing_moves_nothing_is_said_of_why():
    rates = dict.fromkeys(("teacher", "independent", "lm"), RATES["independent"])
    told = answer.headline({}, answer.movements(transfer_table(make_evidence(rates))))
    assert told.startswith("In none of 3 biases, by direction, a teacher surely differs from the indep")
    assert "toward it in none of them, and in none surely farther" in told and "most of what" not in told


def test_a_longer_schedule_tells_the_claims_it_can_judge_and_who_moved():
    rates = {name: RATES[name] for name in ("teacher", "independent", "lm")}
    rates["crd"] = RATES["lm_same_family"]  # away from the teacher
    moved = answer.movements(transfer_table(make_evidence(rates, direction="vit_to_cnn")))
    profile = {"students": {"cnn": {"training": {"epochs": 9}}}}
    longer = SimpleNamespace(profile=profile, directions={"vit_to_cnn": {"student": "cnn"}})
    verdicts = {"C1a": Verdict("not testable", "no"), "C4": Verdict("supported", "why")}
    assert re.fullmatch(
        r"Of the claims: C4 supported \(why\)\. ViT → CNN, 9 epochs: the teacher surely differs in 2 biases; "
        r"surely toward it LM in 2: shape bias \+0\.3\d of \+0\.5\d, foreign texture withstood [^;]*; "
        r"CRD in none\.",
        answer.longer_sentence(longer, verdicts, moved),
    )
    assert answer.longer_sentence(longer, {}, moved).startswith("Of the claims: none can be judged. ViT")


def test_accuracies_are_told_with_a_caution_where_no_control_was_run():
    told = answer._accuracies(make_evidence(RATES, direction="vit_to_cnn"))
    assert re.fullmatch(
        r"Accuracy, ViT → CNN: Teacher 0\.\d\d, Independent 0\.\d\d, LM .*same family 0\.\d\d\.", told
    )
    alone = {name: rates for name, rates in RATES.items() if name != "lm_same_family"}
    assert answer._accuracies(make_evidence(alone)).endswith("learned less than the independent one.")


def test_controls_with_the_other_architectures_teacher_are_not_among_those_without():
    assert {"lm_same_family", "label_smoothing", "rotations", "more_epochs"} < set(WITHOUT_IT)
    assert not {"lm_shuffled", "capd_no_discriminator"} & set(WITHOUT_IT)


def test_the_figure_shows_teacher_and_methods_and_spans_the_controls(moved):
    figure = figures.bias_movements(moved)
    assert [axis.get_title() for axis in figure.axes] == ["ViT → CNN", "CNN → ViT"]
    for axis, (_, part) in zip(figure.axes, moved.groupby("direction", sort=False), strict=True):
        points = [line.get_xdata()[0] for line in axis.lines if line.get_marker() not in ("None", None)]
        shown = part[part.method.isin(["lm", "crd"])]
        assert sorted(points) == pytest.approx(sorted([*shown.movement, *shown.drop_duplicates("bias").gap]))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Teacher", "LM", "CRD"]
    plt.close("all")
