"""Two controls that separate what LM's teacher says about the class from what it says about the image.

Class means: each image gets the teacher's mean softened answer to the training images of its class. The
teacher is not asked again after that. With K_y the training images of class y, not augmented,

    P_y = mean_{i in K_y} softmax(z_t(i) / T),   L = w_label CE + w_logits T² KL(P_y || softmax(z_s / T))

Within-class exchange: each image gets the teacher's answer to another image of its class in the batch. So a
class's answers in a batch stay the same set, with their softness, confidence and confusions. An image that is
alone in its class keeps its own answer: 1 in 750 with 10 classes and batches of 64, but half of them with 100
classes.

    L = w_label CE + w_logits T² KL(softmax(z_t(π(i)) / T) || softmax(z_s(i) / T)),    y(π(i)) = y(i)

What LM carries over beyond them is what the teacher knows of the image. Where the teacher errs often the
exchange is label noise of its own, and the class means are the fairer control.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlib.methods.base import Batch, Network, Output, Split, outputs
from kdlib.methods.lm import LogitMatching


def class_means(network: Network, train: Split, classes: int, temperature: float, size: int = 500) -> Tensor:
    """Mean softened answer to each class's images, (C, C), on the images' device; rows sum to 1."""
    total = torch.zeros(classes, classes, dtype=torch.float64)
    for output, labels in zip(outputs(network, train.images, size), train.labels.split(size), strict=True):
        answers = (output.logits / temperature).softmax(1)
        total.index_add_(0, labels.cpu(), answers.cpu().double())
    count = torch.bincount(train.labels.cpu(), minlength=classes)[:, None]
    # A class without images is never asked for; uniform keeps its logarithm finite.
    means = torch.where(count > 0, total / count.clamp(min=1), 1 / classes)
    return means.float().to(train.images.device)


def within_class(labels: Tensor) -> Tensor:
    """For each image of a batch (B,) the place of the next one of its class, in turn: (B,) int64."""
    order = labels.argsort(stable=True)
    classes = labels[order]
    place = torch.arange(len(labels), device=labels.device)
    last = place + 1 == torch.searchsorted(classes, classes, right=True)
    following = torch.where(last, torch.searchsorted(classes, classes), place + 1)
    return torch.empty_like(order).scatter_(0, order, order[following])


@dataclass(eq=False)
class ClassMeans(LogitMatching):
    title = "LM, class means"
    reads = ()

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        means = class_means(teacher.eval(), train, teacher.backbone.num_classes, self.temperature)
        # As logits that the temperature turns into these means, so that the loss is LM's own.
        self.register_buffer("means", self.temperature * means.clamp(min=1e-30).log())

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        return super().forward(batch, student, replace(student, logits=self.means[batch.labels]))


@dataclass(eq=False)
class WithinClass(LogitMatching):
    title = "LM, exchanged within classes"

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        exchanged = teacher.logits[within_class(batch.labels)]
        return super().forward(batch, student, replace(teacher, logits=exchanged))
