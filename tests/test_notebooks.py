import os
import re
import signal
import sys
import threading
import time
from types import SimpleNamespace

import nbformat
import pandas as pd
import papermill
import psutil
import pytest
from nbformat import v4, write

from kdlib.report import notebooks
from kdlib.report.notebooks import NOTEBOOKS, make_report, run_notebooks
from kdlib.report.page import figures_of
from kdlib.study.interrupt import Stop, Stopped
from kdlib.study.runs import RunStore


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Execute a notebook of each list of cells, or one of these cells, in a study that has nothing else."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)

    def execute(*cells, should_stop=lambda: False):
        lists = cells if isinstance(cells[0], list) else [cells]
        for name, own in zip(("01_one", "02_two", "03_three"), lists, strict=False):
            sources = ["output = None", *own]
            notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
            notebook.cells[0].metadata.tags = ["parameters"]
            notebook.metadata.kernelspec = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            write(notebook, tmp_path / f"{name}.ipynb")
        store = RunStore(tmp_path / "runs", should_stop=should_stop)
        images = SimpleNamespace(spec=SimpleNamespace(fingerprint="0"), source="none")
        study = SimpleNamespace(folder=tmp_path, parameters={"output": str(tmp_path), "results": None})
        study.store, study.dataset, study.profile_digest = store, images, "0"
        study.profile, study.command = {"title": "none"}, "python -m kdlib study"
        execute.study = study
        return notebooks.run_notebooks(study)

    return execute


def test_the_kernel_is_this_python_whatever_is_installed(run, tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/bin/false"], "display_name": "another", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert run(f"import sys\nassert sys.executable == {sys.executable!r}")


def test_a_failing_cell_is_told_in_a_line(run, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run("1 / 0")
    executed = tmp_path / "notebooks" / "01_one.ipynb"
    assert str(caught.value) == f"ZeroDivisionError in notebook 01_one: division by zero; see {executed}"


def test_a_report_is_of_one_study(run, tmp_path, monkeypatch):
    """Not of notebooks that failed, nor of other parameters than the others' and its own."""
    monkeypatch.setattr(notebooks, "write_pdf", lambda page: None)
    run(["1"], ["2"])
    (page,) = notebooks.make_report(run.study)
    assert page.read_text().count("data-notebook=") == 2
    run.study.profile_digest = "another"
    with pytest.raises(ValueError, match="01_one, 02_two .*make all with `python -m kdlib study`"):
        notebooks.make_report(run.study)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(["1"], ["1 / 0"])
    with pytest.raises(ValueError, match=f"no report: under {tmp_path}/notebooks, 02_two"):
        notebooks.make_report(run.study)


def test_two_run_side_by_side_and_come_back_in_order(run, tmp_path):
    """Each waits for what the other writes."""
    place = [tmp_path / "first", tmp_path / "second"]
    wait = "import pathlib, time\npathlib.Path({!r}).touch()\n"
    wait += "while not pathlib.Path({!r}).exists(): time.sleep(0.05)"
    executed = run([wait.format(*map(str, place))], [wait.format(*map(str, reversed(place)))])
    assert [path.stem for path in executed] == ["01_one", "02_two"]


def test_a_failure_ends_the_others_and_is_the_one_that_is_told(run):
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="ZeroDivisionError in notebook 02_two"):
        run(["import time\ntime.sleep(600)"], ["import time\ntime.sleep(1)\n1 / 0"], ["1 / 0"])
    assert time.monotonic() - begun < 300


def test_a_dead_kernel_is_told_with_its_notebook_and_what_to_do(run):
    with pytest.raises(
        RuntimeError, match=r"the kernel died in notebook 01_one, .*--notebooks 01_one, and then"
    ):
        run("import os\nos._exit(9)")


@pytest.fixture(scope="module")
def executed(finished):
    return run_notebooks(finished)


def test_all_notebooks_run_and_leave_figures_and_tables(finished, executed):
    assert [path.stem[:2] for path in executed] == ["01", "02", "03", "04", "05"]
    figures = {path.name for path in (finished.folder / "figures").iterdir()}
    shown = [name for path in executed for name, _ in figures_of(path)]
    assert {f"{name}.{kind}" for name in shown for kind in ("png", "svg")} <= figures
    for name in ("01_probe_texture.png", "02_learning.png", "03_cost.png", "05_original.png"):
        assert name in figures
    measures = pd.read_csv(finished.folder / "tables" / "04_measures.csv")
    assert {"accuracy", "retention", "raw_ratio", "shape_bias", "cue_rate"} <= set(measures.measure)


def test_the_report_holds_all_chapters(finished, executed):
    page, *rest = make_report(finished)
    text = page.read_text()
    assert text.count("data-notebook=") == 5
    assert finished.dataset.spec.fingerprint in text
    assert "This cell failed" not in text
    assert [path.suffix for path in rest] in ([], [".pdf"])


PARAMETERS = {
    "profile": ("str", '"cifar10-cpu"'),
    "output": ("str", "None"),
    "data": ("str", "None"),
    "overrides": ("dict[str, object]", "{}"),
    "results": ("str", '"results/cifar10-cpu"'),
}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_clean(path):
    notebook = nbformat.read(path, as_version=4)
    first, parameters = notebook.cells[:2]
    assert first.cell_type == "markdown" and re.match(r"# [\w ]+\n\n\*.*\?\*\n", first.source)
    assert parameters.metadata.tags == ["parameters"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 12 and "def " not in cell.source
            assert max(map(len, cell.source.splitlines())) <= 100


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_papermill_tells_every_parameter(path):
    told = papermill.inspect_notebook(path)
    assert {
        name: (found["inferred_type_name"], found["default"]) for name, found in told.items()
    } == PARAMETERS
    assert all(found["help"] for found in told.values())


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_other_tools_know_the_language(path):
    language = nbformat.read(path, 4).metadata.language_info
    assert (language.name, language.file_extension, language.mimetype) == ("python", ".py", "text/x-python")


def test_notebooks_stop_between_two_cells(run, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(Stopped, match="stopped in notebook 01_one"):
        run(f"open({str(first)!r}, 'w')", f"open({str(second)!r}, 'w')", should_stop=first.exists)
    assert first.exists() and not second.exists()


def test_a_second_signal_ends_a_notebook_and_its_kernel(run, tmp_path):
    begun = tmp_path / "begun"

    def twice():
        while not begun.exists():
            time.sleep(0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    threading.Thread(target=twice, daemon=True).start()
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        run(f"open({str(begun)!r}, 'w')\nimport time\ntime.sleep(600)", should_stop=stop)
    assert not [child for child in psutil.Process().children() if "ipykernel" in " ".join(child.cmdline())]
