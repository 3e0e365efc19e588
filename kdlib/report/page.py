"""One page from the executed notebooks: a chapter each, in HTML that needs no network, and as PDF.

nbconvert renders the cells through ``report_template/index.html.j2``. This file does what nbconvert leaves to
scripts and servers: equations become MathML, headings a table of contents, links between notebooks anchors.
The page's content security policy refuses every request, so whatever a notebook printed, the report is one
file.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import copy
from html import escape
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from urllib.parse import unquote

import nbformat
from bs4 import BeautifulSoup, Tag
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters import get_metadata
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
    MathBlockParser,
    MathInlineParser,
)
from traitlets.config import Config

TEMPLATE = Path(__file__).with_name("report_template")
REFERENCES = Path(__file__).with_name("references.md")
CREDIT = (
    "Question and claims are those of the study "
    '<a href="https://github.com/Huraira-7/Cross-Architecture-Knowledge-Distillation">Cross-Architecture '
    "Knowledge Distillation</a> by its authors; methods, measures and runs are this study's own."
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER_FLAGS = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking")
BROWSER_FLAGS += ("--disable-component-update", "--disable-sync", "--no-pdf-header-footer")
WIDGET = "application/vnd.jupyter.widget-view+json"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<div class="page">
<header><h1>{title}</h1><p class="subtitle">{subtitle}</p><p class="subtitle">{credit}</p></header>
<nav class="contents" aria-label="Contents">
<details open><summary>Contents</summary><ul id="contents"></ul></details>
<label><input type="checkbox" autocomplete="off"
 onchange="document.querySelectorAll('details.code').forEach(cell => cell.open = this.checked)">
show all code</label>
</nav>
<main>
<section class="abstract"></section>
{chapters}
<section class="chapter" id="references"><h2>References</h2>{references}</section>
<section class="chapter" id="reproduce"><h2>How to make this again</h2>{reproduce}</section>
</main>
</div>
</body>
</html>
"""


# ---- equations ----


# a named function before a letter or a command that is neither a space nor a bracket
FUNCTION = re.compile(r"\\(log|ln|exp|cos|sin)(?![a-z])\s*(?=[A-Za-z]|\\(?!left|big|Big|[,;:!|{]))")


def latex_to_mathml(latex: str, display: bool) -> str:
    """MathML of a formula, or its escaped source between dollars where latex2mathml does not know it."""
    source = latex.strip()
    # latex2mathml knows `align*` but not `aligned`, no starred operator, and sets "log p" without a space
    source = re.sub(r"\\(begin|end)\{(?:aligned|split)\}", r"\\\1{align*}", source)
    source = source.replace(r"\operatorname*", r"\mathrm")
    source = FUNCTION.sub(r"\\\1\\,", source)
    try:
        mathml = convert(source, display="block" if display else "inline")
    except Exception:  # its parser leaks IndexError and friends besides its own errors
        mathml = "\\"
    if "\\" in mathml or ">&<" in mathml:  # a command or an alignment it passed through unread
        dollars = "$$" if display else "$"
        mathml = f'<code class="latex">{escape(dollars + latex + dollars, quote=False)}</code>'
    mathml = mathml.replace("<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">/</mo>')  # TeX sets a/b tight
    return f'<span class="equation">{mathml}</span>' if display else mathml


class BlockMath(MathBlockParser):
    """Display math opens a line, so that two dollars inside a code span open nothing."""

    SPECIFICATION: ClassVar = {
        **MathBlockParser.SPECIFICATION,
        "multiline_math": r"^ {0,3}(?:" + MathBlockParser.MULTILINE_MATH + ")",
    }


class InlineMath(MathInlineParser):
    """Inline math hugs its dollars and holds no code span, so that "$5 and $6" stays money."""

    SPECIFICATION: ClassVar = {
        **MathInlineParser.SPECIFICATION,
        "inline_math_tex": r"(?<![$\\])\$(?P<math_inline_tex>(?![\s$])[^`$]*?(?<![\s\\]))\$(?![\d$])",
    }


class Renderer(IPythonRenderer):
    """Markdown to HTML, with MathML where nbconvert leaves dollars for a script."""

    def inline_math(self, body: str) -> str:
        return latex_to_mathml(body, display=False)

    def block_math(self, body: str) -> str:
        return latex_to_mathml(body, display=True)

    def latex_environment(self, name: str, body: str) -> str:
        return latex_to_mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


# ---- chapters ----


class ChapterExporter(HTMLExporter):
    """nbconvert's HTML exporter with this report's markdown."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        renderer = Renderer(
            escape=False,  # raw HTML is part of markdown
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
            exclude_anchor_links=True,
        )
        inline = InlineMath(hard_wrap=False)
        return MarkdownWithMath(renderer, block=BlockMath(), inline=inline).render(source)


def exporter() -> ChapterExporter:
    readable = ["text/html", "text/markdown", "text/latex"]
    readable += ["image/svg+xml", "image/png", "image/jpeg", "text/plain"]  # neither widgets nor scripts
    return ChapterExporter(
        config=Config({"NbConvertBase": {"display_data_priority": readable}}),
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
    )


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook without ``remove_cell`` cells, progress bars and warnings."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "remove_cell" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if output.get("name") != "stderr" and WIDGET not in output.get("data", {})
            ]
    return notebook


# ---- the page ----


def slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def outline(soup: BeautifulSoup) -> None:
    """Give headings their level and id, write the contents, turn links between notebooks into anchors."""
    taken = {tag["id"] for tag in soup.select("[id]")}
    anchors: dict[tuple[str, str], str] = {}  # (notebook's file, heading's slug) -> id in the page
    contents = ""
    for chapter in soup.select(".chapter[data-notebook]"):
        file, sections = chapter["data-notebook"], ""
        headings = chapter.select(".markdown :is(h1, h2, h3, h4, h5, h6)")
        if not headings:
            headings = [soup.new_tag("h2", string=Path(file).stem)]
            chapter.select_one(".source").insert_after(headings[0])
        title, *rest = headings
        title.name = "h2"
        anchors[file, ""] = anchors[file, slug(title.get_text())] = chapter["id"]
        for heading in rest:
            heading.name = f"h{min(max(int(heading.name[1]), 2) + 1, 6)}"
            name = slug(heading.get_text())
            wanted = f"{chapter['id']}-{name}"
            numbered = (f"{wanted}-{n}" for n in count(2))
            heading["id"] = next(anchor for anchor in chain([wanted], numbered) if anchor not in taken)
            taken.add(heading["id"])
            anchors.setdefault((file, name), heading["id"])
            if heading.name == "h3":
                sections += f"<li>{contents_link(heading, heading['id'])}</li>"
        sections = f"<ul>{sections}</ul>" if sections else ""
        contents += f"<li>{contents_link(title, chapter['id'])}{sections}</li>"
    for section in soup.select("#references, #reproduce"):
        contents += f"<li>{contents_link(section.h2, section['id'])}</li>"
    soup.find(id="contents").append(BeautifulSoup(contents, "html.parser"))

    for chapter in soup.select(".chapter[data-notebook]"):
        for link in chapter.select("a[href]"):
            file, _, fragment = link["href"].removeprefix("./").partition("#")
            target = anchors.get((file or chapter["data-notebook"], slug(unquote(fragment))))
            if target:
                link["href"] = f"#{target}"


def contents_link(heading: Tag, anchor: str) -> str:
    text = copy(heading)
    for link in text.select("a"):
        link.unwrap()
    return f'<a href="#{anchor}">{text.decode_contents()}</a>'


def contain(soup: BeautifulSoup) -> None:
    """Leave nothing that asks for another file; number figures without a text; let wide tables scroll."""
    for tag in soup.select("main :is(script, link, iframe, object, embed, base, meta, style[scoped])"):
        tag.decompose()
    for number, image in enumerate(soup.select("main img"), start=1):
        image["alt"] = image.get("alt") or f"Figure {number}"
        source = image.get("src", "")
        if not source.startswith("data:"):
            image.replace_with(soup.new_tag("a", href=source, string=image["alt"]))
    for table in soup.select("main table"):
        table.wrap(soup.new_tag("div", attrs={"class": "table", "tabindex": "0"}))
    seen = set()
    for tag in soup.select("[id]"):
        if tag["id"] in seen:  # two notebooks printed the same id
            del tag["id"]
        else:
            seen.add(tag["id"])


def lead_with_abstract(soup: BeautifulSoup) -> None:
    """Move what the cell tagged ``abstract`` printed to the front."""
    place = soup.select_one("main > .abstract")
    found = soup.select(".output.abstract")
    for output in found:
        place.append(output.extract())
    if not found:
        place.decompose()


def references() -> str:
    """The papers, from references.md, as HTML."""
    return ChapterExporter().markdown2html({"resources": {"metadata": {"path": ""}}}, REFERENCES.read_text())


def figures_of(path: Path) -> Iterator[tuple[str, str]]:
    """The file's name and the caption of every figure that an executed notebook shows."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            name = get_metadata(output, "name", "image/png") if "metadata" in output else None
            if name:
                yield name, get_metadata(output, "alt", "image/png")


def how_to_make(notebooks: list[Path], command: str) -> str:
    """For each chapter its figures, the files that hold them, and the command that makes them."""
    rows = []
    for number, path in enumerate(notebooks, start=1):
        listed = ", ".join(
            f"{number}.{place} <code>{escape(name)}</code>"
            for place, (name, _) in enumerate(figures_of(path), start=1)
        )
        made_by = f"{command} --notebooks {path.stem}"
        rows.append(f"<tr><td>{number}</td><td>{listed}</td><td><code>{escape(made_by)}</code></td></tr>")
    head = "<tr><th>chapter</th><th>figures, by file</th><th>command</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def write_report(
    notebooks: list[Path], target: Path, title: str, subtitle: str, command: str = "", version: str = ""
) -> Path:
    """Write the executed ``notebooks``, in this order, as one HTML file that needs no other.

    A notebook is a chapter, named by its first heading. Code is folded, stderr and ``remove_cell`` cells are
    left out, a cell that failed is shown. What a cell tagged ``abstract`` printed leads the page.

    Args:
        command: what makes the study, for the last section; ``version``: of the code, for the same.

    Raises:
        FileNotFoundError: a notebook has not been executed; says how.
    """
    for path in notebooks:
        if not path.is_file():
            raise FileNotFoundError(f"no executed notebook {path}; run `python -m kdlib study` to make it")
    chapters, render = "", exporter()
    for number, path in enumerate(notebooks, start=1):
        cells, _ = render.from_notebook_node(read_notebook(path), {"metadata": {"path": str(path.parent)}})
        file = escape(path.name)
        chapters += f'<section class="chapter" id="chapter-{number}" data-notebook="{file}">'
        chapters += f'<p class="source">{file}</p>{cells}</section>\n'
    made = f"<p>Made by <code>{escape(command)}</code> with {escape(version)}.</p>"
    page = PAGE.format(
        title=escape(title),
        subtitle=escape(subtitle),
        credit=CREDIT,
        css=(TEMPLATE / "style.css").read_text(encoding="utf-8"),
        chapters=chapters,
        references=references(),
        reproduce=made + how_to_make(notebooks, command),
    )
    soup = BeautifulSoup(page, "html.parser")
    lead_with_abstract(soup)
    outline(soup)
    contain(soup)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(str(soup), encoding="utf-8")
    return target


def write_pdf(html: Path, timeout: float = 120) -> Path | None:
    """Print ``html`` to a PDF beside it with an installed Chromium or Chrome; ``None`` where there is none.

    Raises:
        RuntimeError: the browser failed, or took longer than ``timeout`` seconds.
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
