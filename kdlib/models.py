"""timm's networks by name, at any image size, behind one forward.

A network takes images as uint8 or floats in [0, 1] and normalises them itself, so that clean and perturbed
images are treated alike. What it returns has the same shape for every family: a method asks for the
embedding or the feature map, never for the architecture. docs/networks.md lists the families that work.
"""

import inspect
import math
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.messages import UnknownName, closest, one_line


@dataclass(frozen=True)
class ModelSpec:
    """A network by its timm name."""

    name: str = "resnet18"
    pretrained: bool = False  # timm's weights of that name, with their tag; then also timm's normalisation
    image_size: int = 32  # pixels a side, in a study the data's; others are resized before the network
    small_stem: bool = False  # CNN: 3x3 stride-1 first convolution and no max-pool, for small images
    options: dict = field(default_factory=dict)  # keyword arguments of timm's constructor


@dataclass(frozen=True)
class Output:
    """What one forward returns. B images, C classes, D channels, an h x w grid; always float32.

    The last three fields are filled on request only.
    """

    logits: Tensor  # (B, C), what the network predicts: the mean of its heads
    heads: dict[str, Tensor]  # each head's logits: (B, C), and (B, C, h, w) of a "dense" head
    embedding: Tensor  # (B, D), what the last linear layer sees
    feature_map: Tensor  # (B, D, h, w); of tokens the patches' after the last norm, row by row
    stages: tuple[Tensor, ...] = ()  # four of (B, D_k, h_k, w_k), see Network._four_stages
    prefixes: tuple[Tensor, ...] = ()  # with stages of tokens, the class token and the like: (B, P, D)
    qkv: tuple[Tensor, ...] = ()  # a ViT's queries, keys and values, (3, B, heads, P+N, d), block by block

    @property
    def tokens(self) -> Tensor:
        """(B, N, D): the feature map as tokens, row by row."""
        return self.feature_map.flatten(2).transpose(1, 2)

    @property
    def grid(self) -> tuple[int, int]:
        return tuple(self.feature_map.shape[-2:])

    @property
    def attention(self) -> list[Tensor]:
        """softmax(q kᵀ / √d) for each block: (B, heads, P+N, P+N)."""
        return [(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) for q, k, _ in self.qkv]


class Network(nn.Module):
    """A timm backbone with its normalisation.

    Args:
        spec: which network.
        num_classes: width of the last linear layer.
        mean, std: (3,) of the training pixels in [0, 1]; a pretrained network uses its own.
        seed: of the initial weights.
        heads: "class" is timm's own. "distillation" is a second one: a ViT gets a token for it, as in DeiT,
            any other network reads it from the embedding. "dense" applies the second head to every cell of
            the feature map. What the network predicts is the mean of all. The other weights stay the same.
        backbone: a trained network of your own, on the CPU, which takes normalised images; the spec then only
            names it and gives its image size. Not timm's, it has no stages, and its embedding is its logits.

    Raises UnknownName if timm has no model or weights of that name, or it takes no such option; ValueError if
    its patches don't cover the image, it can't give all of an Output at this size, or mean or std is wrong.
    """

    def __init__(
        self,
        spec: ModelSpec,
        num_classes: int,
        mean: Tensor,
        std: Tensor,
        seed: int = 0,
        heads: Collection[str] = ("class",),
        backbone: nn.Module | None = None,
    ):
        super().__init__()
        self.spec, self.heads, self.num_classes = spec, tuple(heads), num_classes
        # fork_rng: building a network leaves the caller's random numbers as they were.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.backbone = _backbone(spec, num_classes) if backbone is None else backbone
            plain = backbone is not None and not hasattr(backbone, "forward_intermediates")
            if plain:
                self.backbone = _LogitsAlone(backbone, spec.name, num_classes)
            self.has_token = "distillation" in heads and is_vit(self.backbone)
            if self.has_token:
                self.backbone = _with_another_token(self.backbone, spec, num_classes)
            self.num_prefix_tokens = getattr(self.backbone, "num_prefix_tokens", 0)
            self.embedding_dim, self.blocks = (num_classes, []) if plain else self._measured()
            if "distillation" in heads:
                self.head_dist = nn.Linear(self.embedding_dim, num_classes)
                nn.init.trunc_normal_(self.head_dist.weight, std=0.02)
                nn.init.zeros_(self.head_dist.bias)
        if spec.pretrained:
            mean, std = (self.backbone.pretrained_cfg[name] for name in ("mean", "std"))
        mean, std = (torch.as_tensor(value, dtype=torch.float32) for value in (mean, std))
        if not (mean.min() >= 0 < std.min() and max(mean.max(), std.max()) <= 1):
            raise ValueError(f"mean {mean.tolist()}, std {std.tolist()}; give those of pixels in [0, 1]")
        self.register_buffer("mean", mean.view(1, 3, 1, 1).clone())
        self.register_buffer("std", std.view(1, 3, 1, 1).clone())
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def _measured(self) -> tuple[int, list[int]]:
        """D and which intermediate maps are the four stages, read from one pass, never from the name."""
        size = self.spec.image_size
        image = torch.linspace(-1, 1, 3 * size**2).view(1, 3, size, size)
        training = self.backbone.training
        self.backbone.eval()
        try:
            features = self.backbone.forward_features(image)
            empty = len(getattr(self.backbone, "blocks", "?")) == 0  # a ViT without blocks has no stages
            maps = [] if empty else self.backbone.forward_intermediates(image)[1]
            embedding = self.backbone.forward_head(features, pre_logits=True)
            logits = self._head("class", features, embedding, self._as_map(features))
            if not torch.allclose(logits, self.backbone(image), atol=1e-4):
                raise ValueError("its last layer on its embedding doesn't give its logits")
        except Exception as error:  # of many kinds: a network fails in its own way
            told = f"doesn't work at {size} px ({one_line(error)}); take another size or network"
            raise ValueError(f"{self.spec.name} {told}") from error
        self.backbone.train(training)
        return embedding.shape[1], _four_stages([tuple(found.shape) for found in maps])

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 or [0, 1] floats (B, 3, H, W) to what the backbone expects; ValueError for other numbers."""
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(f"images are {tuple(images.shape)}; give (B, 3, H, W), in colour and square")
        if images.dtype == torch.uint8:
            images = images.float() / 255
        elif not (images.is_floating_point() and images.min() >= 0 and images.max() <= 1):
            told = f"images are {images.dtype} from {images.min():.3g} to {images.max():.3g}"
            raise ValueError(f"{told}; give uint8, or floats in [0, 1]: the network normalises them itself")
        if (side := images.shape[-1]) > self.spec.image_size:
            told = f"{self.spec.name} sees images of {side} px at {self.spec.image_size} px, its ModelSpec's"
            warnings.warn(f"{told} image_size; set that to what it was trained on", stacklevel=2)
        if side != self.spec.image_size:
            images = F.interpolate(images, (self.spec.image_size,) * 2, mode="bicubic", antialias=True)
        images = (images.float() - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor, extras: Collection[str] = ()) -> Output:
        """One pass over images (B, 3, H, W), uint8 or floats in [0, 1].

        ``extras``: the Output's fields on request, "stages" (with "prefixes"), "qkv" (ValueError: no ViT).
        """
        with _recorded_qkv(self) if "qkv" in extras else nullcontext([]) as qkv:
            images = self.normalise(images)
            if "stages" in extras:
                features, stages, prefixes = self._features_and_stages(images)
            else:
                features, stages, prefixes = self.backbone.forward_features(images), (), ()
            embedding = self.backbone.forward_head(features, pre_logits=True)
            feature_map = self._as_map(features)
            heads = {name: self._head(name, features, embedding, feature_map) for name in self.heads}
        # float32 from here on: distillation losses are sums of exponentials, which halves can't hold.
        heads = {name: logits.float() for name, logits in heads.items()}
        logits = sum(value.flatten(2).mean(2) if value.ndim == 4 else value for value in heads.values())
        if (count := logits.shape[1]) != self.num_classes:
            told = f"{self.spec.name} has {count} classes, not {self.num_classes}"
            raise ValueError(f"{told}; give Network as many as its backbone has")
        maps = (tuple(part.float() for part in parts) for parts in (stages, prefixes))
        return Output(logits / len(heads), heads, embedding.float(), feature_map.float(), *maps, tuple(qkv))

    def _features_and_stages(self, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        forward, blocks = self.backbone.forward_intermediates, sorted(set(self.blocks))
        if self.num_prefix_tokens and "return_prefix_tokens" in inspect.signature(forward).parameters:
            features, pairs = forward(images, indices=blocks, return_prefix_tokens=True)
        else:
            features, maps = forward(images, indices=blocks)
            pairs = [(stage, stage.new_zeros(len(stage), 0, stage.shape[1])) for stage in maps]
        found = dict(zip(blocks, pairs, strict=True))
        stages, prefixes = zip(*(found[block] for block in self.blocks), strict=True)
        return features, stages, prefixes if features.ndim == 3 else ()

    def _head(self, name: str, features: Tensor, embedding: Tensor, feature_map: Tensor) -> Tensor:
        if name == "distillation":
            return self.head_dist(features[:, self.num_prefix_tokens - 1] if self.has_token else embedding)
        if name == "dense":
            return self.head_dist(feature_map.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        classifier = self.backbone.get_classifier()
        # Several heads (timm's distilled DeiT) are fused in their own way; a convolution takes maps.
        single = isinstance(classifier, nn.Module) and not isinstance(classifier, nn.Conv2d)
        return classifier(embedding) if single else self.backbone.forward_head(features)

    def _as_map(self, features: Tensor) -> Tensor:
        """(B, P+N, D) tokens, or maps with channels first or last, to (B, D, h, w); images are square."""
        if features.ndim == 3:
            side = math.isqrt(features.shape[1] - self.num_prefix_tokens)
            return features[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
        rows, columns, channels = features.shape[1:]
        return features.permute(0, 3, 1, 2) if rows == columns != channels else features


def _four_stages(shapes: list[tuple[int, ...]]) -> list[int]:
    """Which of the maps of these shapes (B, D, h, w) are the stages.

    Alike, as a ViT's: at 1/6, 1/3, 5/6 and 1 of the depth; others: the last four, the first repeated.
    """
    depth, alike = len(shapes), len(set(shapes)) == 1
    parts = [math.ceil(depth / 6), math.ceil(depth / 3), 5 * depth // 6, depth]
    return [max(1, block) - 1 for block in (parts if alike else range(depth - 3, depth + 1))]


class _LogitsAlone(nn.Module):
    """timm's interface around any network that gives logits (B, C): a map of one cell."""

    def __init__(self, network: nn.Module, name: str, num_classes: int):
        super().__init__()
        self.network, self.name, self.num_classes = network, name, num_classes

    def forward_features(self, images: Tensor) -> Tensor:
        return self.network(images).flatten(1)[..., None, None]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features.flatten(1)

    def get_classifier(self) -> nn.Module:
        return nn.Identity()

    def forward_intermediates(self, images: Tensor, indices: list[int]) -> None:
        raise ValueError(f"{self.name} has no stages to read: only timm's networks do")


def is_vit(backbone: nn.Module) -> bool:
    """Whether it is timm's plain ViT, whose blocks and attention can be read."""
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(backbone, VisionTransformer)


def _backbone(spec: ModelSpec, num_classes: int) -> nn.Module:
    import timm  # here, since it takes seconds to import

    if not timm.is_model(spec.name):
        hint = closest(spec.name, timm.list_models())
        raise UnknownName(f"unknown timm model {spec.name!r}.{hint} `python -m kdlib list models` lists all.")
    weights = timm.list_pretrained(spec.name.partition(".")[0] + ".*")
    if spec.pretrained and spec.name not in weights:  # timm's own choice differs between its releases
        told = f"pretrained: {spec.name} must name its weights, one of:"
        raise UnknownName(f"{told} {', '.join(weights) or 'none'}")
    options = dict(spec.options)
    if spec.name.startswith(("vit_", "deit")) and spec.image_size < 128:
        # Small images get patches that make an 8 x 8 grid, others those of the network's name.
        options = {"patch_size": max(2, spec.image_size // 8)} | options
    # create_model's own arguments load files and change where weights come from.
    reserved = options.keys() & inspect.signature(timm.create_model).parameters
    create = partial(timm.create_model, spec.name, pretrained=spec.pretrained, num_classes=num_classes)
    try:
        if reserved:
            raise TypeError(f"not for a profile: {', '.join(sorted(reserved))}")
        try:
            model = create(**{"img_size": spec.image_size} | options)
        except TypeError as error:  # raised before a weight is drawn
            if "img_size" in options or "'img_size'" not in str(error):
                raise
            model = create(**options)
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError) as error:
        raise UnknownName(
            f"timm's {spec.name} does not take these options ({one_line(error)}); given: {', '.join(options)}"
        ) from error
    if spec.small_stem:
        _shrink_stem(model, spec.name)
    patches = getattr(model, "patch_embed", None)
    for patch in patches.patch_size if isinstance(patches, timm.layers.PatchEmbed) else ():
        if spec.image_size % patch:
            told = f"{spec.name} has patches of {patch} px, which do not divide {spec.image_size} px"
            raise ValueError(f"{told}; set image_size to a multiple of {patch}, or options.patch_size")
    return model


def _shrink_stem(model: nn.Module, name: str) -> None:
    """Replace the first convolution by 3x3, stride 1, and the max-pool, if there is one, by nothing."""
    path = model.pretrained_cfg.get("first_conv")
    if is_vit(model) or not isinstance(path, str):
        raise ValueError(f"small_stem: {name} has no single first convolution to replace; set it to false")
    if isinstance(model.get_submodule(path), nn.Sequential):  # a deep stem: three convolutions
        path = f"{path}.0"
    old = model.get_submodule(path)
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=old.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(path, new)
    if isinstance(getattr(model, "maxpool", None), nn.MaxPool2d):
        model.maxpool = nn.Identity()


def _with_another_token(plain: nn.Module, spec: ModelSpec, num_classes: int) -> nn.Module:
    """The same ViT with one more prefix token, which starts as the class token with a little noise."""
    if hasattr(plain, "dist_token") or plain.cls_token is None:
        raise ValueError(f"{spec.name} gets no distillation token: it needs a class token and no dist_token")
    count = plain.num_reg_tokens
    options = spec.options | {"reg_tokens": count + 1}
    model = _backbone(replace(spec, pretrained=False, options=options), num_classes)
    weights = plain.state_dict()
    token = weights["cls_token"] + 0.02 * torch.randn_like(weights["cls_token"])
    weights["reg_token"] = torch.cat([weights["reg_token"], token], 1) if count else token
    if not plain.no_embed_class:
        position, place = weights["pos_embed"], plain.num_prefix_tokens
        row = position[:, :1] + 0.02 * torch.randn_like(position[:, :1])
        weights["pos_embed"] = torch.cat([position[:, :place], row, position[:, place:]], 1)
    model.load_state_dict(weights)
    return model


@contextmanager
def _recorded_qkv(network: Network) -> Iterator[list[Tensor]]:
    """While open, keeps every block's queries, keys and values in a list.

    timm offers no way to them, and fused attention never forms the maps that they make: each block's linear
    layer that computes them is given a hook.
    """
    if not is_vit(network.backbone):
        raise ValueError(f"{network.spec.name} has no queries, keys and values; use a ViT")
    found: list[Tensor] = []
    hooks = [
        block.attn.qkv.register_forward_hook(
            lambda module, inputs, output, attention=block.attn: found.append(_split(attention, output))
        )
        for block in network.backbone.blocks
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _split(attention: nn.Module, output: Tensor) -> Tensor:
    """(B, P+N, 3 D) to (3, B, heads, P+N, d), normalised as the block does it."""
    parts = output.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if isinstance(attention.q_norm, nn.Identity):  # as in most: the output itself, not a copy of it
        return parts.float()
    queries, keys, values = parts
    return torch.stack([attention.q_norm(queries), attention.k_norm(keys), values]).float()
