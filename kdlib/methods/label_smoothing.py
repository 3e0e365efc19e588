"""Label smoothing with the teacher's mean entropy: the control for soft targets as such.

The student has no teacher, only labels that are as uncertain as the teacher is on average. If distillation
changes more than this, the reason is what the teacher says about each image, not that targets are soft.

Müller, Kornblith, Hinton: When Does Label Smoothing Help?, NeurIPS 2019 (arXiv:1906.02629), section 1, with
H the entropy, p_t: (n, C) the teacher's distributions on training images, and ε found before the first step:

    L = CE(z_s, (1 - ε) onehot(y) + ε / C),    H((1 - ε) onehot + ε / C) = mean_n H(p_t)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, outputs

IMAGES = 2000  # of the training set, at most, that the teacher's entropy is measured on


def smoothed_entropy(epsilon: float, classes: int) -> float:
    """Entropy in nats of (1 - ε) onehot + ε / C."""
    from scipy.special import xlogy  # here, since no other method needs scipy

    rest = epsilon / classes
    true = 1 - (classes - 1) * rest
    return -xlogy(true, true) - (classes - 1) * xlogy(rest, rest)


def epsilon_of(entropy: float, classes: int) -> float:
    """The ε whose smoothed labels have this entropy; at most 1, which is the uniform distribution."""
    from scipy.optimize import brentq

    if entropy >= smoothed_entropy(1.0, classes):
        return 1.0
    return brentq(lambda epsilon: smoothed_entropy(epsilon, classes) - entropy, 0.0, 1.0)


def mean_entropy(network: Network, images: Tensor, temperature: float) -> float:
    """Mean entropy of the network's softened distributions on images (N, 3, H, W), in nats."""
    logits = torch.cat([output.logits for output in outputs(network, images)])
    log_p = (logits / temperature).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean().item()


@dataclass(eq=False)
class LabelSmoothing(Method):
    """Temperature 1: the uncertainty that the teacher itself states. 4 gives labels as soft as LM's."""

    title = "Label smoothing"
    reads = ()
    steady = True

    temperature: float = 1.0

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        images = train.subset(IMAGES).images
        entropy = mean_entropy(teacher, images, self.temperature)
        # A buffer, so that checkpoints keep it and no step waits for its value on the host.
        self.register_buffer("epsilon", torch.tensor(epsilon_of(entropy, teacher.backbone.num_classes)))

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        classes = student.logits.shape[1]
        certain = torch.zeros_like(student.logits).scatter_(1, batch.labels[:, None], 1.0)
        return {
            "label": F.cross_entropy(student.logits, (1 - self.epsilon) * certain + self.epsilon / classes)
        }
