"""The notebooks as functions of their parameters, and the report that they are joined to."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from kdlib import __version__
from kdlib.data import PROJECT
from kdlib.disk import room_for
from kdlib.names import check
from kdlib.report.page import write_pdf, write_report
from kdlib.study import Study

NOTEBOOKS = PROJECT / "notebooks"


def run_notebooks(study: Study, names: Iterable[str] = ()) -> list[Path]:
    """Execute the numbered notebooks, all or some only; the executed copies go to ``<folder>/notebooks``.

    Raises:
        UnknownName: for a notebook that doesn't exist.
        RuntimeError: if a cell fails, with its error.
        Stopped: between two cells, if the study's ``should_stop`` said so.
    """
    target = study.folder / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    done, sources = [], {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}
    for source in [sources[check("notebook", name, sources)] for name in names or sources]:
        print(f"notebook {source.stem}", file=sys.stderr)
        executed, where = target / source.name, f"in notebook {source.stem}"
        try:
            with room_for(executed):
                papermill.execute_notebook(
                    source,
                    executed,
                    study.parameters,
                    progress_bar=False,
                    extra_arguments=["--log-level=CRITICAL"],  # the kernel's; cells' errors are told anyway
                    on_cell_start=lambda where=where, **cell: study.store.stop_if_asked(where),
                )
        except PapermillExecutionError as error:
            raise RuntimeError(f"{error.ename} {where}: {error.evalue}; see {executed}") from error
        done.append(executed)
    return done


def make_report(study: Study) -> list[Path]:
    """Join the executed notebooks into ``<folder>/report.html``, and a PDF where there is a browser."""
    notebooks = [study.folder / "notebooks" / path.name for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]
    subtitle = (
        f"{study.profile['title']} — {study.dataset.source}, fingerprint {study.dataset.spec.fingerprint}"
    )
    title = "Can inductive biases be distilled across architectures?"
    target = study.folder / "report.html"
    page = write_report(notebooks, target, title, subtitle, study.command, version())
    return [path for path in (page, write_pdf(page)) if path]


def version() -> str:
    """Of the code: the package's, and the commit where there is a repository."""
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True, check=False) if shutil.which("git") else None
    commit = f", commit {found.stdout.strip()}" if found and not found.returncode else ""
    return f"kdlib {__version__}{commit}"
