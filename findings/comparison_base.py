"""What all rows of docs/other_libraries.md are made of. Runs with kdlib and without it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SAME, OTHER = "the same", "another"  # guesses
T = 4.0  # of all losses but where another is given


def tensors(x: dict, *names: str):
    import torch

    return [torch.from_numpy(x[name]) for name in names]


def gradient_of(loss: Callable, x: dict) -> float:
    student, teacher = tensors(x, "student", "teacher")
    loss(student.requires_grad_(), teacher).backward()
    return student.grad.norm().item()


@dataclass(frozen=True)
class Row:
    """One comparison; `theirs` runs in its environment, where kdlib is not installed."""

    package: str
    function: str
    environment: str
    ours: Callable[[dict], float]
    theirs: Callable[[dict], float]
    why: str = ""  # of a difference, and what the equation says
    guess: str = SAME  # or OTHER, written down beforehand
    tolerance: float = 2e-5  # relative; some of them compute in float32
