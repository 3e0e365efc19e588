"""The report from two small notebooks whose outputs are written by hand, so no kernel runs."""

import base64
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from kdlib.report.page import BROWSERS, write_pdf, write_report

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n only the type matters here").decode()
KL = r"\mathcal{L}_{kd}=T^2\,\mathrm{KL}(\sigma(z_t/T)\,\|\,\sigma(z_s/T))"


def figure(**metadata):
    return v4.new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"}, metadata=metadata)


def stream(name: str, text: str):
    return v4.new_output("stream", name=name, text=text)


def cells_of_first() -> list:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "bar"}, "text/plain": "HBox(bar)"}
    table = {"text/html": '<table class="dataframe"><tr><td>0.912</td></tr></table>', "text/plain": "0.912"}
    page = '<script src="https://cdn.example.org/require.js"></script><div id="shared">embedded</div>'
    error = {
        "ename": "ValueError",
        "evalue": "bad <seed>",
        "traceback": ["\x1b[31mTraceback\x1b[0m", "line 1"],
    }
    return [
        v4.new_markdown_cell(
            "# Does bias travel?\n\nSee [results](02_second.ipynb#Results), [ours](#Results)."
        ),
        v4.new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]}),
        v4.new_markdown_cell(
            f"## Results\n\nInline $T^2$ and\n\n$${KL}$$\n\n"
            "Paid \\$5, or $6 and $7; `$HOME and $PATH`; unknown $\\nosuchmacro{y}$.\n\n"
            "```bash\necho $A $B\n```\n\n## Results\n\n![far](https://example.org/far.png)"
        ),
        v4.new_code_cell(
            "train()", outputs=[stream("stderr", "100%|####|"), stream("stdout", "accuracy <0.9>")]
        ),
        v4.new_code_cell("bar()", outputs=[v4.new_output("display_data", data=widget)]),
        v4.new_code_cell("table", outputs=[v4.new_output("execute_result", data=table, execution_count=1)]),
        v4.new_code_cell("plot()", outputs=[figure(), figure(alt="shape bias by method", name="01_shape")]),
        v4.new_code_cell("page()", outputs=[v4.new_output("display_data", data={"text/html": page})]),
        v4.new_code_cell("fail()", outputs=[v4.new_output("error", **error)]),
    ]


def cells_of_second() -> list:
    shared = v4.new_output("display_data", data={"text/html": '<div id="shared">again</div>'})
    short = v4.new_output("display_data", data={"text/markdown": "**In short.** It does."})
    return [
        v4.new_markdown_cell("# Does bias travel?\n\n## Results"),
        v4.new_code_cell("", outputs=[shared]),
        v4.new_code_cell("tell()", outputs=[short], metadata={"tags": ["abstract"]}),
    ]


def save(path: Path, cells: list) -> Path:
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    notebooks = [
        save(folder / "01_first.ipynb", cells_of_first()),
        save(folder / "02_second.ipynb", cells_of_second()),
    ]
    told = {"command": "python -m kdlib study", "version": "kdlib 0.1.0, commit abc"}
    told |= {"title": "Bias & distillation", "subtitle": "profile <quick>"}
    return write_report(notebooks, folder / "new" / "report.html", **told)


@pytest.fixture
def page(report) -> BeautifulSoup:
    return BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser")


def test_report_asks_for_no_other_file(page):
    """Whatever a notebook printed: the policy refuses every request."""
    assert not re.search(r"@import|url\(", page.style.string)
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy.startswith("default-src 'none'; img-src data:;") and "http" not in policy


def test_title_and_subtitle_are_text(page):
    assert page.title.string == page.h1.string == "Bias & distillation"
    assert page.select_one(".subtitle").string == "profile <quick>"


def test_contents_lead_to_unique_headings(page):
    ids = [tag["id"] for tag in page.select("[id]:is(h1, h2, h3, section)")]
    assert len(ids) == len(set(ids))
    links = page.select(".contents a")
    assert [link.get_text() for link in links] == [
        *("Does bias travel?", "Results", "Results"),
        *("Does bias travel?", "Results"),
        *("References", "How to reproduce this report"),
    ]
    targets = [link["href"].removeprefix("#") for link in links]
    assert len(set(targets)) == len(links) and set(targets) <= set(ids)


def test_the_abstract_leads(page):
    abstract = page.select_one("main > .abstract")
    assert abstract.find_next_sibling(class_="chapter")["data-notebook"] == "01_first.ipynb"
    assert "In short" in abstract.get_text() and page.get_text().count("In short") == 1


def test_the_report_tells_how_to_make_each_figure(page):
    told = page.select_one("#reproduce").get_text()
    assert "Made by python -m kdlib study with kdlib 0.1.0, commit abc." in told
    assert "1.1 01_shape" in told and "python -m kdlib study --notebooks 01_first" in told


def test_references_are_those_of_the_methods(page):
    told = page.select_one("#references").get_text()
    assert "arXiv:1910.10699" in told and "arXiv:2307.08500" in told


def test_links_between_notebooks_stay_in_the_page(page):
    assert page.find("a", string="results")["href"] == "#02_second-results"
    assert page.find("a", string="ours")["href"] == "#01_first-results"


def test_notebook_without_a_heading_is_named_by_its_file(tmp_path):
    target = write_report([save(tmp_path / "03_bare.ipynb", [])], tmp_path / "bare.html", title="t")
    assert BeautifulSoup(target.read_text(), "html.parser").select_one(".contents a").string == "03_bare"


def test_code_is_folded_and_outputs_are_not(page):
    for block in page.select("main .highlight"):
        assert block.find_parent("details", class_="code") or block.find_parent(class_="markdown")
    assert not page.select("details.code[open]")
    assert page.find("pre", string="accuracy <0.9>").find_parent("details") is None
    assert page.select_one("details.code summary").string == "this run's parameters"
    assert page.select_one("table.dataframe").td.string == "0.912"


def test_progress_is_left_out(report):
    html = report.read_text(encoding="utf-8")
    for left_out in ("100%|", "HBox"):
        assert left_out not in html


def test_dollars_that_are_no_math_stay(page):
    text = page.main.get_text()
    assert "Paid $5, or $6 and $7; $HOME and $PATH;" in text
    assert "echo $A $B" in text


def test_figures_are_in_the_page_with_a_text(page):
    images = page.select("figure img")
    assert [image["alt"] for image in images] == ["", "shape bias by method"]
    assert all(image["src"] == f"data:image/png;base64,{PNG}" for image in images)


def test_failed_cell_is_shown(page):
    error = page.select_one(".error")
    assert "This cell failed: ValueError bad <seed>" in error.p.get_text()
    assert error.pre.string == "Traceback\nline 1"
    assert error.find_parent("details") is None


def test_no_browser_no_pdf(report, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert write_pdf(report) is None


def fake_browser(folder: Path, script: str, monkeypatch) -> None:
    browser = folder / BROWSERS[0]
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_failing_browser_gives_its_last_words(report, tmp_path, monkeypatch):
    fake_browser(tmp_path, "echo starting >&2; echo no display >&2; exit 3", monkeypatch)
    with pytest.raises(RuntimeError, match=r"could not print .*: no display$"):
        write_pdf(report)


def test_hanging_browser_is_stopped(report, tmp_path, monkeypatch):
    fake_browser(tmp_path, "exec sleep 30", monkeypatch)
    with pytest.raises(RuntimeError, match=r"took longer than 0\.2 s"):
        write_pdf(report, timeout=0.2)


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium or Chrome on PATH")
def test_browser_prints_a_pdf(report):
    pdf = write_pdf(report)
    assert pdf == report.with_suffix(".pdf") and pdf.read_bytes().startswith(b"%PDF")
