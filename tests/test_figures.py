import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from kdlib.report import figures, summaries, tables
from kdlib.report.figures.style import KINDS, kind_of, words
from kdlib.study.controls import roles

from .common import make_evidence

RATES = {
    "teacher": {"clean": 0.9, "edges": 0.8, "cue_conflict": 0.8},
    "baseline": {"clean": 0.7, "edges": 0.3, "cue_conflict": 0.3},
    "lm": {"clean": 0.7, "edges": 0.3, "cue_conflict": 0.3},
    "crd": {"clean": 0.8, "edges": 0.6, "cue_conflict": 0.6},
    "lm_same_family": {"clean": 0.7, "edges": 0.3, "cue_conflict": 0.3},
}


@pytest.fixture(scope="module")
def evidence():
    return make_evidence(RATES)


@pytest.fixture(scope="module")
def measures(evidence):
    return tables.measure_table(evidence)


@pytest.fixture(scope="module")
def transfer(evidence):
    return tables.transfer_table(evidence).assign(accepted=True)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_matplotlibrc_changes_nothing_and_names_are_no_formulas():
    plt.rcParams |= {"text.usetex": True, "font.size": 40}
    figures.set_style()
    figure = plt.figure()
    assert not plt.rcParams["text.usetex"] and plt.rcParams["font.size"] < 20
    figure.text(0, 0, "cost_$_{ of $")  # no formula that could be read
    figure.canvas.draw()


def points(axis) -> list[float]:
    return sorted(
        float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() not in ("None", None)
    )


def test_a_forest_shows_every_estimate_by_its_name(measures):
    accuracy = measures[(measures.measure == "accuracy") & (measures.probe == "clean")]
    (axis,) = figures.forest(accuracy, reference=0.1).axes
    assert points(axis) == pytest.approx(sorted(accuracy.estimate))
    names = ["Teacher", "Baseline", "LM", "CRD", "LM, same family"]
    assert [label.get_text() for label in axis.get_yticklabels()] == names


def test_panels_of_one_measure_share_their_scale(measures):
    accuracy = measures[(measures.measure == "accuracy") & (measures.probe == "clean")]
    other = accuracy.assign(direction="vit_to_cnn", estimate=accuracy.estimate / 2)
    left, right = figures.forest(pd.concat([accuracy, other])).axes
    assert left.get_xlim() == right.get_xlim()
    assert [left.get_title(), right.get_title()] == ["CNN → ViT", "ViT → CNN"]


def test_the_map_of_movements_has_the_teacher_first_and_marks_who_moved(transfer):
    cells = summaries.effects(transfer[transfer.measure == "retention"])
    axis = figures.heat_map(cells, "effects", (-4, 4), row="question").axes[0]
    columns = [label.get_text() for label in axis.get_xticklabels()]
    assert columns == ["Teacher", "LM", "CRD", "LM, same family"]
    marks = cells.pivot(index="question", columns="role", values="mark")
    assert (marks["crd"] == "▸").all() and (marks["teacher"] == "").all()


def test_the_original_is_shown_with_its_gaps():
    cells = summaries.original_ratios(summaries.original_table())
    names = {"row": "student", "column": "probe", "panel": "panel"}
    ratio, kept, _ = figures.heat_map(cells, "", (0, 1), **names, numbers=True, columns=2).axes
    assert [np.isnan(axis.images[0].get_array().filled(np.nan)).sum() for axis in (ratio, kept)] == [0, 15]


def test_learning_curves_have_a_panel_for_each_student_with_the_baseline_in_it():
    rows = [
        (role, seed, epoch, "test_accuracy", 0.1 * epoch)
        for role in ("teacher", "baseline", "lm", "more_epochs")
        for seed in (0, 1)
        for epoch in range(1, 7 if role == "more_epochs" else 4)
    ]
    history = pd.DataFrame(rows, columns=["role", "seed", "epoch", "term", "value"])
    lm, longer = figures.curves(
        summaries.learning(history), "epoch", "accuracy", x="epoch", panel="panel"
    ).axes
    assert [lm.get_title(), longer.get_title()] == ["LM", "Baseline, epochs × 2"]
    assert lm.get_xlim()[1] < 4 < longer.get_xlim()[1]  # no panel is half empty
    assert len(lm.lines) == 1 + 1 + 2  # the baseline's mean, LM's mean, its seeds


def test_the_answer_shows_teacher_and_methods_and_spans_the_controls(transfer):
    moved = summaries.movements(transfer)
    (axis,) = figures.movements(moved).axes
    methods = moved[moved.method.isin(["lm", "crd"])]
    assert points(axis) == pytest.approx(
        sorted([*methods.movement, *methods.drop_duplicates("property").gap])
    )
    assert [text.get_text() for text in axis.texts] == ["CRD", "CRD"]  # farther than the control


@pytest.mark.parametrize("draw", [figures.forest, figures.heat_map, figures.curves, figures.movements])
def test_where_nothing_is_defined_there_is_no_figure(draw):
    empty = pd.DataFrame({"estimate": [None], "value": [None], "movement": [np.nan]}, dtype=object)
    assert draw(empty) is None and draw(pd.DataFrame()) is None


def test_a_colour_tells_what_is_matched():
    kinds = {role: kind_of(role) for role in ("teacher", *roles())}
    assert set(kinds.values()) < set(KINDS) and len({look["color"] for look in KINDS.values()}) <= 8
    assert kinds["lm"] == kinds["deit"] == "matches predictions" and kinds["fitnet"] == "matches features"
    assert kinds["sskd"] == "matches both" and kinds["lm_same_family"] == "control"
    assert len({words(role) for role in kinds}) == len(kinds)


def test_a_page_numbers_and_keeps_what_it_shows(tmp_path, measures):
    page = figures.Page(tmp_path, chapter=7)
    page.table(measures, "measures", "All.")
    for caption in ("Dots.", "Dots again."):
        page.figure(figures.forest(measures[measures.measure == "accuracy"][:3]), "dots", caption)
    page.figure(None, "nothing", "Not there.")
    page.gallery(None, "nothing", "A section without its probes.", "Not there.")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"07_dots.png", "07_dots.svg"}
    kept = pd.read_csv(tmp_path / "tables" / "07_measures.csv")
    assert len(kept) == len(measures)
    assert page.counts == {"Figure": 2, "Table": 1}


def test_tables_show_titles_and_dashes_in_place_of_keys_and_infinities():
    table = pd.DataFrame(
        {"direction": ["cnn_to_vit"], "role": ["lm_same_family"], "beyond_control": [np.inf]}
    )
    html = figures.page.table_html(table, "t")
    assert (
        "CNN → ViT" in html and "LM, same family" in html and "beyond control" in html and "inf" not in html
    )


def test_a_chart_has_few_colours_and_a_picture_keeps_its_own(tmp_path, measures):
    page = figures.Page(tmp_path, chapter=7)
    page.figure(figures.forest(measures[measures.measure == "accuracy"][:3]), "chart", "Dots.")
    figure, axis = plt.subplots()
    axis.imshow(np.arange(3 * 64 * 64, dtype=np.uint8).reshape(64, 64, 3))
    page.figure(figure, "picture", "What a network saw.")
    chart, picture = (
        PIL.Image.open(tmp_path / "figures" / f"07_{name}.png") for name in ("chart", "picture")
    )
    assert (chart.mode, picture.mode) == ("P", "RGBA")
    assert chart.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
