"""The baseline: cross-entropy with the labels, without a teacher. Every method is compared with it."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method
from kdlib.methods.views import rotations, transformed
from kdlib.models import Output


@dataclass(eq=False)
class Baseline(Method):
    """Cross-entropy alone. With the images of another method it is that method's control."""

    title = "Baseline"
    paper = "—"
    matches = "nothing"
    uses_teacher = False
    reads = ()
    steady = True

    augmentation: Literal["plain", "rotations", "transformed"] = "plain"  # as SSKD, or CAPD by default

    def views(self, batch: Batch) -> Tensor:
        if self.augmentation == "rotations":
            return rotations(batch)
        if self.augmentation == "transformed":
            return transformed(batch.images, 0.5)
        return batch.images

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        labels = batch.labels.repeat_interleave(len(student.logits) // len(batch.labels))
        return {"label": F.cross_entropy(student.logits, labels)}
