"""DeiT: hard-label distillation with a separate token.

A ViT gets a second learned token beside the class token. Its head is trained on the teacher's predicted
class, while the class token's head is trained on the label. At test time the two are averaged.

Touvron et al.: Training data-efficient image transformers & distillation through attention, ICML 2021
(arXiv:2012.12877), equation 3. With z_c, z_d: (B, C) of the student's two heads and z_t: (B, C):

    L = w_label CE(z_c, y) + w_decision CE(z_d, argmax z_t)

The teacher sees the same augmented image as the student, so its prediction may differ from the label where a
crop hides the object; this is intended. A student without tokens reads both heads from its embedding. That is
hard-label distillation with two heads rather than DeiT, with the same code.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Output


def decision_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy with the teacher's predicted class, averaged over images and cells: (B, C, ...) each."""
    return F.cross_entropy(student_logits, teacher_logits.argmax(1))


@dataclass(eq=False)
class DeiT(Method):
    """Both weights as in the paper, which also smooths the labels, by 0.1."""

    title = "DeiT"
    heads = ("class", "distillation")

    label_weight: float = 0.5
    decision_weight: float = 0.5
    smoothing: float = 0.0  # of the labels only; none by default, like every other method here

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        label = F.cross_entropy(student.heads["class"], batch.labels, label_smoothing=self.smoothing)
        return {
            "label": self.label_weight * label,
            "decision": self.decision_weight * decision_loss(student.heads["distillation"], teacher.logits),
        }
