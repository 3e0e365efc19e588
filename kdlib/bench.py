"""What a step of every method costs, beside the independent student's step in the same run.

The methods take turns, a few steps each, for several rounds; a ratio is formed within a round and the median
over rounds is told, so that a machine that is busy for a while disturbs all methods alike.
"""

import time
from collections.abc import Iterator

import pandas as pd
import torch

from kdlib.methods import METHODS, Batch
from kdlib.models import Network
from kdlib.roles import title_of
from kdlib.runs import RunSpec
from kdlib.study import Study
from kdlib.train import Clock, batches, make_optimiser, train_step


class _Contender:
    """A run's networks and method, untrained: a step costs the same."""

    def __init__(self, study: Study, spec: RunSpec):
        data, device = study.dataset, study.store.device
        options = (len(data.classes), *data.statistics)
        self.spec, self.device = spec, device
        self.method = METHODS[spec.method](**spec.hyper)
        self.student = Network(spec.student, *options, heads=self.method.heads).to(device)
        self.teacher = None
        if spec.teacher:
            self.teacher = Network(spec.teacher.student, *options).to(device).eval().requires_grad_(False)
        self.method.build(self.student, self.teacher, data.train)
        if self.method.teacher_part:
            self.method.teacher_part.requires_grad_(False)
        self.method.to(device).train()
        self.student.train()
        self.optimiser = make_optimiser(self.student, self.method, spec.training)
        self.batches = self._endless(data.train.to(device))

    def _endless(self, train) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from batches(train, self.spec.training, 0, epoch, Clock(self.device))
            epoch += 1

    def time(self, steps: int) -> float:
        """Seconds a step, its batch and augmentation included."""
        self._wait()
        start = time.perf_counter()
        for _ in range(steps):
            train_step(
                self.student,
                self.teacher,
                self.method,
                next(self.batches),
                self.optimiser,
                self.spec.training,
                Clock(self.device),
            )
        self._wait()
        return (time.perf_counter() - start) / steps

    def parameters(self) -> int:
        """Of the student and of what the method adds."""
        parts = (*self.student.parameters(), *self.method.parameters())
        return sum(parameter.numel() for parameter in parts)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def step_costs(study: Study, direction: str, rounds: int = 7, steps: int = 4) -> pd.DataFrame:
    """One row for each student of a direction: milliseconds a step, relative to the independent student's.

    ``extra_parameters`` are those that it has more than the independent one.
    """
    specs = {
        member.role: member.spec
        for member in study.members(direction)
        if member.role != "teacher" and member.seed == study.seeds[0]
    }
    contenders = {role: _Contender(study, spec) for role, spec in specs.items()}
    for contender in contenders.values():
        contender.time(1)  # the first step allocates
    times = pd.DataFrame(
        [{role: contender.time(steps) for role, contender in contenders.items()} for _ in range(rounds)]
    )
    plain = contenders["independent"].parameters()
    relative = times.div(times["independent"], axis=0).median()
    return pd.DataFrame(
        {
            "direction": direction,
            "role": list(contenders),
            "title": [title_of(role) for role in contenders],
            "milliseconds": [1000 * times[role].median() for role in contenders],
            "relative": [relative[role] for role in contenders],
            "extra_parameters": [contender.parameters() - plain for contender in contenders.values()],
        }
    )
