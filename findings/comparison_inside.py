"""Rows about the inside of networks, whose weights and images are among the inputs."""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from comparison_base import OTHER, Row, tensors

VIT = {"patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3}
CNN = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
NAMES = {"vit": ("vit_tiny_patch16_224", VIT), "cnn": ("resnet18", CNN)}


def timms(x: dict, kind: str):
    """timm's network with the weights among the inputs, which takes normalised images."""
    import timm
    import torch

    timm.layers.set_fused_attn(False)  # the fused kernel keeps no attention
    name, options = NAMES[kind]
    size = {"img_size": 32} if kind == "vit" else {}
    net = timm.create_model(name, num_classes=10, **size, **options)
    state = {key.removeprefix(f"{kind} "): torch.from_numpy(x[key]) for key in x if key.startswith(kind)}
    net.load_state_dict(state)
    return net.eval()


def normalised(x: dict):
    return (tensors(x, "images")[0].float() / 255 - 0.5) / 0.25


def network(x: dict, kind: str):
    import torch

    from kdlib.models import ModelSpec, Network

    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    name, options = NAMES[kind]
    made = Network(ModelSpec(name, options=options), 10, mean, std)
    made.backbone.load_state_dict(timms(x, kind).state_dict())
    return made.eval()


def perceptron(x: dict):
    import torch

    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(192, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10)
    )
    for layer, name in ((net[1], "mlp0"), (net[3], "mlp1")):
        layer.load_state_dict({"weight": torch.from_numpy(x[name]), "bias": torch.zeros(len(x[name]))})
    return net


def our_radius(kind: str, stage: int) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from kdlib.bias.representations import receptive_field, receptive_maps

        return float(receptive_field(receptive_maps(network(x, kind), tensors(x, "images")[0]))[stage])

    return value


def radius(weights: np.ndarray) -> float:
    """Root mean square distance from the centre of mass of a map (H, W)."""
    weights = np.asarray(weights, dtype=float) / np.sum(weights)
    places = np.indices(weights.shape)
    means = [(place * weights).sum() for place in places]
    squares = sum((place - mean) ** 2 for place, mean in zip(places, means, strict=True))
    return float(np.sqrt((squares * weights).sum()))


def openerf(kind: str, layer: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from openerf import compute_erf
        from PIL import Image

        net = timms(x, kind)
        # So that its transform leaves the 32 px as they are.
        net.pretrained_cfg = {
            "input_size": (3, 32, 32),
            "crop_pct": 1.0,
            "mean": (0.5,) * 3,
            "std": (0.25,) * 3,
        }
        with TemporaryDirectory() as folder:
            for index, image in enumerate(x["images"]):
                Image.fromarray(image.transpose(1, 2, 0)).save(Path(folder) / f"{index}.png")
            options = {"target_layer": layer, "device": "cpu", "show_progress": False}
            return radius(compute_erf(net, image_dir=folder, **options).erf_map)

    return value


def their_saliency(x: dict) -> float:
    from captum.attr import Saliency

    net = timms(x, "cnn")

    def centre(images):
        maps = net.forward_intermediates(images, indices=[3], intermediates_only=True)[0]
        return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].sum(1)

    found = Saliency(centre).attribute(normalised(x).requires_grad_())
    return radius(found.sum(1).mean(0).numpy())


def our_reach(x: dict) -> float:
    from kdlib.bias.representations import attention_distance

    return float(attention_distance(network(x, "vit"), tensors(x, "images")[0]).distance.mean())


def their_reach(prefix: bool) -> Callable[[dict], float]:
    """Mean distance of attention, where the class token as a key is 0 px away or left out."""

    def value(x: dict) -> float:
        import torch
        from timm.utils import AttentionExtract

        with torch.no_grad():
            maps = AttentionExtract(timms(x, "vit"))(normalised(x))
        cells = torch.cartesian_prod(torch.arange(4), torch.arange(4)).float()
        apart = 8 * torch.cdist(cells, cells)
        attention = torch.stack([found[:, :, 1:, 1:] for found in maps.values()])
        whole = 1 if prefix else attention.sum(-1, keepdim=True)
        return (attention / whole * apart).sum(-1).mean().item()

    return value


def spread(patches) -> float:
    """Deviation over mean of the class token's weights of the patches: 0 where it sees all alike."""
    return float(patches.std() / patches.mean())


def our_rollout(x: dict) -> float:
    """Abnar and Zuidema's equation of the attention that our networks give."""
    import torch

    with torch.no_grad():
        attention = network(x, "vit")(tensors(x, "images")[0][:1], ["qkv"]).attention
    total = torch.eye(17)
    for found in attention:
        total = (found[0].mean(0) + torch.eye(17)) / 2 @ total
    return spread(total[0, 1:])


def fast_rollout(**options) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from fast_vit_rollout import ViTAttentionRollout

        return spread(ViTAttentionRollout(timms(x, "vit"), **options)(normalised(x)[:1])[0, 0, 1:])

    return value


def torchxai_rollout(x: dict) -> float:
    import torch
    from torchxai.methods.attention_rollout import AttentionRollout

    patches = AttentionRollout(timms(x, "vit"), device=torch.device("cpu"))._compute_cam(
        normalised(x)[:1], None
    )
    return spread(torch.from_numpy(np.asarray(patches).copy()))


def our_interactions(x: dict) -> float:
    import torch

    from kdlib.bias.representations import interactions
    from kdlib.models import ModelSpec, Network

    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    mine = Network(ModelSpec("mine", image_size=8), 10, mean, std, backbone=perceptron(x))
    found = interactions(mine, *tensors(x, "small", "small_labels"))
    return float(found["far"].mean() / found["near"].mean())


def margins(x: dict) -> Callable:
    """The label's logit minus the mean of the others, of images (n, 3, 8, 8) in [0, 255] and one label."""
    net = perceptron(x)

    def margin(images, label: int):
        logits = net((images.float() / 255 - 0.5) / 0.25)
        return logits[:, label] - (logits.sum(1) - logits[:, label]) / 9

    return margin


def patches_of(places: list[int]):
    """bool (3, 8, 8): the pixels of these of the 4 x 4 patches."""
    import torch

    hidden = torch.zeros(16, dtype=torch.bool)
    hidden[places] = True
    return hidden.view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1).expand(3, 8, 8)


def far_over_near(strength: dict[tuple[int, int], list[float]]) -> float:
    apart = {pair: math.dist(divmod(pair[0], 4), divmod(pair[1], 4)) for pair in strength}
    near = np.mean([strength[pair] for pair in strength if apart[pair] == 1])
    return float(np.mean([strength[pair] for pair in strength if apart[pair] >= 2]) / near)


def shapiqs(index: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        import torch
        from shapiq import ExactComputer

        images, labels = tensors(x, "small", "small_labels")
        fill = images.double().mean((0, 2, 3)).round().view(3, 1, 1)
        margin, strength = margins(x), {}
        for image, label in zip(images, labels, strict=True):

            def game(coalitions: np.ndarray, image=image, label=int(label)) -> np.ndarray:
                kept = torch.stack([patches_of(np.flatnonzero(row).tolist()) for row in coalitions])
                with torch.no_grad():
                    return margin(torch.where(kept, image.double(), fill), label).double().numpy()

            found = ExactComputer(game, 16)(index, order=2)
            for pair in combinations(range(16), 2):
                strength.setdefault(pair, []).append(abs(found[pair]))
        return far_over_near(strength)

    return value


def ablation(x: dict) -> float:
    """Captum's, of every patch alone and of every two together."""
    from captum.attr import FeatureAblation

    images, labels = tensors(x, "small", "small_labels")
    fill = images.double().mean((0, 2, 3)).round().view(1, 3, 1, 1)
    method, strength = FeatureAblation(margins(x)), {}
    for image, label in zip(images.double(), labels, strict=True):

        def lost(*places: int, image=image, label=int(label)) -> float:
            mask = patches_of(list(places)).long()[None]
            options = {"feature_mask": mask, "baselines": fill.expand(1, 3, 8, 8)}
            found = method.attribute(image[None], additional_forward_args=label, **options)
            return found[mask.bool()][0].item()

        for pair in combinations(range(16), 2):
            together = lost(*pair) - lost(pair[0]) - lost(pair[1])
            strength.setdefault(pair, []).append(abs(together))
    return far_over_near(strength)


TIMM, OPENERF, CAPTUM = "timm 1.0.31", "openerf 0.6.1", "captum 0.9.0"
FAST, XAI, SHAPIQ = "fast-vit-rollout 0.1.1", "torchxai-explain 0.3.0", "shapiq 1.4.1"
DISCARD = "The lowest 90% of each map are set to 0 by default"
EQUATION = "Abnar and Zuidema 2020 set none to 0: our attention by their equation."
INSIDE = [
    Row(CAPTUM, "Saliency, radius of the receptive field", "inside", our_radius("cnn", 2), their_saliency),
    Row(
        OPENERF,
        "compute_erf, radius, CNN",
        "inside",
        our_radius("cnn", 2),
        openerf("cnn", "layer3"),
        "Colours are added before negative gradients are set to 0; ours adds absolute values. Luo et al. "
        "2016 leave the sign open.",
    ),
    Row(
        OPENERF,
        "compute_erf, radius, ViT before the last norm",
        "inside",
        our_radius("vit", 3),
        openerf("vit", "blocks.3"),
        "As for a CNN; and the unit lies above and left of the middle of a ViT's grid, below and right of a "
        "CNN's. Ours takes the latter for both.",
    ),
    Row(
        TIMM,
        "AttentionExtract, distance of its maps",
        "inside",
        our_reach,
        their_reach(False),
        tolerance=1e-4,
    ),
    Row(
        TIMM,
        "AttentionExtract, distance with what goes to the class token at 0 px",
        "inside",
        our_reach,
        their_reach(True),
        "A share of attention has no distance. Dosovitskiy et al. 2021 don't say; ours leaves it out.",
        OTHER,
    ),
    Row(
        FAST,
        "ViTAttentionRollout(discard_ratio=0)",
        "inside",
        our_rollout,
        fast_rollout(discard_ratio=0.0),
        tolerance=1e-4,
    ),
    Row(
        FAST,
        "ViTAttentionRollout, spread over the patches",
        "inside",
        our_rollout,
        fast_rollout(),
        f"{DISCARD}, diagonal included. {EQUATION}",
    ),
    Row(
        XAI,
        "AttentionRollout, spread over the patches",
        "inside",
        our_rollout,
        torchxai_rollout,
        f"{DISCARD}, and the largest head counts, not the mean. {EQUATION}",
    ),
    Row(
        CAPTUM,
        "FeatureAblation of one and of two, far/near",
        "inside",
        our_interactions,
        ablation,
        tolerance=1e-3,
    ),
    Row(
        SHAPIQ,
        'ExactComputer("Co-Moebius"), far/near',
        "inside",
        our_interactions,
        shapiqs("Co-Moebius"),
        tolerance=1e-3,
    ),
    Row(
        SHAPIQ,
        'ExactComputer("SII"), far/near',
        "inside",
        our_interactions,
        shapiqs("SII"),
        "The mean over all sets of other patches that may be hidden too. Grabisch and Roubens 1999 define "
        "both; ours hides two of an image that is otherwise whole.",
        OTHER,
    ),
]
