"""DIST: distillation from a stronger teacher.

A teacher that is much stronger, or of another architecture, cannot be matched exactly. So the loss asks
only for linear correlation: of each image's class probabilities, and of each class's probabilities across
the batch.

Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher, NeurIPS 2022 (arXiv:2205.10536).
With Y = softmax(z / T): (B, C) and ρ Pearson's correlation,

    L_inter = 1 - mean_b ρ(Y_s[b, :], Y_t[b, :]),   L_intra = 1 - mean_c ρ(Y_s[:, c], Y_t[:, c])
    L = CE + w(progress) T² (β L_inter + γ L_intra)
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Output, ramp


def correlation_distance(student: Tensor, teacher: Tensor, eps: float = 1e-8) -> Tensor:
    """1 - Pearson's correlation of corresponding rows, averaged over them; a constant row correlates 0."""
    student = student - student.mean(1, keepdim=True)
    teacher = teacher - teacher.mean(1, keepdim=True)
    scale = student.norm(dim=1) * teacher.norm(dim=1) + eps
    return 1 - ((student * teacher).sum(1) / scale).mean()


@dataclass(eq=False)
class DIST(Method):
    """Authors' code: β 1, γ 1, T 1. The weight 2 and its rise are ours.

    While a student gives the same answer for all images, the correlation's gradient is huge. So the weight
    rises from zero while the labels separate the images. Correlations over a batch need 64 images or more.
    """

    title = "DIST"
    least_classes = 3

    weight: float = 2.0
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0
    warmup: float = 0.05  # share of the steps in which the weight rises

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        learned = (student.logits / self.temperature).softmax(1)
        taught = (teacher.logits / self.temperature).softmax(1)
        factor = ramp(batch.progress, self.warmup) * self.weight * self.temperature**2
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "inter": factor * self.beta * correlation_distance(learned, taught),
            "intra": factor * self.gamma * correlation_distance(learned.T, taught.T),
        }
