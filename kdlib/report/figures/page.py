"""A chapter's figures, tables and texts: kept as files, and shown with numbered captions."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

from kdlib.report.figures.style import set_style, words

READABLE = {"direction", "measure", "probe", "role", "method"}  # columns of names


class Page:
    """A chapter's figures and tables, under ``<folder>/figures`` and ``<folder>/tables``."""

    def __init__(self, folder: Path, chapter: int):
        self.folder, self.chapter = folder, chapter
        self.counts = {"Figure": 0, "Table": 0}
        for part in ("figures", "tables"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        set_style()

    def _caption(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        display(Markdown(f"**{kind} {self.chapter}.{self.counts[kind]}.** {text}"))

    def figure(self, figure: Figure | None, name: str, caption: str) -> None:
        """Save as ``<chapter>_<name>.png`` and ``.svg``, and show with its caption.

        A line replaces a figure that has nothing to show.
        """
        if figure is None:
            return self.say(f"*No figure here: this study has no defined values for it. ({caption})*")
        path = self.folder / "figures" / f"{self.chapter:02}_{name}.png"
        if engine := figure.get_layout_engine():
            engine.execute(figure)  # laid out once, for both files
        figure.set_layout_engine(None)  # with any, even the one called "none", savefig draws everything twice
        inside = figure.get_tightbbox().padded(0.1)  # inches
        pictures = any(image.get_array().ndim == 3 for axis in figure.axes for image in axis.images)
        figure.savefig(path, dpi=100 if pictures else 160, bbox_inches=inside)
        if not pictures:  # 256 colours make a chart's file a third as large, and nobody sees it
            with PIL.Image.open(path) as picture:
                few, none = picture.convert("RGB"), PIL.Image.Dither.NONE
            few.quantize(256, PIL.Image.Quantize.MEDIANCUT, dither=none).save(path)
        figure.savefig(path.with_suffix(".svg"), bbox_inches=inside, metadata={"Date": None})
        plt.close(figure)
        width = round(figure.get_size_inches()[0] * 100)
        display(Image(path, width=width, alt=caption, metadata={"alt": caption, "name": path.stem}))
        self._caption("Figure", caption)

    def gallery(self, figure: Figure | None, name: str, text: str, caption: str) -> None:
        """A section that only appears if the profile has its probes: a text and a figure."""
        if figure is not None:
            self.say(text)
            self.figure(figure, name, caption)

    def table(self, table: pd.DataFrame, name: str, caption: str, show: pd.DataFrame | None = None) -> None:
        """Save as ``<chapter>_<name>.csv``; show it, or ``show`` in its place, with its caption.

        A line replaces a table without rows.
        """
        self.save(table, name)
        if table.empty:
            return self.say(f"*No table here: this study has nothing for it. ({caption})*")
        self._caption("Table", caption)
        number = f"t{self.chapter}{self.counts['Table']}"
        display(HTML(table_html(table if show is None else show, number)))

    def save(self, table: pd.DataFrame, name: str) -> None:
        """Keep a table as ``<chapter>_<name>.csv`` without showing it."""
        table.to_csv(self.folder / "tables" / f"{self.chapter:02}_{name}.csv", index=False)

    def say(self, text: str) -> None:
        """Show Markdown."""
        display(Markdown(text))

    def keep(self, text: str, name: str) -> None:
        """Keep Markdown as ``<name>.md``."""
        (self.folder / f"{name}.md").write_text(text, encoding="utf-8")


def table_html(table: pd.DataFrame, name: str) -> str:
    """A table as HTML: titles instead of keys, text to the left, a dash where there is no number."""
    table = table.assign(**{name: table[name].map(words) for name in table if name in READABLE})
    table = table.rename(columns=lambda name: str(name).replace("_", " ")).replace([np.inf, -np.inf], np.nan)
    table = table.reset_index(drop=True)
    style = table.style.hide(axis="index").set_uuid(name)  # the same table gives the same HTML
    style = style.format(precision=3, na_rep="—", escape="html").format_index(axis=1, escape="html")
    left = [{"selector": "", "props": "text-align: left"}]
    return style.set_table_styles(dict.fromkeys(table.select_dtypes(exclude="number"), left)).to_html()
