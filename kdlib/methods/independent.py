"""The independent student: cross-entropy with the labels, no teacher. What every method is compared with."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method
from kdlib.models import Output


@dataclass(eq=False)
class Independent(Method):
    """Cross-entropy alone."""

    title = "Independent"
    paper = "—"
    uses_teacher = False
    reads = ()

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        return {"label": F.cross_entropy(student.logits, batch.labels)}
