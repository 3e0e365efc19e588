"""The state of a run between two epochs, enough to resume it, and the time that its parts take."""

import json
import math
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib import disk
from kdlib.methods import Method
from kdlib.models import Network


@dataclass
class Progress:
    """How far a run has come, and all that is needed to resume it."""

    history: list[dict]  # a row an epoch: terms of the loss, accuracies
    timing: list[dict]  # a row an epoch: seconds by part
    tensors: dict[str, Tensor]  # student, method and optimisers

    @property
    def diverged(self) -> bool:
        """Whether the loss, or after the last step the network's answers, are no longer finite."""
        last = self.history[-1] if self.history else {}
        return not all(math.isfinite(last.get(name, 0.0)) for name in ("loss", "test_accuracy"))

    def write(self, path: Path) -> None:
        arrays = {name: value.detach().cpu().numpy() for name, value in self.tensors.items()}
        arrays |= {name: np.array(json.dumps(getattr(self, name))) for name in ("history", "timing")}
        disk.write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> "Progress | None":
        """What was written; None if nothing was, or, with a warning, if it is damaged."""
        arrays = disk.read_arrays(path)
        if arrays is None:
            return None
        history, timing = (json.loads(str(arrays.pop(name))) for name in ("history", "timing"))
        return cls(history, timing, {name: torch.from_numpy(array) for name, array in arrays.items()})


def state_of(
    student: Network, method: Method, optimiser: torch.optim.Optimizer | None = None
) -> dict[str, Tensor]:
    """The state as flat tensors, so that no pickle is needed to keep it."""
    tensors = {}
    for name, part in _parts(student, method, optimiser).items():
        state = part.state_dict()
        if isinstance(part, torch.optim.Optimizer):
            slots = state["state"].items()
            state = {f"{index}.{slot}": value for index, row in slots for slot, value in row.items()}
        tensors |= {f"{name}.{key}": value for key, value in state.items() if value is not None}
    return tensors


def restore(tensors: dict[str, Tensor], student: Network, method: Method, optimiser) -> None:
    for name, part in _parts(student, method, optimiser).items():
        start = f"{name}."
        state = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if isinstance(part, torch.optim.Optimizer):
            weights = [weight for group in part.param_groups for weight in group["params"]]
            slots: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for key, value in state.items():
                index, _, slot = key.partition(".")
                if value.dim():  # a fused step pairs memory, so what belongs to a weight must lie like it
                    value = torch.empty_like(weights[int(index)], requires_grad=False).copy_(value)
                slots[int(index)][slot] = value
            state = {"state": dict(slots), "param_groups": part.state_dict()["param_groups"]}
        part.load_state_dict(state)


def _parts(student: Network, method: Method, optimiser: torch.optim.Optimizer | None) -> dict:
    """Everything that changes in training."""
    optimisers = {"own_optimiser": method.own_optimiser, "optimiser": optimiser}
    return {"student": student, "method": method} | {name: one for name, one in optimisers.items() if one}


class Means:
    """Averages over steps. Sums stay on the device: reading one at every step would make the host wait."""

    def __init__(self):
        self.sums: dict[str, Tensor] = defaultdict(float)
        self.steps = 0

    def add(self, row: dict[str, Tensor]) -> None:
        self.steps += 1
        for name, value in row.items():
            self.sums[name] += value.detach()

    def read(self) -> dict[str, float]:
        return {name: float(value / self.steps) for name, value in self.sums.items()}


class Clock:
    """Seconds by part: of the processor's time on a CPU, of the device's on CUDA.

    The processor's time, summed over threads, tells what a part costs however busy the machine is. CUDA's
    events are read once an epoch, so that the host never waits.
    """

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks: dict[str, list] = defaultdict(list)

    def _now(self):
        if not self.cuda:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def __call__(self, part: str):
        start = self._now()
        yield
        self.marks[part].append((start, self._now()))

    def read(self) -> dict[str, float]:
        """Seconds of every part since the last reading."""
        marks, self.marks = self.marks, defaultdict(list)
        if not self.cuda:
            return {part: sum(b - a for a, b in pairs) for part, pairs in marks.items()}
        torch.cuda.synchronize()
        return {part: sum(a.elapsed_time(b) for a, b in pairs) / 1000 for part, pairs in marks.items()}
