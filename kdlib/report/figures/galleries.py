"""Pictures of the images that networks are asked about."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from kdlib.probes import PROBES, Stimuli, series
from kdlib.report.figures.style import words


def image_grid(images: dict[str, np.ndarray], columns: int, size: float = 0.7) -> Figure:
    """Rows of pictures, each with its name at the left: (n, 3, H, W) uint8, the first ``columns`` of each."""
    figure, axes = plt.subplots(
        len(images), columns, figsize=(size * columns + 1.6, size * len(images)), squeeze=False
    )
    for row, (name, pictures) in zip(axes, images.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(np.moveaxis(np.asarray(picture), 0, -1), interpolation="nearest")
        row[0].text(-0.15, 0.5, words(name), transform=row[0].transAxes, ha="right", va="center")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure


def probe_gallery(stimuli: dict[str, Stimuli], families: tuple[str, ...], columns: int = 8) -> Figure | None:
    """The same test images under the probes of some families, below the images as they are.

    Of a series the mildest and the hardest level. A probe made of other test images shows its own first ones.
    None where the profile has no such probe.
    """
    between = {name for levels in series().values() for name in levels[1:-1]}
    wanted = [name for name in stimuli if name in PROBES and name not in between and name != "clean"]
    shown = {name: stimuli[name] for name in wanted if PROBES[name].family in families}
    if not shown:
        return None
    first = next(iter(shown.values())).ids[:columns]
    rows = {"clean": stimuli["clean"].images[first].numpy()}
    for name, made in shown.items():
        place = {image: row for row, image in enumerate(made.ids.tolist())}
        same = all(image in place for image in first.tolist())
        rows[name] = made.images[
            [place[image] for image in first.tolist()] if same else slice(columns)
        ].numpy()
    return image_grid(rows, len(first))
