"""The published study: what is shown in the repository follows from the records in it."""

import re
from runpy import run_path

import nbformat
import papermill
import pytest

from kdlib.__main__ import main
from kdlib.data import PROJECT
from kdlib.report.notebooks import NOTEBOOKS
from kdlib.report.page import figures_of
from kdlib.study import Study, known_bias, runs
from kdlib.study.known_bias import yardstick_table
from kdlib.study.status import states

RESULTS = PROJECT / "results" / "cifar10-cpu"
PAGES = run_path(str(PROJECT / "docs" / "pages.py"))
COMMITTED = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def texts(path) -> list[str]:
    """What a notebook printed, without pictures."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            found.append(data.get("text/html") or data.get("text/markdown") or output.get("text", ""))
    return [text for text in found if text]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("published")
    return Study("cifar10-cpu", folder / "outputs", folder / "data", results=RESULTS, quiet=True)


def test_every_run_of_the_profile_is_there(study, monkeypatch):
    """Whatever the procedural set looks like on this machine."""
    for module, name in ((runs, "load"), (runs, "fit"), (known_bias, "_make")):
        monkeypatch.setattr(module, name, None)
    assert [one.study.folder.name for one in study.experiments] == study.profile["made"]
    for part in (study, *(one.study for one in study.experiments)):
        assert {row["state"] for row in states(part.store.root, part.plan())} == {"done"}
    assert yardstick_table(study.store, study.yardstick_images).holds.all()


def test_records_are_small():
    sizes = [path.stat().st_size for path in RESULTS.parent.rglob("*") if path.is_file()]
    assert sum(sizes) < 30e6


def test_what_records_cannot_answer_is_told_before_any_notebook_runs(tmp_path, capsys):
    command = ["study", "--from-results", str(RESULTS), "--output", str(tmp_path), "--set"]
    for change, told in (
        ("hyper.lm.temperature=2", "runs are not in the published records, the first: lm: "),
        ("test_images=500", "not 500"),
        ("made=[cifar10-cpu]", "cifar10-cpu trains no teachers with a property; leave it out of made"),
        ("made=[procedual]", "unknown profile in made 'procedual'. Did you mean 'procedural'"),
    ):
        assert main([*command, change]) == 1
        assert told in capsys.readouterr().err
    assert not [*tmp_path.rglob("*.ipynb")]


def test_a_study_in_training_reads_the_published_experiments_that_it_names(tmp_path):
    names = [one.study.folder.name for one in Study("cifar10-cpu", tmp_path).experiments]
    assert names == ["induced", "induced-methods", "procedural", "wide", "sskd", "dose", "remedies"]


def test_findings_follow_from_the_records(study, tmp_path, monkeypatch):
    """Executed anew on a machine without images, notebook 05 prints what is committed, and so does README."""
    monkeypatch.setattr(runs, "fit", None)
    source = NOTEBOOKS / "05_findings.ipynb"
    papermill.execute_notebook(source, tmp_path / source.name, study.parameters, progress_bar=False)
    assert texts(PAGES["_notebook"](tmp_path / source.name, tmp_path / "clean.ipynb")) == texts(source)
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = re.search(f"{re.escape(PAGES['BEGIN'])}(.*){re.escape(PAGES['END'])}", readme, re.DOTALL)[1]
    answer = (study.folder / "answer.md").read_text(encoding="utf-8")
    assert shown.strip() == answer.replace("](05_findings", "](notebooks/05_findings").strip()


def test_figures_are_those_of_the_notebooks():
    names = {name for path in COMMITTED for name, _ in figures_of(path)}
    files = {path.stem for path in (PROJECT / "figures").glob("*.png")}
    assert files == names
    index = (PROJECT / "figures" / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name}.png)" in index for name in names)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_notebooks_show_their_outputs_and_nothing_volatile(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(cell.outputs for cell in code)
    for cell in code:
        assert set(cell.metadata) <= {"tags"}
        assert all(output.output_type not in ("stream", "error") for output in cell.outputs)
