"""Training images that give a teacher a property: changed versions of the ordinary ones.

A made teacher sees every ordinary image and a changed version of it; the plain teacher sees only the ordinary
images, in as many steps. The change removes a cue that the teacher should not rely on, or adds a disturbance
that it should tolerate.

What happens to an image is a function of (seed, epoch, its index), whatever batch it is in: random numbers
are hashes of these three and not drawn from a generator. Nothing here is what a probe tests with: not its
random numbers, its grids, its grey, or its way to exchange textures, which has no filters at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.data import Dataset, load
from kdlib.data.exchange import exchanged
from kdlib.messages import lookup

GOLDEN = -0x61C8864680B583EB  # 2^64 over the golden ratio: the step of SplitMix64's counter
GRIDS = (3, 5, 6)  # patches a side; those of the probes are 2, 4 and 8


@dataclass(frozen=True)
class Property:
    """A named way to change training images. ``function(images, keys, dose, others)`` does it."""

    title: str  # of the property that it makes
    function: Callable[[Tensor, Tensor, float, Tensor], Tensor]
    dose: float  # the full one
    unit: str  # what a dose is
    factor: str | None = None  # the procedural set's own knob for it, set to 1 - dose
    versions: int | None = None  # of each image, where making one is slow: they take turns; None: always new


@dataclass(frozen=True)
class Treatment:
    """What is done to a run's training images: which property is made, and how strongly.

    Raises UnknownName for another property, ValueError for a dose out of range.
    """

    property: str
    dose: float = 0.0  # in the property's unit; 0 stands for the full dose, and becomes it

    def __post_init__(self) -> None:
        made = lookup("property", self.property, PROPERTIES)
        if not 0 <= self.dose <= made.dose:
            raise ValueError(
                f"dose of {self.property} is {self.dose}; give the {made.unit}, above 0, at most {made.dose}"
            )
        object.__setattr__(self, "dose", float(self.dose or made.dose))


def changed(images: Tensor, indices: Tensor, treatment: Treatment, seed: int, epoch: int) -> Tensor:
    """The training images at ``indices`` (B,), changed as a property asks for: uint8 (B, 3, H, W).

    Textures and shapes come from all ``images``, uint8 (N, 3, H, W); labels stay those of ``indices``.
    """
    keys = image_keys(indices, seed, epoch)
    return PROPERTIES[treatment.property].function(images[indices], keys, treatment.dose, images)


def maker(data: Dataset, treatment: Treatment, seed: int) -> Callable[[Tensor, int], Tensor]:
    """``make(indices, epoch)``: the changed images of a data set, (B, 3, H, W) on the indices' device.

    In the procedural set shape and texture are factors, so there the property is made by construction: the
    same images drawn with another texture, or shape. These are drawn once and are the same in every epoch.
    """
    images, factor = data.train.images, PROPERTIES[treatment.property].factor
    versions, kept = PROPERTIES[treatment.property].versions, {}
    drawn = bool(factor) and data.spec.name == "shape_texture"
    if drawn:
        options = data.spec.options | {factor: 1 - treatment.dose}
        other = load(replace(data.spec, options=options, fingerprint="")).train
        if not torch.equal(other.labels, data.train.labels):
            raise ValueError(f"the procedural set has other labels with {factor} {1 - treatment.dose:g}")
        images = other.images

    def make(indices: Tensor, epoch: int) -> Tensor:
        nonlocal images
        images = images.to(indices.device)  # once; later it lies there
        if drawn:
            return images[indices]
        if not versions:
            return changed(images, indices, treatment, seed, epoch)
        if epoch % versions not in kept:
            everything = torch.arange(len(images), device=indices.device).split(500)
            parts = [changed(images, part, treatment, seed, epoch % versions) for part in everything]
            kept[epoch % versions] = torch.cat(parts)
        return kept[epoch % versions][indices]

    return make


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele et al. 2014): int64 to int64, every bit depends on every bit."""
    state = (state ^ _shift(state, 30)) * -0x40A7B892E31B1A47
    state = (state ^ _shift(state, 27)) * -0x6B2FB644ECCEEE15
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """To the right, with zeros: torch's own keeps the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def image_keys(indices: Tensor, seed: int, epoch: int) -> Tensor:
    """A random state (B,) int64 for each image in an epoch."""
    start = _mix(torch.tensor([seed, epoch], device=indices.device) * GOLDEN + 1)
    return _mix(_mix(start[0] + indices * GOLDEN) ^ start[1])


def random_bits(keys: Tensor, count: int, stream: int) -> Tensor:
    """``count`` random int64 for each of the keys (B,): (B, count). Streams don't meet."""
    counter = torch.arange(1, count + 1, device=keys.device) + (stream << 32)
    return _mix(keys[:, None] + counter * GOLDEN)


def _below(keys: Tensor, limit: int, stream: int) -> Tensor:
    """A random whole number in [0, limit) for each key: (B,) int64."""
    return _shift(random_bits(keys, 1, stream)[:, 0], 33) % limit


def _chosen(keys: Tensor, share: float) -> Tensor:
    """Which images to change: (B, 1, 1, 1) bool."""
    return (_below(keys, 1 << 30, 0) < share * (1 << 30))[:, None, None, None]


@cache
def _normal_table(device: torch.device) -> Tensor:
    """Quantiles of the normal distribution at 65,536 equal steps, so that 16 random bits are a draw."""
    quantile = NormalDist().inv_cdf
    upper = [quantile((place + 0.5) / 65536) for place in range(32768, 65536)]
    return torch.tensor([-value for value in reversed(upper)] + upper, device=device)


def noise(images: Tensor, keys: Tensor, dose: float, others: Tensor) -> Tensor:
    """Gaussian noise on every value; its standard deviation is uniform in [0, dose] over the images."""
    count = images.shape[1:].numel()
    draws = random_bits(keys, -(-count // 4), 1).view(torch.int16)[:, :count].int() + 32768
    normal = _normal_table(images.device)[draws].view(images.shape)
    sigma = (255 * dose / (1 << 24)) * _below(keys, 1 << 24, 0)
    noisy = images + sigma.float()[:, None, None, None] * normal
    return noisy.round().clamp(0, 255).to(torch.uint8)


def patches(images: Tensor, keys: Tensor, dose: float, others: Tensor) -> Tensor:
    """Patches in a random order; an image has 3 x 3, 5 x 5 or 6 x 6 of them.

    Of 32 px these grids leave two rows and two columns over, which stay in place on one side or the other. So
    no cut system is one of the probes', whose patches are 16, 8 or 4 px.
    """
    height, width = images.shape[2:]
    grid = torch.tensor(GRIDS, device=keys.device)[_below(keys, len(GRIDS), 1)]
    ranks = random_bits(keys, max(GRIDS) ** 2, 2) >> 1
    beyond = torch.arange(max(GRIDS) ** 2, device=keys.device) >= grid[:, None] ** 2
    order = ranks.masked_fill(beyond, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)

    def axis(size: int, stream: int) -> tuple[Tensor, ...]:
        side = size // grid
        start = _shift(random_bits(keys, 1, stream), 33) % (size - grid * side + 1)[:, None]
        place = torch.arange(size, device=keys.device) - start
        cell = place.div(side[:, None], rounding_mode="floor")
        return side[:, None, None], start, place - cell * side[:, None], cell

    (tall, top, row, down), (wide, left, column, across) = axis(height, 3), axis(width, 4)
    inside = ((down >= 0) & (down < grid[:, None]))[:, :, None]
    inside = inside & ((across >= 0) & (across < grid[:, None]))[:, None, :] & _chosen(keys, dose)[..., 0]
    cells = down[:, :, None] * grid[:, None, None] + across[:, None, :]
    source = order.gather(1, cells.where(inside, 0).flatten(1)).view_as(cells)
    from_row = top[:, :, None] + source // grid[:, None, None] * tall + row[:, :, None]
    from_column = left[:, :, None] + source % grid[:, None, None] * wide + column[:, None, :]
    here = torch.arange(height * width, device=keys.device).view(1, height, width)
    flat = (from_row * width + from_column).where(inside, here)
    return images.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, 3, -1)).view_as(images)


def grey(images: Tensor, keys: Tensor, dose: float, others: Tensor) -> Tensor:
    """One channel in place of three: a random mixture of them, another in each image."""
    cuts = torch.stack([_below(keys, 257, 1), _below(keys, 257, 2)], dim=1).sort(dim=1).values
    weights = torch.diff(F.pad(F.pad(cuts, (1, 0)), (0, 1), value=256), dim=1)  # uniform, of sum 256
    mixed = (images.int() * weights.int()[:, :, None, None]).sum(1, keepdim=True, dtype=torch.int32)
    return ((mixed + 128) >> 8).to(torch.uint8).expand_as(images).where(_chosen(keys, dose), images)


def texture(images: Tensor, keys: Tensor, dose: float, others: Tensor) -> Tensor:
    """Each image's shape in the texture of another one, of any class: texture no longer tells the label."""
    return exchanged(images, _partners(keys, others)).where(_chosen(keys, dose), images)


def shape(images: Tensor, keys: Tensor, dose: float, others: Tensor) -> Tensor:
    """Each image's texture in the shape of another one, of any class: shape no longer tells the label."""
    return exchanged(_partners(keys, others), images).where(_chosen(keys, dose), images)


def _partners(keys: Tensor, others: Tensor) -> Tensor:
    return others[_below(keys, len(others), 1)]


PROPERTIES: dict[str, Property] = {
    "noise": Property("noise robustness", noise, 0.2, "largest standard deviation"),
    "patches": Property("permutation invariance", patches, 1.0, "share of changed images"),
    "grey": Property("colour invariance", grey, 1.0, "share of changed images"),
    "texture": Property("shape bias", texture, 1.0, "share of changed images", "texture_correlation", 4),
    "shape": Property("texture bias", shape, 1.0, "share of changed images", "shape_correlation", 4),
}
# As properties of their own, so that an experiment can compare the two doses.
for _name in ("noise", "texture"):
    _full = PROPERTIES[_name]
    PROPERTIES[f"half_{_name}"] = replace(_full, title=f"{_full.title} at half dose", dose=_full.dose / 2)
