"""Three remedies that test which predictions survive a change of an unwanted cue: marginalise, gate, counter.

A teacher may have a property that is wanted and one that is not. Versions of an image in which only the
unwanted cue is changed (:mod:`kdlib.data.properties`) separate the two. With x' such a version of x, p_T the
teacher's softened prediction, and LM's weights,

    marginalise   L = w_label CE + w_logits T² KL( mean_k p_T(x'_k) || q_T(x) )
    gate          L = w_label CE + w_logits T² mean_i[ g_i KL(p_T(x_i) || q_T(x_i)) ]
                  g_i = 1 - JS(p(x_i), p(x'_i)) / ln 2, or max_c p_c(x_i), divided by its mean
    counter       L = LM's on x + w_counter CE(z_s(x'), y)

The student sees ordinary images, except with the last remedy, which a practitioner would try first. Selection
by confidence follows Roth et al. 2024 (arXiv:2310.17653). Without a change all of them are LM; the random
numbers are torch's, so a run that is resumed draws the same.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.data.properties import PROPERTIES, Treatment
from kdlib.methods.base import Batch, Network, Output, Split
from kdlib.methods.lm import LogitMatching, divergences


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Of the distributions of two logits (B, C), in nats: (B,), from 0 to ln 2."""
    first, second = (logits.log_softmax(1) for logits in (first, second))
    middle = torch.logaddexp(first, second) - math.log(2)
    parts = [F.kl_div(middle, one, reduction="none", log_target=True).sum(1) for one in (first, second)]
    return (parts[0] + parts[1]) / 2


@dataclass(eq=False)
class _Versions(LogitMatching):
    steady = False

    cue: str = "texture"  # the property whose change of images leaves the wanted cue as it is
    dose: float = 1.0  # as for the property; 0 changes nothing

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        Treatment(self.cue, self.dose)  # raises for another property, or a dose that is none of its
        self._teacher = (teacher.eval(),)  # in a tuple: no part of the method's state

    def changed(self, images: Tensor) -> Tensor:
        """A version of each image (B, 3, H, W); textures and shapes come from others of the batch."""
        keys = torch.randint(1 << 62, (len(images),), device=images.device)
        return PROPERTIES[self.cue].function(images, keys, self.dose, images)

    @torch.no_grad()
    def asked(self, images: Tensor) -> Tensor:
        return self._teacher[0](images).logits

    def terms(self, logits: Tensor, labels: Tensor, found: Tensor) -> dict[str, Tensor]:
        return {
            "label": self.label_weight * F.cross_entropy(logits, labels),
            "logits": self.logits_weight * found.mean(),
        }


@dataclass(eq=False)
class Marginalise(_Versions):
    title = "Marginalise"
    reads = ()

    versions: int = 4  # images that the teacher is asked about for each of the student's

    def forward(self, batch: Batch, student: Output, teacher: Output | None) -> dict[str, Tensor]:
        logits = torch.stack([self.asked(self.changed(batch.images)) for _ in range(self.versions)])
        target = (logits / self.temperature).log_softmax(2).logsumexp(0) - math.log(self.versions)
        found = divergences(student.logits, target, self.temperature)
        return self.terms(student.logits, batch.labels, found)


@dataclass(eq=False)
class Gate(_Versions):
    title = "Gate"

    by: Literal["cue", "confidence"] = "cue"  # what opens the gate: withstanding the change, or confidence

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        if self.by == "confidence":
            gate = teacher.logits.softmax(1).amax(1)
        else:
            other = self.asked(self.changed(batch.images))
            gate = 1 - jensen_shannon(teacher.logits, other) / math.log(2)
        gate = gate / gate.mean()
        target = (teacher.logits / self.temperature).log_softmax(1)
        found = gate * divergences(student.logits, target, self.temperature)
        return self.terms(student.logits, batch.labels, found)


@dataclass(eq=False)
class CounterAugment(_Versions):
    title = "Counter-augmentation"

    counter_weight: float = 1.0

    def views(self, batch: Batch) -> Tensor:
        return torch.stack([batch.images, self.changed(batch.images)], dim=1).flatten(0, 1)

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        ordinary, changed = student.logits[::2], student.logits[1::2]
        target = (teacher.logits[::2] / self.temperature).log_softmax(1)
        terms = self.terms(ordinary, batch.labels, divergences(ordinary, target, self.temperature))
        return terms | {"counter": self.counter_weight * F.cross_entropy(changed, batch.labels)}
