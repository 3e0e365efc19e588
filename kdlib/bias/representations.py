"""What happens inside a network: how far evidence interacts, where units look, what features have in common.

Images are uint8 (N, 3, H, W) and go to the network's device batch by batch, in evaluation mode; whatever the
batch, the numbers are the same up to rounding. Distances are Euclidean, in px of the images given. Measures
with a value for each image have an interval over seeds and images, the others over seeds alone.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.models import Network
from kdlib.train import predict_logits

SIDE = 4  # patches a side whose interactions are measured


@torch.inference_mode()
def interactions(network: Network, images: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """How much the evidence in two patches depends on each other, by their distance: the range of locality.

    The margin is the label's logit minus the mean of the others: logits, since a softmax makes everything
    interact. With d the loss of margin when patches take the images' mean colour, patches i and j interact
    as two players in a game (Grabisch and Roubens 1999) by

        I_ij = |d_ij - d_i - d_j|

    A network that adds up local evidence has none between patches that no receptive field joins.

    Args:
        images: cut into 4 x 4 patches, whatever their size: 137 forwards an image.
        labels: int64 (N,).

    Returns:
        float64 (N,) each, 0 and up: "near", mean I over patches that share an edge; "far", over those two or
        more apart (diagonal neighbours are neither). Far/near is a ratio of means over images, 0 for local
        evidence and about 1 without any locality.

    Raises ValueError if the patches don't tile the images.
    """
    height, width = images.shape[2:]
    if height % SIDE or width % SIDE:
        told = f"images of {height}x{width} px can't be cut into {SIDE} x {SIDE} patches"
        raise ValueError(f"{told}; give sides that {SIDE} divides")
    one = torch.eye(SIDE**2, dtype=torch.bool)
    first, second = torch.triu_indices(len(one), len(one), offset=1)
    hidden = torch.cat([torch.zeros_like(one[:1]), one, one[first] | one[second]])
    masks = hidden.view(-1, 1, SIDE, SIDE).repeat_interleave(height // SIDE, 2)
    masks = masks.repeat_interleave(width // SIDE, 3)
    fill = images.double().mean(dim=(0, 2, 3)).view(3, 1, 1)
    fill = (fill if images.is_floating_point() else fill.round()).to(images.dtype)

    answers = []
    for part in images.split(4):  # each is shown under all masks
        shown = torch.where(masks, fill, part[:, None]).flatten(0, 1)
        answers.append(predict_logits(network, shown).double().cpu())
    logits, labels = torch.cat(answers), labels.repeat_interleave(len(masks))
    right = logits.gather(1, labels[:, None])[:, 0]
    margin = (right - (logits.sum(1) - right) / (logits.shape[1] - 1)).view(len(images), -1)
    alone, together = (margin[:, :1] - margin[:, 1:]).split([len(one), len(first)], dim=1)
    strength = (together - alone[:, first] - alone[:, second]).abs().numpy()

    apart = _distances(SIDE, SIDE)[first, second].numpy()
    return {"near": strength[:, apart == 1].mean(1), "far": strength[:, apart >= 2].mean(1)}


def receptive_maps(network: Network, images: Tensor, batch_size: int = 100) -> np.ndarray:
    """How strongly each pixel moves the central unit of each stage (Luo et al. 2016), float64 (4, H, W).

    |d(sum over channels of the unit)/d(pixel)|, pixels in [0, 1], summed over colours, mean over images. A
    ViT's stages come before its last norm, behind which that sum would hardly depend on the image.
    """
    total = 0
    for part in _batches(network, images, batch_size):
        pixels = (part.clone() if part.is_floating_point() else part / 255).requires_grad_()
        stages = network(pixels, ["stages"]).stages
        centres = [stage[:, :, stage.shape[2] // 2, stage.shape[3] // 2].sum() for stage in stages]
        gradients = [torch.autograd.grad(centre, pixels, retain_graph=True)[0] for centre in centres]
        total = total + torch.stack(gradients).abs().sum(dim=(1, 2)).double()
    return (total / len(images)).cpu().numpy()


def receptive_field(maps: np.ndarray) -> np.ndarray:
    """Radius of each of the fields of :func:`receptive_maps`, px, (4,).

    The root mean square distance from the field's own centre of mass: with padded strides a unit doesn't lie
    in the middle of its cell. A uniform field over 32 x 32 px has 13.1 px. NaN if no pixel moves the stage.
    """
    with np.errstate(invalid="ignore"):
        weights = maps / maps.sum(axis=(1, 2), keepdims=True)
    return np.sqrt(_variance(weights.sum(axis=1)) + _variance(weights.sum(axis=2)))


@torch.inference_mode()
def attention_distance(network: Network, images: Tensor, batch_size: int = 250) -> pd.DataFrame:
    """How far a ViT's attention reaches (Dosovitskiy et al. 2021), one row a block and head, both from 1.

    Class and other prefix tokens are dropped, as queries and as keys, and the rest of each row is brought
    back to a sum of 1. Means over queries and images:

    - "distance": px between centres of query and key, weighted by attention; 0 where each token reads itself.
    - "relative": distance over that of uniform attention, which is 16.5 px for 8 x 8 tokens of 4 px. An
      untrained network has about 1: compare with it too.

    Raises ValueError if the network has no queries, keys and values.
    """
    sums, prefix = 0, network.num_prefix_tokens
    for part in _batches(network, images, batch_size):
        output = network(part, ["qkv"])
        pitch = images.shape[-1] / output.grid[1]
        apart = pitch * _distances(*output.grid).to(part.device)
        sums = sums + torch.stack([_reach(attention, apart, prefix) for attention in output.attention])
    distance = (sums / len(images)).cpu().numpy()
    block, head = (places.ravel() + 1 for places in np.indices(distance.shape))
    table = pd.DataFrame({"block": block, "head": head, "distance": distance.ravel()})
    return table.assign(relative=table.distance / apart.mean().item())


@torch.inference_mode()
def features(network: Network, images: Tensor, batch_size: int = 500) -> list[np.ndarray]:
    """The four stages, each averaged over its positions, and the embedding: five of float32 (N, D_k)."""
    outputs = (network(part, ["stages"]) for part in _batches(network, images, batch_size))
    found = [[*(stage.mean(dim=(2, 3)) for stage in out.stages), out.embedding] for out in outputs]
    return [torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)]


def cka(first: np.ndarray, second: np.ndarray, batch_size: int = 250) -> float:
    """Likeness of two representations (n, D) and (n, E) of the same n inputs: unbiased minibatch linear CKA.

    With HSIC summed over batches (Nguyen et al. 2021) and unbiased in each (Song et al. 2012),

        CKA = HSIC(first, second) / √(HSIC(first, first) HSIC(second, second))

    1 for copies up to rotation, shift and scale; 0 for independent features, where an estimate may lie
    slightly below; NaN if one is the same for all inputs. An incomplete last batch is left out. ckatorch's
    and repsim's defaults are biased: docs/other_libraries.md.

    Raises ValueError if the numbers of inputs differ, or don't fill one batch.
    """
    if len(first) != len(second) or len(first) < batch_size:
        told = f"got features of {len(first)} and {len(second)} inputs"
        raise ValueError(f"{told}; give those of the same inputs, at least one batch of {batch_size}")
    one, other = (_centred_gram(values, batch_size) for values in (first, second))
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size else np.nan


def invariance(clean: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """How much of its embedding an image keeps when it is changed, (n,), from embeddings (n, D) of both.

    With m the mean of the clean embeddings, the cosine between x - m and its own changed version minus m,
    less the mean cosine with those of all other images. 0: the change leaves nothing of the image; about
    1 + 1/(n - 1): it does nothing, and images differ.

    Raises ValueError if the shapes differ or there is no other image.
    """
    if clean.shape != changed.shape or len(clean) < 2:
        told = f"got embeddings {clean.shape} and {changed.shape}; give the same (n, D), n at least 2"
        raise ValueError(f"{told}: embed the same images with and without the change")
    mean = clean.mean(axis=0, dtype=np.float64)
    before, after = (F.normalize(torch.from_numpy(values - mean), dim=1) for values in (clean, changed))
    own = (before * after).sum(1)
    return (own - (before @ after.sum(0) - own) / (len(own) - 1)).numpy()


def _batches(network: Network, images: Tensor, size: int) -> Iterator[Tensor]:
    network.eval()
    device = next(network.parameters()).device
    return (part.to(device) for part in images.split(size))


def _distances(rows: int, columns: int) -> Tensor:
    """float64 (N, N): between the centres of the cells of a grid, row by row, in cells."""
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    return torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist")  # exact: 1 is 1


def _variance(weights: np.ndarray) -> np.ndarray:
    """Of the position along the last axis, which the weights sum to 1 over."""
    position = np.arange(weights.shape[-1])
    mean = weights @ position
    return (weights * (position - mean[:, None]) ** 2).sum(axis=1)


def _reach(attention: Tensor, apart: Tensor, prefix: int) -> Tensor:
    """Mean distance of attention (B, heads, P+N, P+N), summed over images: float64 (heads,)."""
    maps = attention[..., prefix:, prefix:].double()
    maps = maps / maps.sum(-1, keepdim=True)
    return (maps * apart).sum(-1).mean(-1).sum(0)


def _centred_gram(values: np.ndarray, size: int) -> np.ndarray:
    """(batches, size, size): inner products without their diagonal, centred for an unbiased HSIC.

    Between two such matrices the sum of products is size (size - 3) times Song's unbiased HSIC.
    """
    batches = len(values) // size
    values = np.asarray(values[: batches * size], dtype=np.float64).reshape(batches, size, -1)
    values = values - values[:, :1]  # equal rows become 0, not rounding errors, whose likeness means nothing
    others = ~np.eye(size, dtype=bool)
    gram = others * (values @ values.transpose(0, 2, 1))
    rows = gram.sum(axis=2, keepdims=True) / (size - 2)
    rows = rows - rows.sum(axis=1, keepdims=True) / (2 * (size - 1))
    return others * (gram - rows - rows.transpose(0, 2, 1))
