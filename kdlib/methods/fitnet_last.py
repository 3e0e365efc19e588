"""FitNet at the last layer: the student's embedding, through a trained linear map, reproduces the teacher's.

A middle layer's map is far from the decision; the embedding is what the last layer reads. Because the map
leads to the teacher's own space, the teacher's frozen head can read the student through it: what the student
knows but its own head does not use shows there.

After Romero et al. (ICLR 2015, arXiv:1412.6550), with the hint at the last hidden layer. With e_s: (B, D_s),
e_t: (B, D_t), r a linear map, and V the mean squared distance of the teacher's embeddings from their mean,

    L = CE + w |r(e_s) - e_t|² / V,    read by the teacher's head: z = head_t(r(e_s))

averaged over the batch. Predicting the mean embedding costs about 1, so w, which is ours, is 1. It is no
option of FitNet: that would change the identity of FitNet's runs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, outputs

IMAGES = 2000  # of the training set, at most, that the embeddings' variance is measured on


def embeddings(network: Network, images: Tensor) -> Tensor:
    """(N, D) of images (N, 3, H, W), in evaluation mode."""
    return torch.cat([output.embedding for output in outputs(network, images)])


@torch.no_grad()
def read_by_teacher(method: Method, student: Network, teacher: Network, images: Tensor) -> Tensor:
    """Logits (N, C) of the teacher's frozen head on a student's embeddings, which the method translates."""
    method.eval()
    return teacher.backbone.get_classifier()(method.translate(embeddings(student, images)))


@dataclass(eq=False)
class FitNetLast(Method):
    title = "FitNet (last layer)"
    reads = ("embedding",)
    steady = True

    weight: float = 1.0

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        self.regressor = nn.Linear(student.embedding_dim, teacher.embedding_dim)
        found = embeddings(teacher, train.subset(IMAGES).images)
        variance = found.var(0, correction=0).sum().clamp(min=1e-12)
        self.register_buffer("variance", variance.to(train.images.device))

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        distance = (self.regressor(student.embedding) - teacher.embedding).square().sum(1).mean()
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "hint": self.weight * distance / self.variance,
        }

    @torch.no_grad()
    def translate(self, embedding: Tensor) -> Tensor:
        """A student's embedding (B, D_s) as one of the teacher's (B, D_t), for the teacher's own head."""
        return self.regressor(embedding)
