"""A chapter's figures and tables: kept as files, and shown with numbered captions."""

from functools import reduce
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import PIL.Image
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

from kdlib.bias.statistics import with_interval
from kdlib.probes import PROBES, Stimuli
from kdlib.report.figures.probes import probe_gallery
from kdlib.report.figures.style import set_style
from kdlib.study.controls import title_of


class Page:
    """A chapter's figures and tables, under ``<folder>/figures`` and ``<folder>/tables``."""

    def __init__(self, folder: Path, chapter: int):
        self.folder, self.chapter = folder, chapter
        self.counts = {"Figure": 0, "Table": 0}
        set_style()

    def _caption(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        display(Markdown(f"**{kind} {self.chapter}.{self.counts[kind]}.** {text}"))

    def figure(self, figure: Figure, name: str, caption: str) -> None:
        """Save as ``<chapter>_<name>.png`` and ``.svg``, and show with its caption."""
        folder = self.folder / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.chapter:02}_{name}.png"
        figure.savefig(path, dpi=160)
        if not any(image.get_array().ndim == 3 for axis in figure.axes for image in axis.images):
            _fewer_colours(path)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        plt.close(figure)
        width = round(figure.get_size_inches()[0] * 100)
        display(Image(path, width=width, metadata={"alt": caption, "name": path.stem}))
        self._caption("Figure", caption)

    def table(self, table: pd.DataFrame, name: str, caption: str, show: pd.DataFrame | None = None) -> None:
        """Save as ``<chapter>_<name>.csv``; show it, or ``show`` in its place, with its caption."""
        self.save(table, name)
        self._caption("Table", caption)
        display(HTML(_table_html(table if show is None else show, f"t{self.chapter}{self.counts['Table']}")))

    def text(self, text: str, name: str) -> None:
        """Show markdown, and keep it as ``<name>.md``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.md").write_text(text, encoding="utf-8")
        display(Markdown(text))

    def save(self, table: pd.DataFrame, name: str) -> None:
        """Keep a table as ``<chapter>_<name>.csv`` without showing it."""
        folder = self.folder / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / f"{self.chapter:02}_{name}.csv", index=False)

    def gallery(self, stimuli: dict[str, Stimuli], family: str, caption: str) -> None:
        """The pictures of one family's probes, as far as they are among the stimuli."""
        own = {name: made for name, made in stimuli.items() if name in PROBES}  # not those by others
        shown = {name: made for name, made in own.items() if PROBES[name].family == family}
        if not shown:
            display(Markdown(f"*This profile has no probe of the family {family}.*"))
            return
        self.figure(probe_gallery(shown, stimuli["clean"]), f"probe_{family}", caption)


def _fewer_colours(path: Path) -> None:
    """Of a chart: 256 make its file a third as large, and nobody sees it. What networks saw keeps its own."""
    with PIL.Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, PIL.Image.Quantize.MEDIANCUT, dither=PIL.Image.Dither.NONE)
    few.save(path)


def _table_html(table: pd.DataFrame, name: str) -> str:
    """Numbers to the right, text to the left; the same table gives the same HTML."""
    table = table.reset_index(drop=True)
    texts = list(table.select_dtypes(exclude="number").columns)
    head = {"selector": "th", "props": "text-align: left"}
    style = table.style.hide(axis="index").set_uuid(name).set_table_styles([head])
    style = style.format(precision=3, na_rep="—", escape="html").format_index(axis=1, escape="html")
    # Prose in a narrow column would run down the page.
    prose = [name for name in texts if table[name].astype(str).str.len().max() > 40]
    short = [name for name in texts if name not in prose]
    style = style.set_properties(subset=texts, **{"text-align": "left"})
    style = style.set_properties(subset=short, **{"white-space": "nowrap"})
    return style.set_properties(subset=prose, **{"min-width": "15em"}).to_html()


def wide_table(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure as "estimate [low, high]", roles down and probes across."""
    rows = table[table.measure == measure]
    cells = [with_interval(*span, ".2f") for span in zip(rows.estimate, rows.low, rows.high, strict=True)]
    rows = rows.assign(cell=cells, role=rows.role.map(title_of))
    wide = rows.pivot(index="role", columns="probe", values="cell")
    return wide.loc[rows.role.unique(), rows.probe.unique()].reset_index().rename_axis(columns=None)


def measures_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Roles down, the measures of the table across, with intervals; all of one probe."""
    columns = [wide_table(table, name).set_axis(["role", name], axis=1) for name in table.measure.unique()]
    return reduce(lambda left, right: left.merge(right, on="role", sort=False), columns)
