"""Pictures of the images on which networks are tested."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from kdlib.probes import PROBES, Stimuli, series
from kdlib.report.figures.style import words


def image_grid(images: dict[str, np.ndarray], columns: int, size: float = 0.7) -> Figure:
    """Rows of pictures, each with its name at the left: (n, 3, H, W) uint8, the first ``columns`` of each."""
    height, width = next(iter(images.values())).shape[2:]
    tall, wide = height + 2, width + 2  # with a gap: one sheet is drawn ten times as fast as many axes
    sheet = np.full((tall * len(images), wide * columns, 3), 255, np.uint8)
    for row, pictures in enumerate(images.values()):
        for column, picture in enumerate(pictures[:columns]):
            top, left = tall * row, wide * column
            sheet[top : top + height, left : left + width] = np.moveaxis(np.asarray(picture), 0, -1)
    figure, axis = plt.subplots(figsize=(size * columns + 1.6, size * len(images)), layout="constrained")
    axis.imshow(sheet, interpolation="nearest")
    axis.set_yticks(tall * np.arange(len(images)) + height / 2, [words(name) for name in images])
    axis.tick_params(length=0)
    axis.set(xticks=[], frame_on=False)
    axis.grid(False)
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
