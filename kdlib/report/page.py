"""One page from the executed notebooks: a chapter each, in HTML that needs no network, and as PDF.

nbconvert renders the cells through ``templates/cells.html.j2``; ``templates/page.html.j2`` is the page around
them. Its content security policy refuses every request, whatever a notebook printed: the report is one file.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

import nbformat
from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter
from nbconvert.filters import get_metadata, markdown2html_mistune
from traitlets.config import Config

TEMPLATES = Path(__file__).with_name("templates")
REFERENCES = Path(__file__).with_name("references.md")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER_FLAGS = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking")
BROWSER_FLAGS += ("--disable-component-update", "--disable-sync", "--no-pdf-header-footer")
WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = re.compile(r"(\w*?)(?:\.ipynb)?#(.+)|(\w+)\.ipynb")  # to a notebook's heading, or to a notebook


def exporter() -> HTMLExporter:
    readable = ["text/html", "text/markdown", "image/png", "text/plain"]
    return HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": readable}}),  # neither widgets nor scripts
        template_file="cells.html.j2",
        template_paths=[str(TEMPLATES), *HTMLExporter(template_name="base").template_paths],
        exclude_anchor_links=True,
    )


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook without progress bars and warnings."""
    notebook = nbformat.read(path, as_version=4)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        shown = [output for output in cell.outputs if output.get("name") != "stderr"]
        cell.outputs = [output for output in shown if WIDGET not in output.get("data", {})]
    return notebook


def slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _chapter(path: Path, render: HTMLExporter) -> dict:
    """A notebook's title, sections, cells and abstract; headings go a level down and get anchors."""
    html, _ = render.from_notebook_node(read_notebook(path), {"metadata": {"path": str(path.parent)}})
    page, sections = BeautifulSoup(html, "html.parser"), []
    for heading in page.select(", ".join(f".markdown h{level}" for level in range(1, 6))):
        level, text = int(heading.name[1]), heading.get_text()
        name = path.stem if level == 1 else f"{path.stem}-{slug(text)}"
        again = sum(section["text"] == text for section in sections)
        heading["id"] = name + (f"-{again + 1}" if again else "")
        heading.name = f"h{level + 1}"
        sections.append({"level": level, "text": text, "anchor": heading["id"]})
    for link in page.select("a[href]"):
        if found := LINK.fullmatch(link["href"]):
            notebook, anchor = found[1] or found[3] or path.stem, found[2]
            link["href"] = f"#{notebook}-{slug(unquote(anchor))}" if anchor else f"#{notebook}"
    abstract = "".join(str(output.extract()) for output in page.select(".output.abstract"))
    return {
        "file": path.name,
        "anchor": path.stem,
        "title": sections[0]["text"] if sections else path.stem,
        "sections": [section for section in sections if section["level"] == 2],
        "cells": str(page),
        "abstract": abstract,
        "figures": [name for name, _ in figures_of(path)],
    }


def figures_of(path: Path) -> Iterator[tuple[str, str]]:
    """The file's name and the caption of every figure that an executed notebook shows."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            name = get_metadata(output, "name", "image/png") if "metadata" in output else None
            if name:
                yield name, get_metadata(output, "alt", "image/png")


def write_report(notebooks: list[Path], target: Path, **told: str) -> Path:
    """Write the executed ``notebooks``, in this order, as one HTML file that needs no other.

    A notebook is a chapter, named by its first heading. Code is folded, stderr is left out, a
    cell that failed is shown. What a cell tagged ``abstract`` printed leads the page. Formulas
    stay as their LaTeX source. ``told``: the page's title and subtitle, and for its last section the
    command that makes the study and the version of the code.
    """
    render = exporter()
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("page.html.j2")
    html = page.render(
        chapters=[_chapter(path, render) for path in notebooks],
        references=markdown2html_mistune(REFERENCES.read_text(encoding="utf-8")),
        css=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        **told,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html, encoding="utf-8")
    return target


def write_pdf(html: Path, timeout: float = 120) -> Path | None:
    """Print ``html`` to a PDF beside it with an installed Chromium or Chrome; ``None`` where there is none.

    Raises RuntimeError if the browser failed, or took longer than ``timeout`` seconds.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    pdf = html.with_suffix(".pdf")
    pdf.unlink(missing_ok=True)
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *BROWSER_FLAGS, f"--user-data-dir={profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium's sandbox refuses to start as root
        command += [f"--print-to-pdf={pdf.resolve()}", html.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{browser} took longer than {timeout:g} s to print {html}") from None
    if done.returncode or not pdf.is_file():
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"{browser} could not print {html}: {reason}")
    return pdf
