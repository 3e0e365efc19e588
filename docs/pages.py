"""What a visitor reads before installing anything: notebooks with outputs, figures, the README's answer.

`make notebooks` runs it, as `python docs/pages.py results/cifar10-cpu`, on a study that has been executed.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat

from kdlib.data import PROJECT
from kdlib.report.notebooks import NOTEBOOKS
from kdlib.report.page import figures_of, read_notebook
from kdlib.study import Study

BEGIN, END = "<!-- answer: made by `make notebooks` -->", "<!-- end of answer -->"
INDEX = """# Figures

Figures of the published study, made by `make notebooks` from [the records](../results), as PNG and SVG.

"""


def refresh(study: Study) -> list[Path]:
    """Bring notebooks/, figures/ and README.md up to date with an executed study."""
    executed = [study.folder / "notebooks" / path.name for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]
    if lacking := [str(path) for path in (*executed, study.folder / "answer.md") if not path.is_file()]:
        raise SystemExit(f"not there: {', '.join(lacking)}; first run `{study.command}`")
    written = [_notebook(path, PROJECT / "notebooks" / path.name) for path in executed]
    figures = PROJECT / "figures"
    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir()
    rows = ["| figure | file | what it shows |", "|---|---|---|"]
    for chapter, path in enumerate(executed, start=1):
        for place, (name, caption) in enumerate(figures_of(path), start=1):
            for suffix in (".png", ".svg"):
                shutil.copy(study.folder / "figures" / f"{name}{suffix}", figures)
            rows.append(f"| {chapter}.{place} | [{name}]({name}.png), [SVG]({name}.svg) | {caption} |")
    (figures / "README.md").write_text(INDEX + "\n".join(rows) + "\n", encoding="utf-8")
    readme, answer = PROJECT / "README.md", (study.folder / "answer.md").read_text(encoding="utf-8")
    answer = re.sub(r"\]\((\w+\.ipynb)", r"](notebooks/\1", answer)
    text = re.sub(
        f"{re.escape(BEGIN)}.*{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{answer}\n\n{END}",
        readme.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    readme.write_text(text, encoding="utf-8")
    return [*written, figures / "README.md", readme]


def _notebook(executed: Path, target: Path) -> Path:
    """The notebook with its outputs and nothing that differs from one execution to the next."""
    notebook = read_notebook(executed)
    notebook.cells = [
        cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    language = {key: value for key, value in notebook.metadata.language_info.items() if key != "version"}
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": language}
    count = 0
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                output.pop("execution_count", None)
    nbformat.write(notebook, target)
    return target


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("give a folder of records, as in `python docs/pages.py results/cifar10-cpu`")
    print(*refresh(Study(Path(sys.argv[1]).name, results=sys.argv[1])), sep="\n")
