"""Training steps as CUDA graphs.

A step of a small network is hundreds of kernels of a few microseconds each; the host takes longer to launch
them than the GPU to run them. Recorded once and replayed, a whole step is one launch.
"""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from kdlib.methods import Batch

WARM_UP = 3  # steps before the recording, in which libraries choose their kernels and set up their memory


class Replayed:
    """A step that does the same with every batch: recorded after three ordinary steps, then replayed.

    Args:
        step: updates the networks with a batch; reads nothing from the device.
        optimiser: the one that it calls.
    """

    def __init__(self, step: Callable[[Batch], dict[str, Tensor]], optimiser: torch.optim.Optimizer):
        self.step, self.optimiser = step, optimiser
        self.done, self.stream = 0, torch.cuda.Stream()
        self.graph, self.batch, self.row = torch.cuda.CUDAGraph(), None, {}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """What ``step`` returns; the next call overwrites it."""
        if self.done < WARM_UP:
            # Recording needs a stream of its own, and gradients belong to the stream they were made on.
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                row = self.step(batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            self.done += 1
            return row
        if self.batch is None:
            self._record(batch)
        for name in _tensors(batch):
            getattr(self.batch, name).copy_(getattr(batch, name))
        self.graph.replay()
        return self.row

    def _record(self, batch: Batch) -> None:
        self.batch = replace(batch, **{name: getattr(batch, name).clone() for name in _tensors(batch)})
        for group in self.optimiser.param_groups:
            group["capturable"] = True
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.row = self.step(self.batch)


def _tensors(batch: Batch) -> list[str]:
    return [field.name for field in fields(batch) if field.type is Tensor]
