"""The one training loop. It knows what a method is, and nothing of any single one.

Everything random in an epoch is a function of (seed, epoch): order, crops and flips come from the plan, the
rest from the global generator, which is seeded anew for every epoch. So all methods of a seed see the same
batches, and a run that goes on from a checkpoint ends as if it had never stopped.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from tqdm.auto import tqdm

from kdlib.data import Dataset, Split, augment, epoch_plan
from kdlib.methods import Batch, Method
from kdlib.models import Network
from kdlib.names import lookup


@dataclass(frozen=True)
class Training:
    """The budget and the recipe; the same for all methods that are compared."""

    epochs: int = 5
    batch_size: int = 128
    optimiser: str = "sgd"  # with Nesterov momentum 0.9, or "adamw"
    learning_rate: float = 0.1  # the peak
    weight_decay: float = 5e-4  # not on biases, norms, position embeddings and class tokens
    warmup: float = 0.1  # share of the steps in which the learning rate rises linearly
    clip: float = 1.0  # largest norm of the gradient


MONITORED = 2000  # test images, at most, that the accuracy after each epoch is taken on


@dataclass
class Progress:
    """How far a run has come, and all that is needed to go on."""

    history: list[dict]  # a row an epoch: terms of the loss, accuracies
    timing: list[dict]  # a row an epoch: seconds by part
    tensors: dict[str, Tensor]  # student, method and optimiser

    @property
    def diverged(self) -> bool:
        return bool(self.history) and not math.isfinite(self.history[-1]["loss"])


def fit(
    student: Network,
    teacher: Network | None,
    method: Method,
    data: Dataset,
    training: Training,
    seed: int,
    resume: Progress | None = None,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
    label: str = "",
    quiet: bool = False,
) -> Progress:
    """Train ``student`` and the method's own parts in place, all on the student's device.

    Args:
        resume: what ``after_epoch`` was given last, to go on from there.
        after_epoch: called with the state after every epoch, e.g. to write a checkpoint.
        label: what the progress bar calls the run.

    Raises:
        ValueError: if a batch is larger than the training set.
        RuntimeError: if a trained part gets no gradient in the first step.
    """
    device = next(student.parameters()).device
    train = data.train.to(device)
    test = data.test.subset(min(len(data.test), MONITORED)).to(device)
    steps = len(train) // training.batch_size
    if not steps:
        raise ValueError(f"batch size {training.batch_size} exceeds the {len(train)} training images")
    optimiser = make_optimiser(student, method, training)
    progress = resume or Progress([], [], {})
    if resume:
        _restore(progress.tensors, student, method, optimiser)
    done, clock = len(progress.history), Clock(device)
    total = training.epochs * steps
    with tqdm(
        total=total, initial=done * steps, desc=label, unit="step", disable=quiet, mininterval=1
    ) as bar:
        for epoch in range(done, training.epochs):
            torch.manual_seed(seed * 1_000_003 + epoch)
            student.train()
            method.train()
            # Sums stay on the device: reading one at every step would make the host wait.
            sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
            for batch in _batches(train, training, seed, epoch, clock):
                terms = _step(student, teacher, method, batch, optimiser, training, clock)
                for name, value in terms.items():
                    sums[name] += value
                bar.update()
            with clock("evaluation"):
                accuracy = (predict_logits(student, test.images).argmax(1) == test.labels).float().mean()
            row = {"epoch": epoch + 1} | {name: float(value / steps) for name, value in sums.items()}
            progress.history.append(row | {"test_accuracy": float(accuracy)})
            progress.timing.append({"epoch": epoch + 1, **clock.read()})
            progress.tensors = _state(student, method, optimiser)
            bar.set_postfix_str(f"epoch {epoch + 1}, loss {row['loss']:.3f}, accuracy {float(accuracy):.1%}")
            after_epoch(progress)
            if progress.diverged:
                break
    student.eval()
    return progress


def _batches(train: Split, training: Training, seed: int, epoch: int, clock: "Clock") -> Iterator[Batch]:
    """An epoch's augmented batches; the last, incomplete one is left out."""
    plan, size = epoch_plan(len(train), seed, epoch), training.batch_size
    order, crop, flip = (part.to(train.labels.device) for part in (plan.order, plan.crop, plan.flip))
    steps = len(train) // size
    for step in range(steps):
        with clock("data"):
            index = order[step * size : (step + 1) * size]
            images = augment(train.images[index], crop[index], flip[index])
            batch = Batch(images, train.labels[index], index, (epoch + step / steps) / training.epochs)
        yield batch


def _step(
    student: Network,
    teacher: Network | None,
    method: Method,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    training: Training,
    clock: "Clock",
) -> dict[str, Tensor]:
    """One update; returns the loss, its terms and the training accuracy, detached and on the device."""
    with clock("teacher"), torch.no_grad():
        taught = teacher(batch.images) if teacher else None
    with clock("student"):
        learned = student(batch.images)
    with clock("method"):
        terms = method(batch, learned, taught)
        loss = torch.stack(list(terms.values())).sum()
    with clock("update"):
        optimiser.zero_grad()
        loss.backward()
        if batch.progress == 0:
            _check_gradients(student, method)
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * schedule(batch.progress, training.warmup)
        nn.utils.clip_grad_norm_([*student.parameters(), *method.parameters()], training.clip)
        optimiser.step()
        method.after_step()
    hits = (learned.logits.argmax(1) == batch.labels).float().mean()
    return {name: value.detach() for name, value in {"loss": loss, **terms, "train_accuracy": hits}.items()}


@torch.inference_mode()
def predict_logits(network: Network, images: Tensor, batch_size: int = 500) -> Tensor:
    """Logits (N, C) of images (N, 3, H, W), on the network's device, in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(part.to(device)).logits for part in images.split(batch_size)])


def schedule(share: float, warmup: float) -> float:
    """The learning rate's factor when ``share`` of the steps are done: a linear rise, then half a cosine."""
    if share < warmup:
        return (share + 1e-3) / (warmup + 1e-3)
    return (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))) / 2


def make_optimiser(student: Network, method: Method, training: Training) -> torch.optim.Optimizer:
    """One optimiser for the student and every trained part of the method.

    Raises:
        UnknownName: if the optimiser is neither "sgd" nor "adamw".
    """
    no_decay = getattr(student.backbone, "no_weight_decay", set)()
    groups = param_groups_weight_decay(student.backbone, training.weight_decay, no_weight_decay_list=no_decay)
    groups.append({"params": list(method.parameters()), "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    makers = {
        "sgd": lambda: torch.optim.SGD(groups, training.learning_rate, momentum=0.9, nesterov=True),
        "adamw": lambda: torch.optim.AdamW(groups, training.learning_rate),
    }
    return lookup("optimiser", training.optimiser, makers)()


class Clock:
    """Seconds by part, without making the host wait: on CUDA through events that are read once an epoch."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks: dict[str, list] = defaultdict(list)

    def _now(self):
        if not self.cuda:
            return time.perf_counter()
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
        if self.cuda:
            torch.cuda.synchronize()
        marks, self.marks = self.marks, defaultdict(list)
        if self.cuda:
            return {part: sum(a.elapsed_time(b) for a, b in pairs) / 1000 for part, pairs in marks.items()}
        return {part: sum(b - a for a, b in pairs) for part, pairs in marks.items()}


def _check_gradients(student: Network, method: Method) -> None:
    for owner, module in (("student", student), ("method", method)):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise RuntimeError(
                    f"{owner} parameter {name} gets no gradient, so it would never be trained; "
                    "use it in the loss, or set requires_grad to False"
                )


def _state(student: Network, method: Method, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that changes in training, as flat tensors, so that no pickle is needed to keep it."""
    tensors = {f"student.{name}": value for name, value in student.state_dict().items()}
    tensors |= {f"method.{name}": value for name, value in method.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        for slot, value in slots.items():
            if value is not None:
                tensors[f"optimiser.{index}.{slot}"] = value
    return tensors


def _restore(tensors: dict[str, Tensor], student: Network, method: Method, optimiser) -> None:
    parts: dict[str, dict[str, Tensor]] = {"student": {}, "method": {}, "optimiser": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    student.load_state_dict(parts["student"])
    method.load_state_dict(parts["method"])
    slots: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in parts["optimiser"].items():
        index, _, slot = name.partition(".")
        slots[int(index)][slot] = value
    optimiser.load_state_dict({"state": dict(slots), "param_groups": optimiser.state_dict()["param_groups"]})
