"""Cue conflict: the shape of one class painted in the texture of another.

The question is that of Geirhos et al. (2019). Texture is carried by Gram matrices as in Gatys et al. (2016),
but of untrained shallow filters, which suffice for it (Ustyuzhaninov et al. 2017): a trained network would
bring its own bias into the probe.
"""

from dataclasses import replace
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.messages import check
from kdlib.probes.base import LUMA, Stimuli, luma, normal, sqrt, to_uint8

DRAWN_SEED = 1 << 32  # of no training or test images of the procedural set
FILTER_SEED = 0  # the filters belong to the probe's definition, so no seed of a study changes them
FAINTEST = 1e-6  # response that counts: on flat colour it is 0, and its sign nothing but rounding
CROP = 0.625  # share of the side of a texture image that is used, about its centre: less background
GRAM_WEIGHT, LEARNING_RATE = 100, 0.03  # the weight of the contours is 1
MOST = 2000  # stimuli: the 90 pairs of ten classes 22 times, or 20 of the 99 of each of a hundred classes
SQUARINGS = 20  # of a covariance: the second axis is left with (its share of the first) ** 2 ** 20


def pair_ids(labels: Tensor, per_pair: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw content and texture images for ordered pairs of classes, each class equally often as either.

    Each class is split at random into images for content and images for texture, and none is used twice: the
    stimuli are independent. Each block of ``K * (K - 1)`` rows, from the first on, holds every ordered pair
    of the K classes once, so the first blocks are a balanced subset. Where images, or MOST, don't suffice for
    all pairs, some are drawn: each block of K rows then holds every class once as shape, once as texture.

    Returns content and texture ids, int64 (N,), N at most MOST or K; up to ``per_pair`` of each pair.
    Raises ValueError for fewer than two classes, or a class with fewer than two images.
    """
    classes, counts = labels.unique(return_counts=True)
    count, fewest = len(classes), int(counts.min())
    if count < 2 or fewest < 2:
        raise ValueError(
            f"cue conflict of {count} classes (2 or more) needs 2 images of each; "
            f"class {classes[counts.argmin()]} has {fewest}."
        )
    order = torch.randperm(len(labels), generator=generator)
    times = min(fewest // 2, MOST // count or 1)  # that a class may be shape, and texture
    if times >= count - 1:
        pairs, per_pair = list(permutations(classes.tolist(), 2)), min(per_pair, times // (count - 1))
    else:  # classes in a random circle; a distance along it pairs each with one other
        circle = classes[torch.randperm(count, generator=generator)]
        distances = torch.randperm(count - 1, generator=generator)[:times] + 1
        turned = [circle.roll(int(distance)) for distance in distances]
        pairs = [pair for other in turned for pair in zip(circle.tolist(), other.tolist(), strict=True)]
        per_pair = 1
    contents, textures = {}, {}
    for c in classes.tolist():
        members = order[labels[order] == c][: 2 * len(pairs) // count * per_pair]
        first, second = members.chunk(2)
        contents[c], textures[c] = list(first.split(per_pair)), list(second.split(per_pair))
    content = torch.stack([contents[shape].pop() for shape, _ in pairs], dim=1)
    texture = torch.stack([textures[texture].pop() for _, texture in pairs], dim=1)
    return content.flatten(), texture.flatten()


def match_classes(labels: Tensor, content: Tensor, texture: Tensor) -> Tensor:
    """The ids of :func:`pair_ids` for texture, rearranged so that each has the class of its content."""
    matched = torch.empty_like(texture)
    matched[labels[content].argsort(stable=True)] = texture[labels[texture].argsort(stable=True)]
    return matched


def random_filters() -> Tensor:
    """16 filters of 3x3 px and 16 of 7x7 px, zero mean and unit norm each: float64 (32, 3, 7, 7)."""
    generator, filters = torch.Generator().manual_seed(FILTER_SEED), []
    for side in (3, 7):
        drawn = normal((16, 3, side, side), generator).double()
        centred = drawn - drawn.mean(dim=(1, 2, 3), keepdim=True)
        unit = centred / centred.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        filters.append(F.pad(unit, [(7 - side) // 2] * 4))
    return torch.cat(filters)


def gram(images: Tensor, filters: Tensor) -> Tensor:
    """Texture statistics of (N, 3, H, W) in [0, 1]: mean products of all pairs of features, (N, 36, 36).

    The features are the centred colours, 1 (whose products are the means) and the rectified responses of the
    filters. A mean over positions makes crops of any size comparable.
    """
    centred = images - 0.5
    responses = (F.conv2d(F.pad(centred, [3] * 4, mode="reflect"), filters) - FAINTEST).relu()
    features = torch.cat([centred, torch.ones_like(images[:, :1]), responses], dim=1).flatten(2)
    return features @ features.mT / features.shape[2]


def contours(images: Tensor) -> Tensor:
    """Forward differences of the luma after a 3x3 box blur: (N, 3, H, W) to (N, 2 * H * W - H - W)."""
    grey = sum(weight * channel for weight, channel in zip(LUMA, images.split(1, dim=1), strict=True))
    blurred = F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return torch.cat([blurred.diff(dim=2).flatten(1), blurred.diff(dim=3).flatten(1)], dim=1)


def main_colour_axis(colours: Tensor) -> Tensor:
    """The leading principal axis of colours, (N, 3), as long as their standard deviation along it.

    It points to where the luma rises, and is 0 for a single colour. The colours, (N, 3, P), are whole numbers
    in float64, so that all sums over P are exact.
    """
    count, total = colours.shape[2], colours.sum(2)
    covariance = colours @ colours.mT / count - total[:, :, None] * total[:, None] / count**2
    power = covariance
    for _ in range(SQUARINGS):  # of the matrix, in three explicit products: only the leading axis remains
        power = power / power.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1e-30)[:, None, None]
        power = sum(power[:, :, k, None] * power[:, None, k] for k in range(3))
    largest = power.diagonal(dim1=1, dim2=2).argmax(1)
    axis = power[torch.arange(len(power)), largest]
    axis = axis / sqrt(_dot(axis, axis)).clamp(min=1e-30)
    turned = torch.cat([_dot(axis, covariance[:, k]) for k in range(3)], dim=1)  # covariance @ axis
    axis = axis * sqrt(_dot(axis, turned).clamp(min=0))
    rises = _dot(axis, torch.tensor([LUMA], dtype=axis.dtype)) >= 0
    return torch.where(rises, axis, -axis)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Products of (N, 3) and (N, 3), added in their order: (N, 1)."""
    return sum((one * other).split(1, dim=1))


def recolour(content: Tensor, texture: Tensor) -> Tensor:
    """The luma of ``content`` along the main colour axis of ``texture``: none of its own hue survives.

    uint8 (N, 3, H, W) and (N, 3, h, w) to float64 (N, 3, H, W) in [0, 1]. Every operation is rounded as IEEE
    754 asks, in a fixed order: the same bits on every processor.
    """
    colours, light = texture.double().flatten(2), luma(content).flatten(2)
    mean = colours.sum(2, keepdim=True) / colours.shape[2]
    middle = light.sum(2, keepdim=True) / light.shape[2]
    variance = (light * light).sum(2, keepdim=True) / light.shape[2] - middle * middle
    spread = sqrt(variance.clamp(min=0)).clamp(min=25.5)  # 1e-4 of the range: flat content stays flat
    made = mean + main_colour_axis(colours)[:, :, None] * ((light - middle) / spread)
    return (made.view(content.shape) / 255).clamp(0, 1)


def transfer(start: Tensor, recoloured: Tensor | None, texture: Tensor, steps: int) -> Tensor:
    """Descend from ``start`` to images with the Gram matrices of a texture and the contours of a content.

    All are float64 (N, 3, H, W) in [0, 1], the texture of any size; the contours are those of ``recoloured``,
    None for a texture alone. Each image has a loss and Adam moments of its own, so its neighbours in the
    batch don't matter to it. Matrix products may add in another order on another processor. Of 540 images no
    pixel differed between three settings of the maths library, nor with 1e-15 added to the start.
    """
    filters = random_filters()
    target_gram = gram(texture, filters)
    gram_scale = target_gram.square().sum(dim=(1, 2))
    if recoloured is not None:
        target_contours = contours(recoloured)
        contour_scale = target_contours.square().sum(dim=1) + 1e-3  # a flat content has no contours
    made, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        made = made.detach().requires_grad_()
        loss = GRAM_WEIGHT * (gram(made, filters) - target_gram).square().sum(dim=(1, 2)) / gram_scale
        if recoloured is not None:
            loss = loss + (contours(made) - target_contours).square().sum(dim=1) / contour_scale
        (slope,) = torch.autograd.grad(loss.sum(), made)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope * slope  # Adam
        update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        made = (made.detach() - LEARNING_RATE * update).clamp(0, 1)
    return made


@torch.inference_mode(False)  # it descends a gradient, whoever calls it
@torch.enable_grad()
def cue_conflict(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    per_pair: int = 20,
    kind: str = "conflict",
    steps: int = 40,
    batch: int = 9,
) -> Stimuli:
    """Images with the shape of one class (``labels``, ``ids``), the texture of another (``texture_labels``).

    The pairs are drawn first, so from one state of the generator all kinds and steps are of the same images.

    Args:
        images: uint8 (N, 3, H, W); the classes are those in ``labels``.
        per_pair: stimuli for each ordered pair of classes, fewer where the images don't suffice, see
            :func:`pair_ids`; ``meta["per_pair"]`` holds the mean number that came out.
        kind: "conflict"; "same class", the texture of another image of the shape's class; or "texture", drawn
            from noise without any shape, whose ``labels`` and ``ids`` are the texture's.
        steps: of Adam; with 0 only the colours are the texture's.
        batch: images made at a time; it changes no image.

    ``meta["clipped"]`` is the share of values that end at 0 or 1.

    Raises UnknownName for another kind, ValueError for too few classes, or images of one.
    """
    check("kind", kind, ("conflict", "same class", "texture"))
    content, texture = pair_ids(labels, per_pair, generator)
    if kind == "same class":
        texture = match_classes(labels, content, texture)
    if kind == "texture":
        noise = torch.rand(len(content), *images.shape[1:], generator=generator).double()
    height, width = (round(CROP * side) for side in images.shape[2:])
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    cropped = images[:, :, top : top + height, left : left + width]
    made = []
    for rows in torch.arange(len(content)).split(batch):
        patch = cropped[texture[rows]]
        recoloured = None if kind == "texture" else recolour(images[content[rows]], patch)
        start = noise[rows] if kind == "texture" else recoloured
        made.append(transfer(start, recoloured, patch.double() / 255, steps))
    made = torch.cat(made)
    classes = len(labels.unique())
    clipped = ((made <= 0) | (made >= 1)).double().mean().item()
    meta = {"per_pair": len(content) / (classes * (classes - 1)), "clipped": clipped}
    shown = texture if kind == "texture" else content
    return Stimuli(
        to_uint8(made)[0], labels[shown], shown, labels[texture] if kind == "conflict" else None, meta
    )


def drawn_anew(conflict: Stimuli) -> Stimuli:
    """The same pairs of classes as images of the procedural set: of the first texture nothing is left."""
    from kdlib.data import procedural  # here, since kdlib.data loads libraries that probes don't need

    generator, size = torch.Generator().manual_seed(DRAWN_SEED), conflict.images.shape[-1]
    images = procedural.draw(conflict.labels, conflict.texture_labels, generator, size)
    return replace(conflict, images=images, meta={})
