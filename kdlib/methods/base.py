"""The interface between a distillation method and the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, get_args, get_origin

import torch
from torch import Tensor, nn

from kdlib.data import Split
from kdlib.messages import check
from kdlib.models import Network, Output


@dataclass(frozen=True)
class Batch:
    """B training images and what a method may need to know about them."""

    images: Tensor  # (V B, 3, H, W) uint8, as both networks see them: V views of each image in turn
    labels: Tensor  # (B,) int64
    indices: Tensor  # (B,) int64, the images' places in the training split
    progress: float  # share of the run's steps that are done, in [0, 1)
    originals: Tensor  # (B, 3, H, W) uint8, before augmentation
    flip: Tensor  # (B,) bool, which of them the augmentation mirrored


@dataclass(eq=False)
class Method(nn.Module):
    """A method names the outputs it reads, builds its trained parts, and returns the terms of its loss.

    A subclass is a dataclass: its fields are the hyper-parameters, with their defaults. Modules and buffers
    made in :meth:`build` are trained with the student, saved in checkpoints, and dropped at the end.
    """

    title: ClassVar[str]  # for tables and figures
    uses_teacher: ClassVar[bool] = True
    least_classes: ClassVar[int] = 2  # with fewer, a term of its loss would be constant
    reads: ClassVar[tuple[str, ...]] = ("logits",)  # fields of the teacher's Output; empty: no forward of it
    reads_student: ClassVar[tuple[str, ...]] = ()  # fields of the student's Output that come on request only
    heads: ClassVar[tuple[str, ...]] = ("class",)  # the student's heads, as for Network
    # Whether every step does the same on the device, whatever the batch's progress: such a step is replayed.
    steady: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__init__()
        for field in fields(self):
            if get_origin(field.type) is Literal:
                kind = f"{field.name} of {type(self).__name__}"
                check(kind, getattr(self, field.name), get_args(field.type))
        # Set in build, if the method has them:
        self.teacher_part: nn.Module | None = None  # trained on the teacher alone beforehand, then frozen
        self.own_optimiser: torch.optim.Optimizer | None = None  # of parts that train against the student

    def build(self, student: Network, teacher: Network | None, train: Split) -> None:
        """Make the trained parts; called once, before the first step, with the seed set.

        Raises ValueError with fewer classes than the method needs.
        """
        if (classes := student.backbone.num_classes) < self.least_classes:
            raise ValueError(
                f"{self.title} needs {self.least_classes} classes or more, and these data have {classes}: it "
                "transfers how the wrong classes compare; leave it out"
            )

    def stage(self, batch: Batch, teacher: Output) -> dict[str, Tensor]:
        """The loss of training ``teacher_part`` for ``stage_epochs``, as "loss", and values to record."""
        raise NotImplementedError

    def views(self, batch: Batch) -> Tensor:
        """The images that both networks see in place of the batch's: (V B, 3, H, W)."""
        return batch.images

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name, each a scalar; the loss is their sum."""
        raise NotImplementedError

    def after_step(self) -> dict[str, Tensor]:
        """Called after the optimiser's step, e.g. to update a memory; returns values to record."""
        return {}

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters that the student's optimiser updates, by name."""
        groups = self.own_optimiser.param_groups if self.own_optimiser else []
        own = {id(parameter) for group in groups for parameter in group["params"]}
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and id(parameter) not in own
        }


def ramp(progress: float, end: float, start: float = 0.0) -> float:
    """The factor of a weight that rises linearly from 0 to 1 between two shares of the run's steps.

    Multiply by it even where it is 0: training refuses a part without a gradient.
    """
    return 1.0 if progress >= end else max(0.0, (progress - start) / (end - start))


@torch.no_grad()
def example_output(network: Network, train: Split) -> Output:
    """A network's output with its stages, for two training images, to read widths and grids from.

    In evaluation mode, which leaves the statistics of batch norms as they are.
    """
    training, device = network.training, next(network.parameters()).device
    output = network.eval()(train.images[:2].to(device), ("stages",))
    network.train(training)
    return output


@torch.no_grad()
def outputs(network: Network, images: Tensor, batch_size: int = 500) -> Iterator[Output]:
    """The network's outputs for images (N, 3, H, W), batch by batch, in evaluation mode on its own device."""
    network.eval()
    device = next(network.parameters()).device
    for part in images.split(batch_size):
        yield network(part.to(device))


def check_cells(title: str, network: Network, grid: tuple[int, int]) -> None:
    """Raise ValueError below 2 x 2 cells: in a single one the local and the global are the same."""
    rows, columns = grid
    if min(rows, columns) < 2:
        raise ValueError(
            f"{title} needs at least 2 x 2 cells; {network.spec.name} has {rows} x {columns}: "
            "take larger images, smaller patches for a ViT, or set small_stem for a CNN"
        )
