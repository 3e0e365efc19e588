"""CRD: contrastive representation distillation.

Student and teacher embeddings are projected onto one sphere. By noise-contrastive estimation, the student's
projection of an image must pick out the teacher's projection of the same image among K others, and vice
versa. So the loss transfers relations between images rather than logits.

Tian, Krishnan, Isola: Contrastive Representation Distillation, ICLR 2020 (arXiv:1910.10699), equations 17-19
with the memory bank of Wu et al. 2018 (arXiv:1805.01978). With v: (B, d) of one network, M: (n, d) the memory
of the other, J: (B, K+1) the positive and K negatives of each row:

    a = exp(<v, M[J]> / T),   q = a / Z,   c = K / n
    L_side = mean_b [ -log(q_b0 / (q_b0 + c)) - Σ_k log(c / (q_bk + c)) ]
    L = CE + w (L_student + L_teacher)

Z is estimated on the first batch and kept. Deviation, for short runs: the memory of an image is random until
that image has been seen once, so by default the positive is the other network's *live* projection.
``positive="memory"`` is the paper's choice.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split


def contrastive_loss(positive: Tensor, negatives: Tensor, normaliser: Tensor, noise: float) -> Tensor:
    """Noise-contrastive estimation of one side, with ``normaliser`` Z and ``noise`` c = K / n.

    ``positive`` (B,) and ``negatives`` (B, K) are similarities <v, M> / T.
    """
    # log(1 + c / q) and log(1 + q / c) of logarithms: one pass over B K numbers, and one backward.
    shift = (normaliser * noise).log()
    return (F.softplus(shift - positive) + F.softplus(negatives - shift).sum(1)).mean()


def draw_negatives(labels: Tensor, by_class: Tensor, starts: Tensor, sizes: Tensor, count: int) -> Tensor:
    """``count`` images of other classes for each label (B,), uniformly with replacement: (B, count) int64.

    Args:
        by_class: (n,) the training images' indices, sorted by class.
        starts, sizes: (C,) where each class lies in ``by_class``.
    """
    # Halves of int64 are read and written: the draws are a third of the loss's time.
    start, size = starts[labels].int()[:, None], sizes[labels].int()[:, None]
    others = len(by_class) - size
    place = (torch.rand(len(labels), count, device=labels.device) * others).int()
    # Rounding may reach `others` itself. Then step over the image's own class.
    place = torch.minimum(place, others - 1)
    place += size * (place >= start)
    return by_class.index_select(0, place.flatten()).view_as(place)


@dataclass(eq=False)
class CRD(Method):
    """Paper: negatives 16384, dimension 128, temperature 0.07, momentum 0.5, weight 0.8.

    CIFAR-10 in a few epochs: 4096 negatives, enough to cover the memory's 50,000 images.
    """

    title = "CRD"
    reads = ("embedding",)
    steady = True

    weight: float = 0.8
    temperature: float = 0.07
    dimension: int = 128
    negatives: int = 4096
    momentum: float = 0.5
    positive: Literal["live", "memory"] = "live"

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        if len(train.labels.unique()) < 2:
            raise ValueError("CRD draws negatives from other classes; the training images have only one")
        self.project_student = nn.Linear(student.embedding_dim, self.dimension)
        self.project_teacher = nn.Linear(teacher.embedding_dim, self.dimension)
        bound = math.sqrt(3 / self.dimension)  # for rows of expected norm 1, as the projections have
        for side in ("student", "teacher"):
            memory = torch.empty(len(train), self.dimension).uniform_(-bound, bound)
            self.register_buffer(f"memory_{side}", memory)
            self.register_buffer(f"normaliser_{side}", torch.zeros(()))
        self.started = False
        sizes = torch.bincount(train.labels)
        # Not in checkpoints: a function of the training labels.
        self.register_buffer("by_class", train.labels.argsort(stable=True), persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("starts", sizes.cumsum(0) - sizes, persistent=False)

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        v_student = F.normalize(self.project_student(student.embedding), dim=1)
        v_teacher = F.normalize(self.project_teacher(teacher.embedding), dim=1)
        negatives = draw_negatives(batch.labels, self.by_class, self.starts, self.sizes, self.negatives)
        contrast = self._side("student", v_student, v_teacher, self.memory_teacher, batch.indices, negatives)
        contrast += self._side("teacher", v_teacher, v_student, self.memory_student, batch.indices, negatives)
        self.started = True
        self._seen = batch.indices, v_student.detach(), v_teacher.detach()
        return {"label": F.cross_entropy(student.logits, batch.labels), "contrast": self.weight * contrast}

    def _side(
        self, side: str, own: Tensor, other: Tensor, memory: Tensor, indices: Tensor, negatives: Tensor
    ) -> Tensor:
        own = own / self.temperature
        positive = (own * (other.detach() if self.positive == "live" else memory[indices])).sum(1)
        # One product with the whole memory, then a gather: (B, K, d) is never formed.
        negative = (own @ memory.T).gather(1, negatives)
        normaliser = getattr(self, f"normaliser_{side}")
        if not self.started:  # or it went on from a checkpoint, which has a normaliser
            scores = torch.cat([positive[:, None], negative], dim=1).detach().exp()
            normaliser.copy_(torch.where(normaliser > 0, normaliser, len(memory) * scores.mean()))
        return contrastive_loss(positive, negative, normaliser, self.negatives / len(memory))

    @torch.no_grad()
    def after_step(self) -> dict[str, Tensor]:
        """Move the batch's own memory rows toward their new projections."""
        indices, *projections = self._seen
        for memory, new in zip((self.memory_student, self.memory_teacher), projections, strict=True):
            mixed = self.momentum * memory[indices] + (1 - self.momentum) * new
            memory[indices] = F.normalize(mixed, dim=1)
        return {}
