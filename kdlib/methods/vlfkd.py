"""VLFKD: visual-linguistic feature distillation with decoupled logits, after C2VKD.

A ViT's patch tokens are aligned with a CNN's last feature map: cell by cell, in the correlations between
cells, and as one vector that an attention pool makes of the map. Because the teacher makes mistakes, only
its confidence in the labelled class is distilled, mixed half and half with the label.

Zheng, Luo, Zhou, Wang: Distilling Efficient Vision Transformers from CNNs for Semantic Segmentation, 2023
(arXiv:2310.07265), here for whole images. With X: (B, D, g, g) the student's map, T: (B, C_4, g, g) the
teacher's, resized, S = A_v X, G the pool, R(·): (B, N, N) the correlations between cells over channels,
s and t the probabilities of the label's class and q = (t + 1) / 2:

    L_global     = mean_cells KL(softmax T || softmax S)
    L_patch      = mean (R(S) - R(T))²
    L_linguistic = KL(softmax G(T) || softmax A_l mean_cells X)
    L_pdd        = ½ KL((s, 1 - s) || (q, 1 - q))
    L = CE + w_pdd L_pdd + w_global L_global + w_patch L_patch + w_linguistic L_linguistic

The authors' pool is unpublished. Here G is trained with a linear classifier on the teacher's maps for an
epoch, then frozen. Deviations from their code: a label term, since the gradient of L_pdd vanishes where s
is near 0; divergences are summed over channels; R is computed for each image. ``faithful=True`` undoes
these. Their ``patch_weight`` is 0.1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, check_cells, example_output
from kdlib.methods.dkd import split_log_probabilities
from kdlib.methods.lm import soft_divergence


class AttentionPool(nn.Module):
    """One vector of a feature map, (B, C, h, w) to (B, E): the mean cell attends to all, as in CLIP's."""

    def __init__(self, channels: int, cells: int, width: int):
        super().__init__()
        # The largest power of two that divides the channels into heads of at least 64: CLIP's 32 of 2048.
        self.heads = math.gcd(channels, 1 << (max(1, channels // 64).bit_length() - 1))
        self.position = nn.Parameter(torch.randn(1 + cells, channels) / channels**0.5)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, width)

    def forward(self, feature_map: Tensor) -> Tensor:
        tokens = feature_map.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.position
        parts = self.query(tokens[:, :1]), self.key(tokens), self.value(tokens)
        parts = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(*parts).flatten(1))


def cells(feature_map: Tensor) -> Tensor:
    """(B, C, h, w) to (B h w, C)."""
    return feature_map.movedim(1, -1).flatten(0, 2)


def correlations(feature_map: Tensor) -> Tensor:
    """Between the cells of each image, over channels: (B, N, N)."""
    tokens = feature_map.flatten(2).transpose(1, 2)
    # Standardised in one pass; eps only keeps a cell without variance at 0.
    tokens = F.layer_norm(tokens, tokens.shape[2:], eps=1e-24)
    return tokens @ tokens.transpose(1, 2) / tokens.shape[2]


def batch_covariances(feature_map: Tensor) -> Tensor:
    """The authors' R: between all cells of the batch, of normalised channels, (B N, B N)."""
    tokens = F.normalize(cells(feature_map), dim=1)
    tokens = tokens - tokens.mean(1, keepdim=True)
    return tokens @ tokens.T / (tokens.shape[1] - 1)


def decoupled_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """L_pdd of logits (B, C) and labels (B,)."""
    student, _ = split_log_probabilities(student_logits, labels)
    teacher, _ = split_log_probabilities(teacher_logits, labels)
    # A fully confident teacher would make log(1 - q) infinite.
    mixed = ((teacher[:, :1].exp() + 1) / 2).clamp(1e-4, 1 - 1e-4)
    mixed = torch.cat([mixed, 1 - mixed], dim=1).log()
    return 0.5 * F.kl_div(mixed, student, reduction="batchmean", log_target=True)


@dataclass(eq=False)
class VLFKD(Method):
    """Weights for CIFAR-10 and the reductions above. E of 128 suits 512 channels; for 2048 take 512."""

    title = "VLFKD"
    reads = ("logits", "feature_map")
    steady = True

    pdd_weight: float = 1.0
    global_weight: float = 0.1
    patch_weight: float = 1.0
    linguistic_weight: float = 0.5
    embedding: int = 128  # E, the width of the pooled vector
    stage_epochs: int = 1  # in which the pool is trained
    faithful: bool = False  # no label term, means over channels too, one R for the whole batch

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        taught, learned = example_output(teacher, train), example_output(student, train)
        check_cells("VLFKD", teacher, taught.grid)
        check_cells("VLFKD", student, learned.grid)
        channels, width = taught.feature_map.shape[1], learned.feature_map.shape[1]
        pool = AttentionPool(channels, taught.feature_map[0, 0].numel(), self.embedding)
        self.teacher_part = nn.Sequential(pool, nn.Linear(self.embedding, taught.logits.shape[1]))
        self.align_visual = nn.Conv2d(width, channels, 1, bias=False)
        self.align_linguistic = nn.Linear(width, self.embedding, bias=False)

    def stage(self, batch: Batch, teacher: Output) -> dict[str, Tensor]:
        logits = self.teacher_part(teacher.feature_map)
        hits = logits.argmax(1) == batch.labels
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": hits.float().mean()}

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        with torch.no_grad():
            words = self.teacher_part[0](teacher.feature_map)
            target = F.interpolate(teacher.feature_map, student.grid, mode="bilinear")
        visual = self.align_visual(student.feature_map)
        linguistic = self.align_linguistic(student.feature_map.mean((2, 3)))
        relations = batch_covariances if self.faithful else correlations
        visual_size, linguistic_size = (target.shape[1], words.shape[1]) if self.faithful else (1, 1)
        global_loss = soft_divergence(cells(visual), cells(target), 1.0) / visual_size
        linguistic_loss = soft_divergence(linguistic, words, 1.0) / linguistic_size
        terms = {
            "pdd": self.pdd_weight * decoupled_loss(student.logits, teacher.logits, batch.labels),
            "global": self.global_weight * global_loss,
            "patch": self.patch_weight * F.mse_loss(relations(visual), relations(target)),
            "linguistic": self.linguistic_weight * linguistic_loss,
        }
        label = {} if self.faithful else {"label": F.cross_entropy(student.logits, batch.labels)}
        return label | terms
