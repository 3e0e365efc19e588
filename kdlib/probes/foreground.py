"""Figure or ground alone: does the model need the object, or what lies around it?

CIFAR-10 has no true masks. A figure is guessed here from colour alone, so a score means something only beside
that of its two controls, a disc of the same area and the mask of another image.
"""

import numpy as np
import torch
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu
from torch import Tensor

from kdlib.names import check
from kdlib.probes.base import Stimuli, in_place_of, mean_colour, to_unit
from kdlib.probes.scramble import cycle_sources

RIDGE = 25.0  # squared Lab units, added to a side's variances: from a flat side, all else would be far
FAINTEST = 0.2  # distance of one Lab unit from a flat side, about the least that can be seen
PRIOR_WIDTH = 1.0  # half sides of the image, standard deviation of the prior on a figure's place
SQUARE = np.pad(np.ones((1, 3, 3), bool), ((1, 1), (0, 0), (0, 0)))  # never reaches into the next image
SOUND_AREAS = (0.05, 0.90)  # share of an image; a mask beyond shows nothing or everything


def centre_distance(height: int, width: int) -> Tensor:
    """Squared distance of each pixel from the image's centre in half sides, (H, W): 2 beyond the corners."""
    y, x = ((torch.arange(side) + 0.5) * 2 / side - 1 for side in (height, width))
    return y[:, None] ** 2 + x**2


def border_distance(images: Tensor) -> np.ndarray:
    """Mahalanobis distance in Lab of each pixel from the colours of the nearest of the four sides.

    Args:
        images: uint8 (N, 3, H, W). A side's colours are those of its outermost line of pixels.

    Returns:
        float32 (N, H, W).
    """
    lab = rgb2lab(to_unit(images).permute(0, 2, 3, 1).numpy())
    pixels = lab.reshape(len(lab), -1, 3)
    nearest = np.full(pixels.shape[:2], np.inf, dtype=np.float32)
    for side in (lab[:, 0], lab[:, -1], lab[:, :, 0], lab[:, :, -1]):
        mean = side.mean(axis=1, keepdims=True)
        covariance = (side - mean).swapaxes(1, 2) @ (side - mean) / side.shape[1]
        away = pixels - mean
        squared = (away @ np.linalg.inv(covariance + RIDGE * np.eye(3, dtype=np.float32)) * away).sum(axis=2)
        np.minimum(nearest, squared, out=nearest)
    return np.sqrt(nearest).reshape(lab.shape[:3])


def figure_mask(images: Tensor) -> Tensor:
    """Where the figure probably is: near the centre, in colours that the image's border doesn't have.

    The distance from the border's colours, times a wide Gaussian about the centre, is cut at Otsu's threshold
    and smoothed; what counts is the connected part with most weight at the centre, its holes filled. An image
    of one colour has no figure.

    Args:
        images: uint8 (N, 3, H, W).

    Returns:
        bool (N, H, W).
    """
    prior = torch.exp(-centre_distance(*images.shape[2:]) / (2 * PRIOR_WIDTH**2)).numpy()
    scores = border_distance(images) * prior
    mask = np.stack([score > max(threshold_otsu(score), FAINTEST) for score in scores]).astype(np.uint8)
    # Grey morphology reflects at the frame, where binary morphology would cut off what touches it.
    mask = ndimage.grey_opening(ndimage.grey_closing(mask, footprint=SQUARE), footprint=SQUARE)
    parts, count = ndimage.label(mask, structure=SQUARE)
    weights = ndimage.sum_labels(np.broadcast_to(prior, parts.shape), parts, range(count + 1))
    weights[0] = 0  # the ground
    weights = weights[parts]
    most_central = (weights == weights.max(axis=(1, 2), keepdims=True)) & (weights > 0)
    return torch.from_numpy(ndimage.binary_fill_holes(most_central, structure=SQUARE))


def centred_disc(areas: Tensor, height: int, width: int) -> Tensor:
    """The ``areas`` (N,) pixels nearest to the centre of each image, bool (N, H, W)."""
    nearness = centre_distance(height, width).flatten().argsort(stable=True).argsort(stable=True)
    return (nearness < areas[:, None]).view(-1, height, width)


def foreground(
    images: Tensor, labels: Tensor, generator: torch.Generator, keep: str = "figure", mask: str = "own"
) -> Stimuli:
    """Keep the figure or the ground of every image; the rest gets the mean colour of the images given.

    Args:
        images: uint8 (N, 3, H, W).
        keep: "figure", or "ground" for what is outside the mask.
        mask: "own", or a control: "disc", centred and of the own mask's area; "other", that of another image.

    ``meta["kept"]`` is the mean share of the pixels kept, ``meta["degenerate"]`` the number of images whose
    own mask covers less than 5% or more than 90% of them; they stay in.

    Raises:
        UnknownName: another word for ``keep`` or ``mask``.
        ValueError: the mask of another image is asked for, and there is only one.
    """
    check("keep", keep, ("figure", "ground"))
    check("mask", mask, ("own", "disc", "other"))
    if mask == "other" and len(images) < 2:
        raise ValueError("mask 'other' takes the mask of another image; give 2 images or more.")
    masks = figure_mask(images)
    areas = masks.sum(dim=(1, 2))
    shares = areas / masks[0].numel()
    degenerate = (shares < SOUND_AREAS[0]) | (shares > SOUND_AREAS[1])
    if mask == "disc":
        masks = centred_disc(areas, *images.shape[2:])
    elif mask == "other":
        masks = masks[cycle_sources(1, len(images), generator)[0]]
    kept = masks if keep == "figure" else ~masks
    meta = {"kept": kept.float().mean().item(), "degenerate": float(degenerate.sum())}
    return in_place_of(torch.where(kept[:, None], images, mean_colour(images)), labels, **meta)
