"""LM: logit matching, the original knowledge distillation.

Both class distributions are softened with a temperature, and the student's is made to match the teacher's
while it still fits the labels.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531), section 2:

    L = w_label CE(z_s, y) + w_logits T² KL(softmax(z_t / T) || softmax(z_s / T)),    z_s, z_t: (B, C)
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method
from kdlib.models import Output


def soft_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher || student) of the softened distributions, averaged over the batch.

    Args:
        student_logits, teacher_logits: (B, C).
        temperature: T; the factor T² keeps the gradient's size independent of it (section 2.1).
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


@dataclass(eq=False)
class LogitMatching(Method):
    """Temperature and weights as in the field's reference implementations for CIFAR."""

    title = "LM"
    paper = "Hinton et al. 2015"
    matches = "softened class probabilities"

    temperature: float = 4.0
    label_weight: float = 0.1
    logits_weight: float = 0.9

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        return {
            "label": self.label_weight * F.cross_entropy(student.logits, batch.labels),
            "logits": self.logits_weight * soft_divergence(student.logits, teacher.logits, self.temperature),
        }
