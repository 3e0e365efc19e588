"""Shape only: edges. (Silhouettes need true masks, which CIFAR-10 doesn't have.)"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.probes.base import LUMA, Stimuli, in_place_of, to_uint8


def edges(images: Tensor, labels: Tensor, generator: torch.Generator) -> Stimuli:
    """Sobel magnitude of the luma over its maximum in the image, dark on white, in all three channels.

    Args:
        images: uint8 (N, 3, H, W). An image without any edge comes out all white.
    """
    # In thousandths of a grey level every number below is a whole one, exact in float32: a rounding error
    # would be blown up to full contrast by the division when an image is constant.
    weights = torch.tensor([round(1000 * w) for w in LUMA], dtype=torch.float32).view(1, 3, 1, 1)
    luma = F.pad((images.float() * weights).sum(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = luma[..., 2:] - luma[..., :-2], luma[..., 2:, :] - luma[..., :-2, :]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    magnitude = torch.hypot(across, down)
    strongest = magnitude.amax(dim=(2, 3), keepdim=True).clamp(min=1)
    drawn, _ = to_uint8(1 - magnitude / strongest)
    return in_place_of(drawn.repeat(1, 3, 1, 1), labels)
