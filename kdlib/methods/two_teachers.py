"""Two remedies that compare the teacher with others of its architecture: mask and contrast.

Mask leaves out the distillation term, and not the labels, on the images where the made teacher and the plain
one differ most. With r_i the rank of KL(p_T(made) || p_T(plain)) over the n training images, not augmented,

    L = w_label CE + w_logits T² mean_i[ m_i KL(p_T(x_i) || q_T(x_i)) ],   m_i = [r_i <= (1 - q) n] / (1 - q)

so the sum of the weights stays. Its control drops a random share q. Contrast takes from the teacher's logits
what another one with the unwanted property alone has beyond the plain one,

    z = z_t - a (z_unwanted - z_plain),   L = LM's with z in place of z_t

With q = 0 or a = 0 both are LM.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.data import Split
from kdlib.methods.base import Batch
from kdlib.methods.cue_versions import divergences
from kdlib.methods.lm import LogitMatching
from kdlib.models import Network, Output
from kdlib.names import check


@torch.no_grad()
def logits_of(network: Network, images: Tensor, batch_size: int = 500) -> Tensor:
    """(N, C) of images (N, 3, H, W), in evaluation mode."""
    device = next(network.parameters()).device
    network.eval()
    return torch.cat([network(part.to(device)).logits for part in images.split(batch_size)])


@dataclass(eq=False)
class _Compared(LogitMatching):
    paper = "ours"
    steady = False
    others: ClassVar[tuple[str, ...]] = ()  # the other teachers that it needs, by what they are

    def give(self, networks: Mapping[str, Network]) -> None:
        """The other teachers; called before :meth:`build`."""
        self._networks = dict(networks)  # a dict: no part of the method's state

    def other(self, name: str) -> Network:
        """One of the other teachers, in evaluation mode.

        Raises:
            ValueError: it was not given.
        """
        found = getattr(self, "_networks", {}).get(name)
        if found is None:
            raise ValueError(f"{self.title} compares teachers; give it the others: {', '.join(self.others)}")
        return found.eval()


@dataclass(eq=False)
class Mask(_Compared):
    """``choice`` is the remedy's, "largest", or its control's, "random"."""

    title = "Mask"
    matches = "softened class probabilities where two teachers agree"
    others = ("plain",)

    share: float = 0.25
    choice: Literal["largest", "random"] = "largest"

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        check("choice of Mask", self.choice, ("largest", "random"))
        if not 0 <= self.share < 1:
            raise ValueError(f"share of Mask is {self.share}; give a number from 0 to below 1")
        if self.choice == "random":
            order = torch.rand(len(train)).argsort()
        else:
            made, plain = (logits_of(network, train.images) for network in (teacher, self.other("plain")))
            target = (made / self.temperature).log_softmax(1)
            order = divergences(plain, target, self.temperature).argsort(stable=True)
        weights = torch.full((len(train),), 1 / (1 - self.share))
        weights[order[len(train) - round(self.share * len(train)) :].cpu()] = 0
        self.register_buffer("weights", weights.to(train.images.device))

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        target = (teacher.logits / self.temperature).log_softmax(1)
        found = self.weights[batch.indices] * divergences(student.logits, target, self.temperature)
        return {
            "label": self.label_weight * F.cross_entropy(student.logits, batch.labels),
            "logits": self.logits_weight * found.mean(),
        }


@dataclass(eq=False)
class Contrast(_Compared):
    """``strength`` is a, fixed at 1 beforehand and swept from 0 to 2."""

    title = "Contrast"
    matches = "class probabilities less those of an unwanted property"
    others = ("unwanted", "plain")

    strength: float = 1.0

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        self._pair = tuple(self.other(name) for name in self.others)

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        with torch.no_grad():
            unwanted, plain = (network(batch.images).logits for network in self._pair)
        logits = teacher.logits - self.strength * (unwanted - plain)
        return super().forward(batch, student, replace(teacher, logits=logits))
