"""SSKD: self-supervised knowledge distillation.

A head on the frozen teacher learns which upright image a rotated one was made of. Its similarities, right
and wrong, show how the teacher represents the images. The student imitates them and the teacher's logits on
all four rotations. Rotated images on which the teacher is badly wrong are left out.

Xu, Liu, Li, Loy: Knowledge Distillation Meets Self-Supervision, ECCV 2020 (arXiv:2006.07114). Each image has
views turned by 0, 90, 180 and 270 degrees; u: (B, d) are the upright ones' embeddings and r: (3 B, d) the
others', so that row j belongs to image j // 3; Q is a perceptron with one hidden layer:

    A[j, i] = cos(Q(r_j), Q(u_i))                                                A_s, A_t: (3 B, B)
    beforehand, Q_t alone:   CE(A_t / T_1, j // 3)
    L = w_label CE(z_s(u), y) + w_logits T² KL(p_t(u) || p_s(u)) + w_transformed T² KL(p_t(r) || p_s(r))
        + w_similarity T_A² KL(softmax(A_t / T_A) || softmax(A_s / T_A))

The last two are averages over the rows that :func:`kept_rows` keeps. Deviation, because the head is trained
for one epoch instead of 60: T_1 = 1/2, since cosines make a weak softmax; the paper's code has T_1 = 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split
from kdlib.methods.lm import divergences, soft_divergence
from kdlib.methods.views import rotations


def apart(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(4 B, C) to the upright views' (B, C) and the rotated ones' (3 B, C)."""
    views = rows.unflatten(0, (-1, 4))
    return views[:, 0], views[:, 1:].flatten(0, 1)


def similarity(projected: Tensor) -> Tensor:
    """Cosine of every rotated view with every upright one: (3 B, B), from the views' (4 B, d)."""
    upright, rotated = apart(F.normalize(projected, dim=1))
    return rotated @ upright.T


def kept_rows(scores: Tensor, correct: Tensor, ratio: float) -> Tensor:
    """The rows to learn from, (R,) bool: all where the teacher is right, and the least wrong of the others.

    Args:
        scores: (R, K), of the teacher.
        correct: (R,) the right column of each row.
        ratio: share of the wrong rows to keep, rounded down.
    """
    # Stable sorts, so that ties are broken the same way on every machine.
    order = scores.argsort(dim=1, descending=True, stable=True)
    rank = (order == correct[:, None]).long().argmax(1)
    wrong = (rank > 0).sum()
    place = rank.argsort(stable=True).argsort()
    return place < len(rank) - wrong + (ratio * wrong).floor()


def divergence_of_kept(student: Tensor, teacher: Tensor, temperature: float, kept: Tensor) -> Tensor:
    """T² KL(teacher || student) of the softened rows (R, K), averaged over those that are kept; 0 if none."""
    rows = divergences(student, (teacher / temperature).log_softmax(1), temperature)
    # Weights, not a selection: the host need not wait for the number of rows.
    return (rows * kept).sum() / kept.sum().clamp(min=1)


def perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def own_image(batch: Batch) -> Tensor:
    """Which image of the batch each rotated view shows: (3 B,)."""
    return torch.arange(len(batch.labels), device=batch.labels.device).repeat_interleave(3)


@dataclass(eq=False)
class SSKD(Method):
    """Weights, temperatures and ratios of the authors' code, except ``stage_temperature``."""

    title = "SSKD"
    reads = ("logits", "embedding")
    steady = True

    label_weight: float = 0.1
    logits_weight: float = 0.9
    transformed_weight: float = 2.7
    similarity_weight: float = 10.0
    temperature: float = 4.0
    similarity_temperature: float = 0.5
    transformed_ratio: float = 1.0  # share of the wrong rows that are kept
    similarity_ratio: float = 0.75
    stage_temperature: float = 0.5
    stage_epochs: int = 1

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        self.teacher_part = perceptron(teacher.embedding_dim)
        self.project = perceptron(student.embedding_dim)

    def views(self, batch: Batch) -> Tensor:
        return rotations(batch)

    def stage(self, batch: Batch, teacher: Output) -> dict[str, Tensor]:
        found, image = similarity(self.teacher_part(teacher.embedding)), own_image(batch)
        return {
            "loss": F.cross_entropy(found / self.stage_temperature, image),
            "accuracy": (found.argmax(1) == image).float().mean(),
        }

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        (upright_s, rotated_s), (upright_t, rotated_t) = (apart(net.logits) for net in (student, teacher))
        found = similarity(self.project(student.embedding))
        target, image = similarity(self.teacher_part(teacher.embedding)), own_image(batch)
        well_named = kept_rows(rotated_t, batch.labels[image], self.transformed_ratio)
        well_matched = kept_rows(target, image, self.similarity_ratio)
        transformed = divergence_of_kept(rotated_s, rotated_t, self.temperature, well_named)
        similar = divergence_of_kept(found, target, self.similarity_temperature, well_matched)
        return {
            "label": self.label_weight * F.cross_entropy(upright_s, batch.labels),
            "logits": self.logits_weight * soft_divergence(upright_s, upright_t, self.temperature),
            "transformed": self.transformed_weight * transformed,
            "similarity": self.similarity_weight * similar,
        }
