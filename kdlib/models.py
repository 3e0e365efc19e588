"""timm's CNNs and ViTs by name, at any image size, behind one forward.

A network takes images as uint8 or floats in [0, 1] and normalises them itself, so that clean and perturbed
images are treated alike. What it returns has the same shape for both families: a method asks for the
embedding or the feature map, never for the architecture.
"""

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.names import UnknownName, check


@dataclass(frozen=True)
class ModelSpec:
    """A network by its timm name."""

    name: str = "resnet18"
    pretrained: bool = False  # timm's weights; then also timm's normalisation
    image_size: int = 32  # pixels; images of another size are resized before the network
    small_stem: bool = False  # CNN: 3x3 stride-1 first convolution and no max-pool, for small images
    options: dict = field(default_factory=dict)  # keyword arguments of timm's constructor


@dataclass(frozen=True)
class Output:
    """What one forward returns. B images, C classes, D channels, an h x w grid; always float32."""

    logits: Tensor  # (B, C)
    embedding: Tensor  # (B, D), what the last linear layer sees
    feature_map: Tensor | None  # (B, D, h, w); for a ViT the patch tokens after the last norm, row by row
    attention: list[Tensor] | None = None  # for each block (B, heads, P+N, P+N), P prefix tokens

    @property
    def tokens(self) -> Tensor:
        """(B, N, D): the feature map as tokens, row by row."""
        return self.feature_map.flatten(2).transpose(1, 2)

    @property
    def grid(self) -> tuple[int, int]:
        return tuple(self.feature_map.shape[-2:])


class Network(nn.Module):
    """A timm backbone with its normalisation.

    Args:
        spec: which network.
        num_classes: width of the last linear layer.
        mean, std: (3,) of the training pixels in [0, 1]; a pretrained network uses its own.
        seed: of the initial weights.

    Raises:
        UnknownName: if timm has no model of that name, or the model takes no such option.
    """

    def __init__(self, spec: ModelSpec, num_classes: int, mean: Tensor, std: Tensor, seed: int = 0):
        super().__init__()
        self.spec = spec
        # fork_rng: building a network leaves the caller's random numbers as they were.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.backbone = _backbone(spec, num_classes)
        if spec.pretrained:
            config = self.backbone.pretrained_cfg
            mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
        self.register_buffer("mean", mean.view(1, 3, 1, 1).clone())
        self.register_buffer("std", std.view(1, 3, 1, 1).clone())
        self.num_prefix_tokens = getattr(self.backbone, "num_prefix_tokens", 0)
        self.to(memory_format=torch.channels_last)

    @property
    def embedding_dim(self) -> int:
        """D, the width of what the last linear layer sees."""
        return getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 or [0, 1] floats (B, 3, H, W) to what the backbone expects."""
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        size = self.spec.image_size
        if images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
        images = (images - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor, attention: bool = False) -> Output:
        """One pass over images (B, 3, H, W), uint8 or floats in [0, 1].

        Args:
            attention: also return the attention maps; only for ViTs.

        Raises:
            ValueError: if attention maps are asked of a network that has none.
        """
        autocast = torch.autocast("cuda", torch.bfloat16) if images.is_cuda else nullcontext()
        with ExitStack() as stack:
            stack.enter_context(autocast)
            maps = stack.enter_context(_recorded_attention(self)) if attention else None
            features = self.backbone.forward_features(self.normalise(images))
            embedding = self.backbone.forward_head(features, pre_logits=True)
            classifier = self.backbone.get_classifier()
            # A network with several heads (a distilled DeiT) fuses them in its own way.
            single = isinstance(classifier, nn.Module)
            logits = classifier(embedding) if single else self.backbone.forward_head(features)
        # float32 from here on: distillation losses are sums of exponentials, which halves can't hold.
        return Output(logits.float(), embedding.float(), self._as_map(features).float(), maps)

    def _as_map(self, features: Tensor) -> Tensor:
        if features.ndim == 3:
            tokens = features[:, self.num_prefix_tokens :]
            rows, columns = self.backbone.patch_embed.grid_size
            return tokens.transpose(1, 2).unflatten(2, (rows, columns))
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features


def _backbone(spec: ModelSpec, num_classes: int) -> nn.Module:
    if not timm.is_model(spec.name):
        try:
            check("timm model", spec.name, timm.list_models())
        except UnknownName as error:
            hint = str(error).split(" Valid:")[0]
            raise UnknownName(f"{hint} `python -m kdlib list models` lists all.") from None
    options = dict(spec.options)
    if spec.name.startswith(("vit_", "deit")):
        options = {"img_size": spec.image_size, "patch_size": _patch_size(spec)} | options
    try:
        model = timm.create_model(spec.name, pretrained=spec.pretrained, num_classes=num_classes, **options)
    except TypeError as error:
        raise UnknownName(
            f"timm's {spec.name} does not take these options ({error}); given: {', '.join(options)}"
        ) from error
    if spec.small_stem:
        _shrink_stem(model, spec.name)
    return model


def _patch_size(spec: ModelSpec) -> int:
    """Small images get patches that make an 8 x 8 grid; from 128 pixels on, 16 x 16 patches."""
    return 16 if spec.image_size >= 128 else max(2, spec.image_size // 8)


def _shrink_stem(model: nn.Module, name: str) -> None:
    """Replace the first convolution by 3x3, stride 1, and the max-pool, if there is one, by nothing."""
    path = model.pretrained_cfg.get("first_conv")
    if isinstance(model, VisionTransformer) or not isinstance(path, str):
        raise ValueError(f"small_stem: {name} has no single first convolution to replace; set it to false")
    if isinstance(model.get_submodule(path), nn.Sequential):  # a deep stem: three convolutions
        path = f"{path}.0"
    old = model.get_submodule(path)
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=old.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)
    if isinstance(getattr(model, "maxpool", None), nn.MaxPool2d):
        model.maxpool = nn.Identity()


class _recorded_attention:
    """While open, keeps softmax(q k^T / sqrt d) of every block in a list.

    Fused attention never forms these maps, and timm offers no other way to them: each block's attention
    module is given a hook that computes the map from the module's own input.
    """

    def __init__(self, network: Network):
        if not isinstance(network.backbone, VisionTransformer):
            raise ValueError(f"{network.spec.name} has no attention maps; ask a ViT")
        self.blocks = network.backbone.blocks

    def __enter__(self) -> list[Tensor]:
        maps: list[Tensor] = []
        self.hooks = [
            block.attn.register_forward_pre_hook(
                lambda module, inputs: maps.append(_attention(module, inputs[0]))
            )
            for block in self.blocks
        ]
        return maps

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


def _attention(module: nn.Module, tokens: Tensor) -> Tensor:
    batch, count, _ = tokens.shape
    queries, keys, _ = (
        module.qkv(tokens).reshape(batch, count, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
    )
    queries, keys = module.q_norm(queries), module.k_norm(keys)
    return ((queries @ keys.transpose(-2, -1)).float() * module.scale).softmax(-1)
