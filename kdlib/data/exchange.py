"""The shape of one image in the texture of another: its light and dark laid in patches of the other.

Texture transfer of Efros and Freeman (SIGGRAPH 2001), at once instead of patch after patch: every place of
the content gets the patch of the texture image whose blurred luma fits best, overlapping patches are blended,
and part of what the blurred luma still lacks is added. There are no filters and no statistics to match, so
nothing is shared with how the cue-conflict probe makes its images.

All sums are of whole numbers that float32 holds exactly, so an image does not depend on its batch, the
processor or the device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH, STEP = 8, 4  # px of a patch's side and between patches
MARGIN = 4  # px at the frame of a texture image that are left out
LUMA = (77, 150, 29)  # 256ths of red, green and blue
FAINTEST = 30.0  # standard deviation of the luma that a shape is drawn with, where its texture has less
FLATTEST = 8.0  # that a content is taken to have at least, so that a plain one isn't blown up
RESTORED = 0.75  # share of the difference in blurred luma that is added; 0 leaves the patches as they are
WINDOW = (1, 2, 3, 4, 4, 3, 2, 1)


def exchanged(content: Tensor, texture: Tensor) -> Tensor:
    """The shapes of ``content`` in the textures and colours of ``texture``.

    All are uint8 (B, 3, H, W), at least 20 px a side.
    """
    height, width = content.shape[2:]
    inner = texture[:, :, MARGIN : height - MARGIN, MARGIN : width - MARGIN]
    light, scale = luma(content), luma(inner)
    (mean, spread), (goal, contrast) = _moments(light), _moments(scale)
    centred = (light - mean) / spread.clamp(min=FLATTEST)
    sought = (centred * contrast + goal).round().clamp(0, 255)
    padded = F.pad(sought[:, None].float(), (PATCH // 2,) * 4, mode="replicate")[:, 0]
    quilt = _blend(inner, *_best_patches(_features(padded, STEP), _features(scale.float(), 1)))
    top = left = PATCH // 2
    quilt = quilt[:, :, top : top + height, left : left + width].round()
    lacking = (centred * contrast.clamp(min=FAINTEST) + goal).round() - luma(quilt)
    lacking = F.pad(lacking[:, None].float(), (1, 1, 1, 1), mode="replicate")
    lacking = F.avg_pool2d(lacking, 3, stride=1, divisor_override=1) * (RESTORED / 9)
    return (quilt + lacking).round().clamp(0, 255).to(torch.uint8)


def luma(images: Tensor) -> Tensor:
    """Whole numbers 0 to 255, int32 (B, H, W), of whole numbers (B, 3, H, W)."""
    red, green, blue = images.int().unbind(1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 128) >> 8


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each image, float64 (B, 1, 1)."""
    flat = values.flatten(1).long()
    mean = flat.sum(1).double() / flat.shape[1]
    variance = flat.square().sum(1).double() / flat.shape[1] - mean.square()
    return mean[:, None, None], variance.clamp(min=0).sqrt()[:, None, None]


def _features(light: Tensor, step: int) -> Tensor:
    """Blurred luma of all patches, ``step`` px apart: (B, rows, columns, 16), whole numbers below 128."""
    sums = F.avg_pool2d(light[:, None], 2, stride=1, divisor_override=1)[:, 0]
    patches = (sums / 8).floor().unfold(1, PATCH - 1, step).unfold(2, PATCH - 1, step)
    return patches[..., ::2, ::2].flatten(3)


def _best_patches(wanted: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column, (B, r, c) each, of the patch that fits each place best.

    Neighbouring places choose among different patches, every other one in each direction, so that a plain
    surface is not paved with copies of one.
    """
    rows, columns = (torch.empty(wanted.shape[:3], dtype=torch.int64, device=wanted.device) for _ in "yx")
    for down in (0, 1):
        for across in (0, 1):
            place = (slice(None), slice(down, None, 2), slice(across, None, 2))
            choice = found[place]
            count, flat = choice.shape[2], choice.flatten(1, 2)
            distance = flat.square().sum(2)[:, None] - 2 * wanted[place].flatten(1, 2) @ flat.mT
            # The index in the last bits settles ties, and comes out with the minimum.
            index = torch.arange(flat.shape[1], device=wanted.device, dtype=torch.int64)
            best = (distance.long() * 65536 + index).amin(2).unflatten(1, wanted[place].shape[1:3]) % 65536
            rows[place] = best // count * 2 + down
            columns[place] = best % count * 2 + across
    return rows, columns


def _blend(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Patches of (B, 3, h, w) laid ``STEP`` px apart and averaged where they overlap."""
    inside, (down, across) = torch.arange(PATCH, device=images.device), rows.shape[1:]
    source = (rows[:, :, :, None, None] + inside[:, None]) * images.shape[3]
    source = (source + columns[:, :, :, None, None] + inside).flatten(1)
    window = torch.tensor(WINDOW, device=images.device, dtype=torch.float32)
    window = (window[:, None] * window).flatten()
    patches = images.flatten(2).gather(2, source[:, None].expand(-1, 3, -1))
    patches = patches.unflatten(2, (down * across, PATCH**2)) * window
    size = tuple((count - 1) * STEP + PATCH for count in (down, across))
    total = F.fold(patches.transpose(2, 3).flatten(1, 2), size, PATCH, stride=STEP)
    weight = F.fold(window[None, :, None].expand(1, -1, down * across), size, PATCH, stride=STEP)
    return total / weight
