"""DKD: decoupled knowledge distillation.

The divergence of logit matching has two parts: the teacher's confidence in the true class, and its ranking of
the others. Logit matching mutes the second where the teacher is confident; here each part has its own weight.

Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation, CVPR 2022 (arXiv:2203.08679). With p: (B, C)
the distributions softened by T, b = (p[y], 1 - p[y]): (B, 2), and q: (B, C-1) those over the other classes,

    TCKD = KL(b_t || b_s),   NCKD = KL(q_t || q_s),   KL(p_t || p_s) = TCKD + (1 - p_t[y]) NCKD
    L = CE + w(progress) T² (α TCKD + β NCKD)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Output, ramp


def split_log_probabilities(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """log b, (B, 2): the true class and all others together; log q, (B, C-1): the others among themselves.

    Of logits (B, C) that are already divided by the temperature, and labels (B,).
    """
    classes = logits.shape[1]
    steps = torch.arange(1, classes, device=labels.device)
    others = logits.gather(1, (labels[:, None] + steps) % classes)
    true = logits.gather(1, labels[:, None])
    # As sums of exponentials: log(1 - p) of a p that rounds to 1 would be -inf.
    both = torch.cat([true, others.logsumexp(1, keepdim=True)], dim=1)
    return both.log_softmax(1), others.log_softmax(1)


def decoupled_divergences(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of every sample, (B,) each, without the factor T²."""
    student = split_log_probabilities(student_logits / temperature, labels)
    teacher = split_log_probabilities(teacher_logits / temperature, labels)
    pairs = zip(student, teacher, strict=True)
    return tuple(F.kl_div(*pair, reduction="none", log_target=True).sum(1) for pair in pairs)


@dataclass(eq=False)
class DKD(Method):
    """Paper, for CIFAR-100: α 1, β 2 to 8 by pair of networks, T 4, weights that rise over 20 of 240 epochs.

    CIFAR-10: β 2. With T² the second part is large for nine other classes; a larger β would outweigh the
    labels.
    """

    title = "DKD"
    least_classes = 3

    alpha: float = 1.0
    beta: float = 2.0
    temperature: float = 4.0
    warmup: float = 0.08  # share of the steps in which both weights rise

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        target, nontarget = decoupled_divergences(
            student.logits, teacher.logits, batch.labels, self.temperature
        )
        factor = ramp(batch.progress, self.warmup) * self.temperature**2
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "target": factor * self.alpha * target.mean(),
            "nontarget": factor * self.beta * nontarget.mean(),
        }
