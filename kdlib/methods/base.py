"""What a distillation method is to the training loop."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from kdlib.data import Split
from kdlib.models import Network, Output


@dataclass(frozen=True)
class Batch:
    """B augmented training images and what a method may want to know of them."""

    images: Tensor  # (B, 3, H, W) uint8
    labels: Tensor  # (B,) int64
    indices: Tensor  # (B,) int64, the images' places in the training split
    progress: float  # share of the run's steps that are done, in [0, 1)


@dataclass(eq=False)
class Method(nn.Module):
    """A method names what it reads of the teacher, builds its trained parts, and returns its loss as terms.

    A subclass is a dataclass: its fields are the hyper-parameters, with their defaults. Modules and buffers
    that it makes in :meth:`build` are trained with the student, saved in checkpoints, and dropped at the end.
    """

    title: ClassVar[str]  # for tables and figures
    paper: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ("logits",)  # fields of the teacher's Output; empty: no teacher

    def __post_init__(self) -> None:
        super().__init__()

    def build(self, student: Network, teacher: Network | None, train: Split) -> None:
        """Make the trained parts; called once, before the first step, with the seed set."""

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name, each a scalar; the loss is their sum."""
        raise NotImplementedError

    def after_step(self) -> None:
        """What is to be done after the optimiser's step, e.g. a memory update."""
