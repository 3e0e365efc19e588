"""RSD: redundancy suppression distillation.

Over a batch, each dimension of the student's projected embedding must correlate with the same dimension of
the teacher's and with no other. This keeps what the two architectures share and suppresses what only one has.
A projector separates this constraint from the student's own embedding.

Zhang, Liu, Ran, Ma: Cross-Architecture Distillation Made Simple with Redundancy Suppression, ICCV 2025
(arXiv:2507.21844). With S, T: (B, D) the student's projected and the teacher's embedding, each column
standardised over the batch,

    C = Tᵀ S / B,   L = CE + w [ Σ_i (C_ii - 1)² + κ Σ_{i≠j} C_ij² ]

The loss grows with D, the teacher's width, so w is a weight for networks of about one size. Loss and
projector follow the authors' code, except its initial weights; the running moments of `translate` are ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split

EPSILON = 1e-5  # added to a column's standard deviation
MOMENTUM = 0.1  # of the running moments that `translate` uses


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of the columns of (B, D)."""
    return values.mean(0), values.std(0, correction=0)


def _standard(values: Tensor) -> Tensor:
    mean, std = moments(values)
    return (values - mean) / (std + EPSILON)


def redundancy_loss(student: Tensor, teacher: Tensor, kappa: float) -> Tensor:
    """Squared distance of the cross-correlation of (B, D) and (B, D) from the identity.

    ``kappa`` is the weight of the entries off the diagonal.
    """
    correlation = _standard(teacher).T @ _standard(student) / len(student)
    diagonal = correlation.diagonal()
    rest = correlation.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().sum() + kappa * rest


@dataclass(eq=False)
class RSD(Method):
    title = "RSD"
    reads = ("embedding",)
    steady = True

    weight: float = 0.1
    kappa: float = 0.01
    widening: int = 2  # of the projector's hidden layer, times the student's width

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        width, hidden = student.embedding_dim, self.widening * student.embedding_dim
        self.projector = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, teacher.embedding_dim, bias=False),
        )
        # Running means and standard deviations of the projected and of the teacher's embedding.
        self.register_buffer("running", torch.zeros(4, teacher.embedding_dim))

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        projected = self.projector(student.embedding)
        self._seen = torch.stack([*moments(projected.detach()), *moments(teacher.embedding)])
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "redundancy": self.weight * redundancy_loss(projected, teacher.embedding, self.kappa),
        }

    @torch.no_grad()
    def after_step(self) -> dict[str, Tensor]:
        self.running.lerp_(self._seen, MOMENTUM)
        return {}

    @torch.no_grad()
    def translate(self, embedding: Tensor) -> Tensor:
        """A student's embedding (B, D_s) as one of the teacher's (B, D), for the teacher's own head."""
        mean, std, teacher_mean, teacher_std = self.running
        standard = (self.projector(embedding) - mean) / (std + EPSILON)
        return standard * teacher_std + teacher_mean
