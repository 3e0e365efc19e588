"""The cost of a training step of every method, beside its floor: see docs/performance.md.

Each method takes turns with its floor and with the baseline. Ratios are formed within a round, and their
median reported, so that a machine busy for a while disturbs all alike.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdlib.messages import progress_bar
from kdlib.methods import METHODS
from kdlib.models import ModelSpec, Network
from kdlib.study import Study
from kdlib.study.controls import roles, title_of
from kdlib.study.specs import RunSpec, environment
from kdlib.train import Trainer, in_precision, make_optimiser

PARTS = ("data", "teacher", "student", "method", "update")


class Contender:
    """A run's networks and method, untrained: a step costs the same."""

    def __init__(self, study: Study, spec: RunSpec):
        def network(model: ModelSpec, heads: tuple[str, ...] = ("class",)) -> Network:
            data, device = study.dataset, study.store.device
            return Network(model, len(data.classes), *data.statistics, heads=heads).to(device).train()

        method = METHODS[spec.method](**spec.hyper)
        student, self.plain = network(spec.student, method.heads), network(spec.student)
        teacher = network(spec.teacher.student).eval().requires_grad_(False) if spec.teacher else None
        method.build(student, teacher, study.dataset.train)
        method.to(study.store.device).train()
        self.run = Trainer(student, teacher, method, study.dataset.train, spec.training, seed=0)
        self.plain_optimiser = make_optimiser(self.plain, METHODS["baseline"](), spec.training)
        self.batches = (batch for epoch in count() for batch in self.run.batches(epoch))
        batch = next(self.batches)
        self.images = method.views(batch)
        self.labels = batch.labels.repeat_interleave(len(self.images) // len(batch.labels))

    def step(self) -> None:
        """As in training, from the batch to the update."""
        self.run.step(next(self.batches))

    def floor(self) -> None:
        """The networks' part: on as many images, with the teacher's forward where the method reads it."""
        precision = partial(in_precision, self.run.training, self.run.device)
        if self.run.method.reads:
            with torch.no_grad(), precision():
                self.run.teacher(self.images)
        with precision():
            logits = self.plain(self.images).logits
        self.plain_optimiser.zero_grad()
        F.cross_entropy(logits, self.labels).backward()
        nn.utils.clip_grad_norm_(self.plain.parameters(), self.run.training.clip)
        self.plain_optimiser.step()

    def parameters(self) -> int:
        """Of the student and of what the method adds."""
        return sum(part.numel() for part in (*self.run.student.parameters(), *self.run.method.parameters()))


def seconds(function: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Of a call, in the mean over ``times`` calls; of the process alone where one thread does all."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = now()
    for _ in range(times):
        function()
    wait()
    return (now() - start) / times


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call."""
    # Fused attention computes some products twice; they count once.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def step_costs(study: Study, direction: str, rounds: int) -> pd.DataFrame:
    """One row for each student of a direction whose step is another's.

    Returns:
        ``milliseconds`` of a step and of its parts, ``floor`` in milliseconds, the step in steps of the floor
        and of the baseline; ``images_per_second`` of the training set; ``gflop`` of the floor, and
        the step's as a multiple of them; ``extra_parameters`` beside the baseline's.
    """
    device = study.store.device
    times = 10 if device.type == "cuda" else 1  # steps a turn: a GPU is waited for only once
    _, *students = (member for member in study.members(direction) if member.seed == study.seeds[0])
    specs = {member.role: member.spec for member in students if roles()[member.role].epochs == 1}
    baseline = Contender(study, specs["baseline"])
    plain, rows = baseline.parameters(), []
    for role, spec in progress_bar(specs.items(), desc=direction, disable=study.store.quiet):
        contender = Contender(study, spec)
        work, all_work = flops(contender.floor), flops(contender.step)
        turns = {"step": contender.step, "floor": contender.floor, "baseline": baseline.step}
        contender.run.clock.read()
        table = pd.DataFrame(
            {name: seconds(turn, device, times) for name, turn in turns.items()}
            | {part: total / times for part, total in contender.run.clock.read().items()}
            for _ in range(1 + rounds)
        )[1:]  # the first allocates
        middle = table.median()
        rows.append(
            {
                "direction": direction,
                "role": role,
                "title": title_of(role),
                "precision": spec.training.precision,
                "milliseconds": 1000 * middle["step"],
                "floor": 1000 * middle["floor"],
                "over_floor": (table.step / table.floor).median(),
                "over_baseline": (table.step / table.baseline).median(),
                "images_per_second": spec.training.batch_size / middle["step"],
                **{part: 1000 * middle[part] for part in PARTS},
                "gflop": work / 1e9,
                "flop_over_floor": all_work / work,
                "extra_parameters": contender.parameters() - plain,
            }
        )
    return pd.DataFrame(rows)


def keep(study: Study, rounds: int) -> tuple[pd.DataFrame, Path]:
    """Measure both directions; the table, and where it lies: as JSON, with the machine."""
    table = pd.concat([step_costs(study, name, rounds) for name in study.directions], ignore_index=True)
    study.folder.mkdir(parents=True, exist_ok=True)
    path = study.folder / "bench.json"
    found = {"machine": environment(study.store.device), "rounds": rounds, "steps": table.to_dict("records")}
    path.write_text(json.dumps(found, indent=1))
    return table, path
