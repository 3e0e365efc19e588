"""The baseline: cross-entropy with the labels, without a teacher. Every method is compared with it.

With the images of another method it is that method's control.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Output
from kdlib.methods.views import rotations, transformed


@dataclass(eq=False)
class Baseline(Method):
    title = "Baseline"
    uses_teacher = False
    reads = ()
    steady = True

    augmentation: Literal["plain", "rotations", "transformed"] = "plain"  # as SSKD, or CAPD by default

    def views(self, batch: Batch) -> Tensor:
        if self.augmentation == "rotations":
            return rotations(batch)
        return transformed(batch.images, 0.5) if self.augmentation == "transformed" else batch.images

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        labels = batch.labels.repeat_interleave(len(student.logits) // len(batch.labels))
        return {"label": F.cross_entropy(student.logits, labels)}
