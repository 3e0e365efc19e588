"""The shape-texture set: ten shapes filled with ten textures, on textured ground, drawn from a seed.

Shape and texture are separate factors of every image, so that a network's bias can be made (train with only
one of them predictive) and a measure of bias can be checked against the truth. An image is

    image = m · figure + (1 - m) · ground,      figure = t · a + (1 - t) · b,      m, t in [0, 1] per pixel

with m the antialiased silhouette, t the texture and a, b two random colours; the ground is made in the same
way from a texture of its own and two colours close to each other. Lengths are in units of 1/32 of the image's
side, so another size shows the same kind of picture at another resolution.

The images are the same to the bit on every processor. Pixels pass only through operations that IEEE 754
rounds exactly (+ - × ÷, floor, min, max, and NumPy's square root), one at a time and in a fixed order. Sines,
cosines and torch's own square root come from a maths library, whose last bit depends on the processor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

UNITS = 32  # lengths across one image
CELLS = 32  # side of the table of random cells behind the noise textures, a power of two
CHUNK = 128  # images drawn at once; bounds memory and keeps the work in cache
TAN_4, TAN_10 = 0.06992681, 0.17632698  # tangents of 4 and 10 degrees: half of the largest turns
TIP_SINES = (0.0, 0.95105652, 0.58778525, -0.58778525, -0.95105652)  # of the directions of a star's five tips
TIP_COSINES = (1.0, 0.30901699, -0.80901699, -0.80901699, 0.30901699)


# Shapes: signed distance to the outline, negative inside. x (right) and y (down) are (n, size, size), and
# every shape lies within the unit disc, so that no rotation can push it out of the frame.


def _radius(x: Tensor, y: Tensor) -> Tensor:
    return torch.from_numpy(np.sqrt((x * x + y * y).numpy()))  # torch.sqrt and torch.hypot go through MKL


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _star(x: Tensor, y: Tensor) -> Tensor:
    # A pentagram is where at most one of a pentagon's five half-planes is left: the second largest decides.
    largest = second = torch.full_like(x, -math.inf)
    for sine, cosine in zip(TIP_SINES, TIP_COSINES, strict=True):
        side = sine * x - cosine * y
        second = torch.maximum(second, torch.minimum(largest, side))
        largest = torch.maximum(largest, side)
    return torch.maximum(second - 0.35, largest - 1)  # 0.35, not cos 72° = 0.31: sturdier arms at 32 px


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    x = x - 0.15  # the crescent's weight is on its left
    return torch.maximum(_radius(x, y) - 0.85, 0.7 - _radius(x - 0.5, y))


def _heart(x: Tensor, y: Tensor) -> Tensor:
    half, y = 0.54, y - 0.15  # a square on its corner, and a disc on each of its upper sides
    diamond = (x.abs() + y.abs()) * math.sqrt(0.5) - half
    lobes = _radius(x.abs() - half * math.sqrt(0.5), y + half * math.sqrt(0.5)) - half
    return torch.minimum(diamond, lobes)


def _hourglass(x: Tensor, y: Tensor) -> Tensor:
    slope = 0.85
    return torch.maximum(y.abs() - 0.72, (x.abs() - slope * y.abs() - 0.06) / math.sqrt(1 + slope * slope))


_SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": lambda x, y: _radius(x, y) - 0.85,
    "square": lambda x, y: _box(x, y, 0.7, 0.7),
    "triangle": lambda x, y: torch.maximum(y, math.sqrt(0.75) * x.abs() - 0.5 * y) - 0.5,
    "plus": lambda x, y: torch.minimum(_box(x, y, 0.93, 0.31), _box(x, y, 0.31, 0.93)),
    "star": _star,
    "ring": lambda x, y: (_radius(x, y) - 0.7).abs() - 0.24,
    "crescent": _crescent,
    "heart": _heart,
    "hourglass": _hourglass,
    "ell": lambda x, y: torch.minimum(
        _box(x + 0.34, y + 0.02, 0.25, 0.77), _box(x - 0.02, y - 0.5, 0.61, 0.25)
    ),
}


# Textures: values in [0, 1]. x and y (n, size, size) in units, period (n, 1, 1) in units, cells (n, CELLS²)
# random numbers in [0, 1).


def _offset(x: Tensor, period: Tensor) -> Tensor:
    """Signed distance, in periods, to the middle of the period that x lies in: in [-0.5, 0.5)."""
    x = x / period
    return x - x.floor() - 0.5


def _soften(distance: Tensor) -> Tensor:
    """An edge one unit wide at distance 0."""
    return (distance + 0.5).clamp(0, 1)


def _bands(x: Tensor, period: Tensor, filled: float = 0.5) -> Tensor:
    return _soften((filled / 2 - _offset(x, period).abs()) * period)


def _checkerboard(x: Tensor, y: Tensor, period: Tensor, cells: Tensor) -> Tensor:
    columns, rows = _bands(x, 1.3 * period), _bands(y, 1.3 * period)
    return columns + rows - 2 * columns * rows  # exclusive or


def _dots(x: Tensor, y: Tensor, period: Tensor, cells: Tensor) -> Tensor:
    period = 1.1 * period
    return _soften((0.3 - _radius(_offset(x, period), _offset(y, period))) * period)


def _lookup(column: Tensor, row: Tensor, cells: Tensor) -> Tensor:
    index = (row.long() % CELLS) * CELLS + column.long() % CELLS
    return cells.gather(1, index.flatten(1)).view_as(column)


def _blobs(x: Tensor, y: Tensor, period: Tensor, cells: Tensor) -> Tensor:
    x, y = x * 1.25 / period, y * 1.25 / period
    left, top = x.floor(), y.floor()
    across, down = ((f * f * (3 - 2 * f)) for f in (x - left, y - top))
    upper = _lookup(left, top, cells) * (1 - across) + _lookup(left + 1, top, cells) * across
    lower = _lookup(left, top + 1, cells) * (1 - across) + _lookup(left + 1, top + 1, cells) * across
    return (0.5 + 2.5 * (upper * (1 - down) + lower * down - 0.5)).clamp(0, 1)


_TEXTURES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "horizontal stripes": lambda x, y, period, cells: _bands(y, period),
    "vertical stripes": lambda x, y, period, cells: _bands(x, period),
    "diagonal stripes": lambda x, y, period, cells: _bands((x + y) * math.sqrt(0.5), period),
    "checkerboard": _checkerboard,
    "dots": _dots,
    "grid": lambda x, y, period, cells: torch.maximum(
        _bands(x, 1.2 * period, filled=0.24), _bands(y, 1.2 * period, filled=0.24)
    ),
    "rings": lambda x, y, period, cells: _bands(_radius(x, y), period),
    "zigzag": lambda x, y, period, cells: _bands(y + 6.0 * _offset(x, 1.6 * period).abs(), 1.1 * period),
    "noise": lambda x, y, period, cells: _lookup((x * 5 / period).floor(), (y * 5 / period).floor(), cells),
    "blobs": _blobs,
}
SHAPES: tuple[str, ...] = tuple(_SHAPES)
TEXTURES: tuple[str, ...] = tuple(_TEXTURES)
CLASSES = 10


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 1, generator=generator)


def _turn(x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate by the angle whose half has the tangent t: a uniform t is nearly a uniform angle up to 20°."""
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return cos * x + sin * y, cos * y - sin * x


def _colours(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two figure colours and two ground colours, each (n, 3, 1, 1) in [0, 1].

    The figure's second colour goes 60% to 100% of the way from its first to a random one, so that texture is
    not always the loudest cue; the ground's second goes a sixth of the way. Of eight random triples (first,
    second, ground) each image gets the one whose closest two colours are farthest apart.
    """
    figure, other, ground = torch.rand(n, 8, 3, 3, generator=generator).unbind(2)
    contrast = _uniform(n, 0.6, 1.0, generator)
    faded = figure + contrast * (other - figure)
    red, green, blue = torch.stack([figure - other, figure - ground, faded - ground]).square().unbind(-1)
    best = (red + green + blue).amin(0).argmax(1)  # torch.sum may add in another order
    figure, faded, ground = (colours[torch.arange(n), best] for colours in (figure, faded, ground))
    second_ground = ground + (torch.rand(n, 3, generator=generator) - ground) / 6
    return tuple(colour[:, :, None, None] for colour in (figure, faded, ground, second_ground))


def _textured(kinds: Tensor, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Textures (n, size, size) in [0, 1] of the given kinds (n,), with random angle, phase and period."""
    n = len(kinds)
    x, y = _turn(x, y, _uniform(n, -TAN_4, TAN_4, generator))
    x, y = x + _uniform(n, -3, 3, generator), y + _uniform(n, -3, 3, generator)
    period, cells = _uniform(n, 4.2, 5.8, generator), torch.rand(n, CELLS * CELLS, generator=generator)
    values = torch.empty_like(x)
    for kind, texture in enumerate(_TEXTURES.values()):
        chosen = (kinds == kind).nonzero().squeeze(1)
        values[chosen] = texture(x[chosen], y[chosen], period[chosen], cells[chosen])
    return values


def _draw_chunk(
    shape: Tensor, texture: Tensor, generator: torch.Generator, size: int
) -> tuple[Tensor, Tensor]:
    """Images (n, 3, size, size) uint8, and of each pixel the share that is figure, (n, size, size)."""
    # Every image draws the same random numbers whatever its shape and texture, so that two calls from one
    # seed differ only in what was asked to differ.
    n = len(shape)
    centres = (torch.arange(size) + 0.5) * (UNITS / size)
    radius = _uniform(n, 11.5, 14.0, generator)
    room = UNITS / 2 - 1.5 - radius  # space for the softened edge and its miters
    x = centres.expand(n, size, size) - (UNITS / 2 + room * _uniform(n, -1, 1, generator))
    y = centres[:, None].expand(n, size, size) - (UNITS / 2 + room * _uniform(n, -1, 1, generator))

    turned_x, turned_y = _turn(x / radius, y / radius, _uniform(n, -TAN_10, TAN_10, generator))
    distance = torch.empty_like(x)
    for kind, outline in enumerate(_SHAPES.values()):
        chosen = (shape == kind).nonzero().squeeze(1)
        distance[chosen] = outline(turned_x[chosen], turned_y[chosen])
    mask = (0.5 - distance * radius * (size / UNITS)).clamp(0, 1)  # the edge is one pixel wide

    first, second, ground, second_ground = _colours(n, generator)
    ground_kind = torch.randint(CLASSES, (n,), generator=generator)
    shift_x, shift_y = _uniform(n, -16, 16, generator), _uniform(n, -16, 16, generator)
    weave = _textured(texture, x, y, generator)[:, None]
    ground_weave = _textured(ground_kind, x + shift_x, y + shift_y, generator)[:, None]
    figure = second + weave * (first - second)
    behind = second_ground + ground_weave * (ground - second_ground)
    image = behind + mask[:, None] * (figure - behind)
    return (image * 255).round().to(torch.uint8), mask


def draw(shape: Tensor, texture: Tensor, generator: torch.Generator, size: int = 32) -> Tensor:
    """One image for each pair of a shape and a texture: (N, 3, size, size) uint8.

    Args:
        shape, texture: (N,) int64, indices into SHAPES and TEXTURES.
        generator: CPU generator; the only source of randomness, advanced by the call.
        size: side of the images in pixels, at least 16.

    Raises ValueError for a size below 16.
    """
    if size < 16:
        raise ValueError(f"size={size} is too small to show a texture; give at least 16")
    images = torch.empty(len(shape), 3, size, size, dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the operations are small: waiting for other threads can take longer
    try:
        for start in range(0, len(shape), CHUNK):
            part = slice(start, start + CHUNK)
            images[part], _ = _draw_chunk(shape[part], texture[part], generator, size)
    finally:
        torch.set_num_threads(threads)
    return images


@dataclass(frozen=True)
class ShapeTexture:
    images: Tensor  # (N, 3, size, size) uint8
    labels: Tensor  # (N,) int64
    shape: Tensor  # (N,) int64, index into SHAPES
    texture: Tensor  # (N,) int64, index into TEXTURES


def factors(
    n: int, generator: torch.Generator, shape_correlation: float = 1.0, texture_correlation: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, shapes and textures of n images, each (n,) int64.

    Labels are balanced and shuffled. A shape is its label with probability c = shape_correlation, otherwise
    uniform over all ten, so both agree with probability c + (1 - c) / 10; textures likewise, independently.
    Raises ValueError for n below 10, or a correlation outside [0, 1].
    """
    if n < CLASSES:
        raise ValueError(f"n={n} is too few; give at least {CLASSES}, one for each class")
    for name, value in (("shape", shape_correlation), ("texture", texture_correlation)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}_correlation={value} is not a probability; give a number from 0 to 1")

    def correlated(correlation: float) -> Tensor:
        follows = torch.rand(n, generator=generator) < correlation
        return torch.where(follows, labels, torch.randint(CLASSES, (n,), generator=generator))

    labels = torch.arange(n)[torch.randperm(n, generator=generator)] % CLASSES
    return labels, correlated(shape_correlation), correlated(texture_correlation)


def generate(
    n: int, seed: int, size: int = 32, shape_correlation: float = 1.0, texture_correlation: float = 1.0
) -> ShapeTexture:
    """n images whose shape and texture predict the label as far as asked; raises as factors and draw do."""
    generator = torch.Generator().manual_seed(seed)
    labels, shape, texture = factors(n, generator, shape_correlation, texture_correlation)
    return ShapeTexture(draw(shape, texture, generator, size), labels, shape, texture)


def conflict(per_pair: int, seed: int) -> ShapeTexture:
    """Cue-conflict images: the 90 pairs shape != texture, per_pair times each, in order; labels = shape."""
    pairs = torch.tensor(list(permutations(range(CLASSES), 2))).repeat_interleave(per_pair, dim=0)
    shape, texture = pairs.T.contiguous()
    images = draw(shape, texture, torch.Generator().manual_seed(seed))
    return ShapeTexture(images, shape.clone(), shape, texture)
