"""LM: logit matching, the original knowledge distillation.

Both class distributions are softened by a temperature. The student's is trained to match the teacher's
while it still fits the labels.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531), section 2:

    L = w_label CE(z_s, y) + w_logits T² KL(softmax(z_t / T) || softmax(z_s / T)),    z_s, z_t: (B, C)
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Output


def soft_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher || student) of the softened distributions of logits (B, C), averaged over the batch.

    The factor keeps the gradient's size independent of the temperature T (section 2.1).
    keras', KD-Lib's and nvidia-modelopt's defaults differ: docs/other_libraries.md.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def divergences(student_logits: Tensor, log_target: Tensor, temperature: float) -> Tensor:
    """T² KL of each row (B,), from logits and a softened target's log probabilities, (B, C) each."""
    student = F.log_softmax(student_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, log_target, reduction="none", log_target=True).sum(1)


@dataclass(eq=False)
class LogitMatching(Method):
    """Temperature and weights as in the field's reference implementations for CIFAR."""

    title = "LM"
    steady = True

    temperature: float = 4.0
    label_weight: float = 0.1
    logits_weight: float = 0.9

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        return {
            "label": self.label_weight * F.cross_entropy(student.logits, batch.labels),
            "logits": self.logits_weight * soft_divergence(student.logits, teacher.logits, self.temperature),
        }


def shuffle_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Each wrong class gets the logit of the next wrong one, the right class its own: (B, C), labels (B,)."""
    wrong = (labels[:, None] + torch.arange(1, logits.shape[1], device=logits.device)) % logits.shape[1]
    return logits.scatter(1, wrong, logits.gather(1, wrong.roll(-1, dims=1)))


@dataclass(eq=False)
class ShuffledLogitMatching(LogitMatching):
    """The control for the information in the teacher's wrong classes, whose probabilities are exchanged.

    If this has the same effect as LM, class similarity is not the reason.
    """

    title = "LM, shuffled classes"
    least_classes = 3

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        shuffled = shuffle_wrong(teacher.logits, batch.labels)
        return super().forward(batch, student, replace(teacher, logits=shuffled))
