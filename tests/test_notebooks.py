import os
import signal
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from nbformat import v4, write

from kdlib.report import notebooks
from kdlib.study.interrupt import Stop, Stopped
from kdlib.study.runs import RunStore


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Execute one notebook that has these cells, in a study that has nothing else."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)

    def execute(*cells, should_stop=lambda: False):
        sources = ["output = None", *cells]
        notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
        notebook.cells[0].metadata.tags = ["parameters"]
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        write(notebook, tmp_path / "01_one.ipynb")
        store = RunStore(tmp_path / "runs", should_stop=should_stop)
        study = SimpleNamespace(folder=tmp_path, parameters={"output": str(tmp_path)}, store=store)
        return notebooks.run_notebooks(study)

    return execute


def test_a_failing_cell_is_told_in_a_line(run, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run("1 / 0")
    executed = tmp_path / "notebooks" / "01_one.ipynb"
    assert str(caught.value) == f"ZeroDivisionError in notebook 01_one: division by zero; see {executed}"


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
