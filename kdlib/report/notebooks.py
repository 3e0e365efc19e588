"""The notebooks as functions of their parameters, and the report that they are joined to."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from kdlib import __version__
from kdlib.data import PROJECT
from kdlib.disk import room_for
from kdlib.messages import check
from kdlib.report.page import write_pdf, write_report
from kdlib.study import Study
from kdlib.study.profile import NOTEBOOKS

TOGETHER = 2  # notebooks that run side by side: none needs another, and one keeps about one core busy


class Kernel(AsyncKernelManager):
    """This Python, whatever kernels are installed; remembered, so that an interrupted command can end it."""

    started: ClassVar[list["Kernel"]] = []
    kernel_spec = KernelSpec(**get_kernel_dict())

    async def start_kernel(self, **more) -> None:
        Kernel.started.append(self)
        await super().start_kernel(**more)


def run_notebooks(study: Study, names: Iterable[str] = ()) -> list[Path]:
    """Execute the numbered notebooks, all or some only; the executed copies go to ``<folder>/notebooks``.

    Raises:
        UnknownName: for a notebook that doesn't exist.
        RuntimeError: if a cell fails, with its error, or if a kernel dies; of several the first notebook's.
        Stopped: between two cells, if the study's ``should_stop`` said so.
    """
    (study.folder / "notebooks").mkdir(parents=True, exist_ok=True)
    sources = {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}
    chosen = [sources[check("notebook", name, sources)] for name in names or sources]
    Kernel.started.clear()
    with ThreadPoolExecutor(TOGETHER) as pool:
        running = [pool.submit(_execute, study, source) for source in chosen]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:  # after an error or an interruption: end what runs, leave out what waits
            if not all(found.done() for found in running):
                pool.shutdown(wait=False, cancel_futures=True)
                for kernel in Kernel.started:
                    with suppress(AttributeError, ProcessLookupError):  # it never began, or has ended
                        kernel.provisioner.process.kill()
    failed = [found.exception() for found in running if not found.cancelled() and found.exception()]
    for error in sorted(failed, key=lambda error: isinstance(error.__cause__, DeadKernelError)):
        raise error
    return [found.result() for found in running]


def _execute(study: Study, source: Path) -> Path:
    sys.stderr.write(f"notebook {source.stem}\n")  # at once, as two run side by side
    executed, where = study.folder / "notebooks" / source.name, f"in notebook {source.stem}"
    try:
        with room_for(executed):
            made = papermill.execute_notebook(
                source,
                executed,
                study.parameters,
                progress_bar=False,
                kernel_manager_class=Kernel,
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's; cells' errors are told anyway
                on_cell_start=lambda **cell: study.store.stop_if_asked(where),
            )
            made.metadata["study"] = _mark(study)  # only now: of a notebook that came to its end
            nbformat.write(made, executed)
    except PapermillExecutionError as error:
        raise RuntimeError(f"{error.ename} {where}: {error.evalue}; see {executed}") from error
    except DeadKernelError as error:
        remedy = "usually because memory ran out; close other programs, or run one notebook at a time, with"
        remedy += f" --notebooks {source.stem}, and then `python -m kdlib report`"
        raise RuntimeError(f"the kernel died {where}, {remedy}") from error
    return executed


def _mark(study: Study) -> str:
    """What a notebook is made of: the profile as it was overridden, the images, and published records."""
    return f"{study.profile_digest} {study.dataset.spec.fingerprint} {study.parameters['results']}"


def make_report(study: Study) -> list[Path]:
    """Join the executed notebooks into ``<folder>/report.html``, and a PDF where there is a browser.

    Raises ValueError if one is missing, did not come to its end, or is of another study.
    """
    notebooks = [study.folder / "notebooks" / path.name for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]
    there = {path: nbformat.read(path, 4).metadata.get("study") for path in notebooks if path.is_file()}
    if others := [path.stem for path in notebooks if there.get(path) != _mark(study)]:
        told = f"no report: under {study.folder / 'notebooks'}, {', '.join(others)} is missing, failed, or of"
        raise ValueError(f"{told} another profile, overrides or images; remake all with `{study.command}`")
    data = study.dataset
    page = write_report(
        notebooks,
        study.folder / "report.html",
        title="Can knowledge distillation transfer inductive biases between CNNs and ViTs?",
        subtitle=f"{study.profile['title']} — {data.source}, fingerprint {data.spec.fingerprint}",
        command=study.command,
        version=version(),
    )
    return [path for path in (page, write_pdf(page)) if path]


def version() -> str:
    """Of the code: the package's, and the commit where there is a repository."""
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True, check=False) if shutil.which("git") else None
    commit = f", commit {found.stdout.strip()}" if found and not found.returncode else ""
    return f"kdlib {__version__}{commit}"
