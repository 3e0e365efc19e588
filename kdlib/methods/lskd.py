"""LSKD: logit-standardised knowledge distillation.

One temperature for both networks forces the student to copy the range of the teacher's logits. Here each
logit vector is first standardised to mean 0 and standard deviation 1, so that only its shape is matched.

Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation, CVPR 2024 (arXiv:2403.01427). With
z: (B, C), and mean and std over the C classes,

    ẑ = (z - mean(z)) / std(z)
    L = CE + w(progress) T² KL(softmax(ẑ_t / T) || softmax(ẑ_s / T))
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Output, ramp
from kdlib.methods.lm import soft_divergence


def standardise(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Logits (B, C) with mean 0 and standard deviation 1 (of C - 1 degrees of freedom) in every row."""
    # Gradients pass through the student's mean and deviation, so that its range stays free.
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + eps)


@dataclass(eq=False)
class LSKD(Method):
    """Authors' code, for CIFAR-100: T 2, weight 9.

    CIFAR-10: T 1.2. A standardised one-hot answer has a gap of √C between its two levels. With ten classes
    the top one would get only 0.35 at T 2; at T 1.2 it gets 0.61, as with 100 classes at T 2. The weight
    rises from zero because gradients are huge while the student's logits hardly vary.
    """

    title = "LSKD"
    least_classes = 3

    weight: float = 9.0
    temperature: float = 1.2
    warmup: float = 0.05  # share of the steps in which the weight rises

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        learned, taught = standardise(student.logits), standardise(teacher.logits)
        factor = ramp(batch.progress, self.warmup) * self.weight
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "logits": factor * soft_divergence(learned, taught, self.temperature),
        }
