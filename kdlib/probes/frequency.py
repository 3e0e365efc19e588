"""Which spatial frequencies a model reads: hybrids of two images, and noise of one band.

Frequencies are in cycles per pixel: 0.5 is the Nyquist frequency of either axis.
"""

import torch
from scipy import ndimage
from torch import Tensor

from kdlib.probes.base import Stimuli, in_place_of, to_uint8, to_unit
from kdlib.probes.cue_conflict import pair_ids


def low_pass(values: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, H, W), standard deviation in px, reflected at the frame; 0 changes nothing."""
    return torch.from_numpy(ndimage.gaussian_filter(values.numpy(), (0, 0, sigma, sigma), mode="reflect"))


def frequency_conflict(
    images: Tensor, labels: Tensor, generator: torch.Generator, per_pair: int = 20, sigma: float = 2.0
) -> Stimuli:
    """The low frequencies of one class (``labels``, ``ids``) under the high ones of another
    (``texture_labels``): hybrid images (Oliva, Torralba & Schyns 2006).

    Not a conflict of shape and texture: the contours of both images survive.

    Args:
        images: uint8 (N, 3, H, W).
        per_pair: stimuli for each ordered pair of classes, fewer where the images don't suffice;
            ``meta["per_pair"]`` holds the number that came out.
        sigma: px, of the Gaussian that divides low from high.

    Raises:
        ValueError: too few classes, or too few images in one of them.
    """
    low, high = pair_ids(labels, per_pair, generator)
    fine = to_unit(images[high])
    made, clipped = to_uint8(low_pass(to_unit(images[low]), sigma) + (fine - low_pass(fine, sigma)))
    classes = len(labels.unique())
    meta = {"per_pair": len(low) / (classes * (classes - 1)), "clipped": clipped}
    return Stimuli(made, labels[low], low, labels[high], meta)


def band_of(height: int, width: int, bands: int) -> Tensor:
    """Which band each coefficient of ``rfft2`` belongs to, int64 (H, W // 2 + 1).

    The bands are rings of equal width from 0 to the Nyquist frequency; the corners beyond belong to the last
    one, the mean to none (-1).
    """
    radius = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width) ** 2).sqrt()
    band = (radius * 2 * bands).long().clamp(max=bands - 1)
    band[0, 0] = -1
    return band


def filtered_noise(
    shape: tuple[int, ...], generator: torch.Generator, band: int, bands: int, norm: float
) -> Tensor:
    """White Gaussian noise (N, C, H, W) of which one band is left, with L2 norm ``norm`` in every channel.

    Raises:
        ValueError: no frequency lies in the band.
    """
    inside = band_of(*shape[2:], bands) == band
    if not inside.any():
        raise ValueError(
            f"band {band} of {bands} holds no frequency of images of {shape[2]}x{shape[3]}; count from 0, or "
            "divide into fewer bands."
        )
    noise = torch.fft.irfft2(torch.fft.rfft2(torch.randn(shape, generator=generator)) * inside, s=shape[2:])
    return noise * (norm / noise.flatten(2).norm(dim=2))[:, :, None, None]


def band_noise(
    images: Tensor, labels: Tensor, generator: torch.Generator, band: int, bands: int = 8, norm: float = 4.0
) -> Stimuli:
    """Noise of one band of spatial frequencies on every image; norm 0 changes no bit.

    After Yin et al. (2019), who add one plane wave at a time.

    Args:
        images: uint8 (N, C, H, W).
        band: 0 (coarsest) to ``bands - 1`` (finest), as :func:`band_of` divides them.
        norm: L2 norm of the noise of each image and channel on the [0, 1] scale, before clamping.

    Raises:
        ValueError: no frequency of these images lies in the band.
    """
    noise = filtered_noise(tuple(images.shape), generator, band, bands, norm)
    noisy, clipped = to_uint8(to_unit(images) + noise)
    return in_place_of(noisy, labels, clipped=clipped)
