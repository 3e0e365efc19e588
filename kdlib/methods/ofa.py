"""OFA-KD: one-for-all distillation, made for different architectures.

Hidden features of different architectures cannot be compared, but logits can. Each stage of the student
gets an exit branch that ends in logits, and all branches learn the teacher's final prediction.

Hao, Guo, Han, Tang, Hu, Wang, Xu: One-for-All: Bridge the Gap Between Heterogeneous Architectures in
Knowledge Distillation, NeurIPS 2023 (arXiv:2310.19444), as the authors' code has it. With z, p: (B, C), m the
one-hot label, z_1 ... z_4 the branches' logits, and an exponent e that stresses the true class:

    l(z) = -mean_b Σ_c [(p_t[c] + m[c])^e - m[c]] log p[c],    p = softmax(z)
    L = CE + w_logits l(z_s) + w_branches Σ_k l(z_k)

The branch at stage k of a CNN has 4 - k separable blocks that halve the grid (at stage 4 a 1x1 convolution)
up to max(D_s, D_t) channels, then average pooling and a linear layer. The branch of a ViT merges 2 x 2
patches while 7 x 7 or more are left, and has max(4 - k, 1) transformer blocks and a linear layer on the
class token. The authors double a CNN's channels from block to block. Here they are the student's widths of
the following stages, which is the same for ResNets.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, example_output


def enhanced_loss(logits: Tensor, teacher_logits: Tensor, labels: Tensor, exponent: float) -> Tensor:
    """l of a head's logits (B, C); at exponent 1 the cross-entropy with the teacher's distribution."""
    label = torch.zeros_like(logits).scatter_(1, labels[:, None], 1.0)
    target = (teacher_logits.softmax(1) + label) ** exponent - label
    return -(target * logits.log_softmax(1)).sum(1).mean()


def separable(width: int, out: int) -> nn.Sequential:
    """Two depthwise separable convolutions, the first of stride 2."""
    layers: list[nn.Module] = []
    for stride, wide in ((2, width), (1, out)):
        layers += [
            nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
            nn.Conv2d(width, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def map_branch(widths: list[int], out: int, classes: int) -> nn.Sequential:
    """Logits from a CNN's stage (B, D, h, w); ``widths`` are its own and those of the stages after it."""
    path = [*widths[:-1], out]
    blocks = [separable(*pair) for pair in pairwise(path)] or [nn.Conv2d(widths[0], out, 1)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(out, classes))


class TokenBranch(nn.Module):
    """Logits from a ViT's stage (B, D, h, w) and its prefix tokens (B, P, D)."""

    def __init__(self, width: int, grid: tuple[int, ...], depth: int, classes: int):
        from timm.models.vision_transformer import Block

        super().__init__()
        self.merges = nn.ModuleList()
        while all(side % 2 == 0 and side >= 14 for side in grid):
            layers = nn.LayerNorm(4 * width), nn.Linear(4 * width, width, bias=False), nn.GELU()
            self.merges.append(nn.Sequential(*layers))
            grid = tuple(side // 2 for side in grid)
        heads = max(count for count in (1, 2, 3, 4) if width % count == 0)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.classify = nn.Linear(width, classes)

    def forward(self, stage: Tensor, prefix: Tensor) -> Tensor:
        for merge in self.merges:
            stage = merge(F.pixel_unshuffle(stage, 2).movedim(1, -1)).movedim(-1, 1)
        tokens = self.blocks(torch.cat([prefix, stage.flatten(2).transpose(1, 2)], dim=1))
        return self.classify(tokens[:, 0] if prefix.shape[1] else tokens.mean(1))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@dataclass(eq=False)
class OFA(Method):
    """Authors, for CIFAR-100: e 1, weights 1 in the code; their runs gave the branches 0.1. 0.2 is ours."""

    title = "OFA-KD"
    reads_student = ("stages",)

    exponent: float = 1.0
    logits_weight: float = 1.0
    branch_weight: float = 0.2

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        example = example_output(student, train)
        widths, classes = [stage.shape[1] for stage in example.stages], example.logits.shape[1]
        out = max(student.embedding_dim, teacher.embedding_dim)
        self.branches = nn.ModuleList()
        for index, stage in enumerate(example.stages):
            if example.prefixes:
                branch = TokenBranch(widths[index], stage.shape[-2:], max(3 - index, 1), classes)
            else:
                branch = map_branch(widths[index:], out, classes)
            self.branches.append(branch.apply(_initialise))

    def branch_logits(self, student: Output) -> list[Tensor]:
        """Each branch's (B, C), from the first stage to the last."""
        inputs = zip(*filter(None, (student.stages, student.prefixes)), strict=True)
        return [branch(*parts) for branch, parts in zip(self.branches, inputs, strict=True)]

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        heads = [student.logits, *self.branch_logits(student)]
        final, *branches = (enhanced_loss(z, teacher.logits, batch.labels, self.exponent) for z in heads)
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "logits": self.logits_weight * final,
            "branches": self.branch_weight * torch.stack(branches).sum(),
        }
