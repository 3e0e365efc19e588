"""The one training loop. It knows what a method is, and nothing of any single one.

Everything random in an epoch is a function of (seed, epoch): order, crops and flips come from the plan, the
rest from the global generator, which is seeded anew for every epoch. So all methods of a seed see the same
batches, and a run that goes on from a checkpoint ends as if it had never stopped.
"""

import json
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from kdlib import disk
from kdlib.data import Dataset, Split, augment, epoch_plan
from kdlib.methods import Batch, Method
from kdlib.models import Network
from kdlib.names import lookup, one_line


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
    precision: str = "float32"  # of the networks' forwards while they train, or "bfloat16"


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STAGE_LEARNING_RATE = 1e-3  # AdamW's, for what a method trains on the teacher alone
MONITORED = 2000  # test images, at most, that the accuracy after each epoch is taken on


@dataclass
class Progress:
    """How far a run has come, and all that is needed to go on."""

    history: list[dict]  # a row an epoch: terms of the loss, accuracies
    timing: list[dict]  # a row an epoch: seconds by part
    tensors: dict[str, Tensor]  # student, method and optimisers

    @property
    def diverged(self) -> bool:
        return bool(self.history) and not math.isfinite(self.history[-1]["loss"])

    def write(self, path: Path) -> None:
        rows = {"history": json.dumps(self.history), "timing": json.dumps(self.timing)}
        disk.write_tensors(path, self.tensors, rows)

    @classmethod
    def read(cls, path: Path) -> "Progress | None":
        """What was written; None if nothing was, or, with a warning, if it is damaged."""
        if not path.exists():
            return None
        try:
            tensors, rows = disk.read_tensors(path)
            progress = cls(json.loads(rows["history"]), json.loads(rows["timing"]), tensors)
            if not all("loss" in row for row in progress.history):
                raise ValueError("its history tells no loss")
            return progress
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            told = one_line(error)
            warnings.warn(f"checkpoint {path} is damaged ({told}): training starts anew", stacklevel=3)
            return None

    def fits(self, student: Network, method: Method) -> bool:
        """Whether its tensors are those of these networks."""
        own = _state(student, method)
        kept = {name for name in self.tensors if name.startswith(("student.", "method."))}
        return kept == own.keys() and all(self.tensors[name].shape == own[name].shape for name in own)


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
        resume: what ``after_epoch`` was given last, to go on from there; what was left by other networks, as
            when a method's file has changed, is dropped with a warning.
        after_epoch: called with the state after every epoch, e.g. to write a checkpoint.
        label: what the progress bar calls the run.

    Raises:
        ValueError: if a batch is larger than the training set.
        RuntimeError: if a trained part gets no gradient in the first step.
    """
    device = next(student.parameters()).device
    _warn_of_slow_precision(training, device)
    train = data.train.to(device)
    test = data.test.subset(MONITORED).to(device)
    steps = len(train) // training.batch_size
    if not steps:
        raise ValueError(f"batch size {training.batch_size} exceeds the {len(train)} training images")
    if resume and not resume.fits(student, method):
        warnings.warn(f"{label}: the checkpoint is of other networks: training starts anew", stacklevel=2)
        resume = None
    progress, clock, first = resume or Progress([], [], {}), Clock(device), {}
    if method.teacher_part:
        if not resume:
            first = _teacher_stage(teacher, method, train, training, seed, clock, label, quiet)
        method.teacher_part.requires_grad_(False)
    optimiser = make_optimiser(student, method, training)
    if resume:
        _restore(progress.tensors, student, method, optimiser)
    done = len(progress.history)
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
            for batch in batches(train, training, seed, epoch, clock):
                terms = train_step(student, teacher, method, batch, optimiser, training, clock)
                for name, value in terms.items():
                    sums[name] += value
                bar.update()
            with clock("evaluation"):
                accuracy = (predict_logits(student, test.images).argmax(1) == test.labels).float().mean()
            row = {"epoch": epoch + 1} | {name: float(value / steps) for name, value in sums.items()}
            progress.history.append(row | {"test_accuracy": float(accuracy)} | first)
            first = {}
            progress.timing.append({"epoch": epoch + 1, **clock.read()})
            progress.tensors = _state(student, method, optimiser)
            bar.set_postfix_str(f"epoch {epoch + 1}, loss {row['loss']:.3f}, accuracy {float(accuracy):.1%}")
            after_epoch(progress)
            if progress.diverged:
                break
    student.eval()
    return progress


def batches(train: Split, training: Training, seed: int, epoch: int, clock: "Clock") -> Iterator[Batch]:
    """An epoch's augmented batches; the last, incomplete one is left out."""
    plan, size = epoch_plan(len(train), seed, epoch), training.batch_size
    order, crop, flip = (part.to(train.labels.device) for part in (plan.order, plan.crop, plan.flip))
    steps = len(train) // size
    for step in range(steps):
        with clock("data"):
            index = order[step * size : (step + 1) * size]
            originals = train.images[index]
            batch = Batch(
                images=augment(originals, crop[index], flip[index]),
                labels=train.labels[index],
                indices=index,
                progress=(epoch + step / steps) / training.epochs,
                originals=originals,
                flip=flip[index],
            )
        yield batch


def _teacher_stage(
    teacher: Network,
    method: Method,
    train: Split,
    training: Training,
    seed: int,
    clock: "Clock",
    label: str,
    quiet: bool,
) -> dict[str, float]:
    """Train the method's part on the frozen teacher; what the last epoch recorded, averaged.

    The epochs before the first have negative numbers, so that the student's own stay what they are.
    """
    optimiser = torch.optim.AdamW(method.teacher_part.parameters(), STAGE_LEARNING_RATE, weight_decay=0)
    method.train()
    for epoch in tqdm(range(-method.stage_epochs, 0), desc=f"{label}, teacher's part", disable=quiet):
        torch.manual_seed(seed * 1_000_003 + epoch)
        sums: dict[str, Tensor] = defaultdict(float)
        for batch in batches(train, training, seed, epoch, clock):
            with clock("stage"):
                batch = replace(batch, images=method.views(batch))
                with torch.no_grad(), in_precision(training, batch.images.device):
                    taught = teacher(batch.images, method.reads)
                found = method.stage(batch, taught)
                optimiser.zero_grad()
                found["loss"].backward()
                optimiser.step()
                for name, value in found.items():
                    sums[f"stage_{name}"] += value.detach()
    steps = len(train) // training.batch_size
    return {name: float(value / steps) for name, value in sums.items()}


def train_step(
    student: Network,
    teacher: Network | None,
    method: Method,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    training: Training,
    clock: "Clock",
) -> dict[str, Tensor]:
    """One update; returns the loss, its terms and the training accuracy, detached and on the device."""
    with clock("method"):
        batch = replace(batch, images=method.views(batch))
    device = batch.images.device
    with clock("teacher"), torch.no_grad(), in_precision(training, device):
        taught = teacher(batch.images, method.reads) if method.reads else None
    with clock("student"), in_precision(training, device):
        learned = student(batch.images, method.reads_student)
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
        trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, training.clip)
        optimiser.step()
    with clock("method"):
        noted = method.after_step()
    views = len(learned.logits) // len(batch.labels)
    hits = (learned.logits[::views].argmax(1) == batch.labels).float().mean()
    row = {"loss": loss, **terms, **noted, "train_accuracy": hits}
    return {name: value.detach() for name, value in row.items()}


@contextmanager
def in_precision(training: Training, device: torch.device) -> Iterator[None]:
    """The networks' forwards in the recipe's precision; losses, and all that is measured later, are float32.

    Raises:
        UnknownName: for a precision that isn't in :data:`PRECISIONS`.
    """
    dtype = lookup("precision", training.precision, PRECISIONS)
    with ExitStack() as stack:
        if dtype != torch.float32:
            stack.enter_context(torch.autocast(device.type, dtype))
            if device.type == "cpu" and torch.is_grad_enabled():
                # Measured: fused attention's backward takes 5 times as long in bfloat16 as in float32 on a
                # CPU, longer than all of the ViT beside it; without a backward it is the faster one.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def _warn_of_slow_precision(training: Training, device: torch.device) -> None:
    known = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    slow = known.get("architecture") == "x86_64" and not (known["avx512_bf16"] or known["amx_bf16"])
    if slow and training.precision == "bfloat16":  # measured: 2.4 times as long
        warnings.warn(
            "this processor has no instructions for bfloat16, and is faster in float32: --set "
            "training.precision=float32, for every run of a study",
            stacklevel=3,
        )


@torch.inference_mode()
def predict_logits(network: Network, images: Tensor) -> Tensor:
    """Logits (N, C) of images (N, 3, H, W), on the network's device, in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    # On a CPU a batch whose activations stay in the cache: measured, 64 are half as fast again as 500.
    parts = images.split(64 if device.type == "cpu" else 2000)
    return torch.cat([network(part.to(device)).logits for part in parts])


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
    no_decay = [f"backbone.{name}" for name in getattr(student.backbone, "no_weight_decay", set)()]
    groups = param_groups_weight_decay(student, training.weight_decay, no_weight_decay_list=no_decay)
    groups.append({"params": list(method.shared_parameters().values()), "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    makers = {
        "sgd": lambda: torch.optim.SGD(groups, training.learning_rate, momentum=0.9, nesterov=True),
        "adamw": lambda: torch.optim.AdamW(groups, training.learning_rate),
    }
    return lookup("optimiser", training.optimiser, makers)()


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
        if self.cuda:
            torch.cuda.synchronize()
        marks, self.marks = self.marks, defaultdict(list)
        if self.cuda:
            return {part: sum(a.elapsed_time(b) for a, b in pairs) / 1000 for part, pairs in marks.items()}
        return {part: sum(b - a for a, b in pairs) for part, pairs in marks.items()}


def _check_gradients(student: Network, method: Method) -> None:
    trained = {"student": dict(student.named_parameters()), "method": method.shared_parameters()}
    for owner, parameters in trained.items():
        for name, parameter in parameters.items():
            if parameter.requires_grad and parameter.grad is None:
                raise RuntimeError(
                    f"{owner} parameter {name} gets no gradient, so it would never be trained; "
                    "use it in the loss, or set requires_grad to False"
                )


def _parts(student: Network, method: Method, optimiser: torch.optim.Optimizer | None) -> dict:
    """Everything that changes in training."""
    parts = {
        "student": student,
        "method": method,
        "optimiser": optimiser,
        "own_optimiser": method.own_optimiser,
    }
    return {name: part for name, part in parts.items() if part is not None}


def _state(
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


def _restore(tensors: dict[str, Tensor], student: Network, method: Method, optimiser) -> None:
    for name, part in _parts(student, method, optimiser).items():
        start = f"{name}."
        state = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if isinstance(part, torch.optim.Optimizer):
            slots: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for key, value in state.items():
                index, _, slot = key.partition(".")
                slots[int(index)][slot] = value
            state = {"state": dict(slots), "param_groups": part.state_dict()["param_groups"]}
        part.load_state_dict(state)
