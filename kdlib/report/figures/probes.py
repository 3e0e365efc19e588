"""Pictures of the images that networks are asked about."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlib.probes import Stimuli
from kdlib.report.figures.style import COLOURS, MARKERS, panels


def image_grid(images: dict[str, np.ndarray], columns: int, size: float = 0.95) -> Figure:
    """Rows of pictures, each with its name at the left: (n, 3, H, W) uint8, the first ``columns`` of each."""
    figure, axes = plt.subplots(
        len(images), columns, figsize=(size * columns + 1.6, size * len(images)), squeeze=False
    )
    for row, (name, pictures) in zip(axes, images.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(np.moveaxis(np.asarray(picture), 0, -1), interpolation="nearest")
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure


def probe_gallery(stimuli: dict[str, Stimuli], clean: Stimuli, columns: int = 8) -> Figure:
    """The same test images under every probe of a family, below the images as they are.

    A probe made of other test images shows its own first ones.
    """
    first = next(iter(stimuli.values())).ids[:columns]
    rows = {"clean": clean.images[first].numpy()}
    for name, made in stimuli.items():
        place = {image: row for row, image in enumerate(made.ids.tolist())}
        same = all(image in place for image in first.tolist())
        rows[name] = made.images[
            [place[image] for image in first.tolist()] if same else slice(columns)
        ].numpy()
    return image_grid(rows, len(first))


def severity_curves(table: pd.DataFrame) -> Figure:
    """Accuracy over the levels of each series, a line for each network.

    Args:
        table: columns series, level, network, accuracy.
    """
    names = list(table.series.unique())
    figure, axes = panels(len(names), columns=5, width=1.7, height=1.5, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        part = table[table.series == name]
        for index, (network, line) in enumerate(part.groupby("network", sort=False)):
            style = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 3.5}
            axis.plot(line.level, line.accuracy, label=network, **style)
        axis.set_title(name.replace("_", " "), fontsize="small")
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", fontsize="small")
    figure.supxlabel("level")
    figure.supylabel("accuracy")
    return figure
