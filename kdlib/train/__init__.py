"""The training loop, the same for every method.

Everything random in an epoch is a function of (seed, epoch): order, crops and flips come from the plan, the
rest from the global generator, which is reseeded in every epoch. So all methods of a seed see the same
batches, and a run resumed from a checkpoint ends as if it had never stopped.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdlib.data import Dataset, Split, augment, epoch_plan
from kdlib.messages import lookup, progress_bar
from kdlib.methods import Batch, Method
from kdlib.models import Network
from kdlib.train.replay import Replayed
from kdlib.train.state import Clock, Means, Progress, restore, state_of


@dataclass(frozen=True)
class Training:
    """The budget and the recipe; the same for all methods that are compared."""

    epochs: int = 5
    batch_size: int = 128
    optimizer: str = "sgd"  # with Nesterov momentum 0.9, or "adamw"
    learning_rate: float = 0.1  # the peak
    weight_decay: float = 5e-4  # not on biases, norms, position embeddings and class tokens
    warmup: float = 0.1  # share of the steps in which the learning rate rises linearly
    clip: float = 1.0  # largest norm of the gradient
    precision: str = "float32"  # of the networks' forwards while they train, or "bfloat16"


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RECORDED = ("epoch", "loss", "train_accuracy", "test_accuracy")  # beside the terms of the loss
STAGE_LEARNING_RATE = 1e-3  # AdamW's, for what a method trains on the teacher alone
MONITORED = 2000  # test images, at most, that the accuracy after each epoch is taken on


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
    make: Callable[[Tensor, int], Tensor] | None = None,
) -> Progress:
    """Train ``student`` and the method's own parts in place, all on the student's device.

    Args:
        make: :func:`kdlib.data.properties.maker`'s changed images, which are seen beside the ordinary ones.
        resume: what ``after_epoch`` was given last, to go on from there; that of other networks, as when a
            method's file has changed, is dropped with a warning.
        after_epoch: called with the state after every epoch, e.g. to write a checkpoint.
        label: what the progress bar calls the run.

    Raises ValueError if a batch is larger than the training set, RuntimeError if a trained part gets no
    gradient in the first step.
    """
    must_fill_a_batch(training, data.train)
    run = Trainer(student, teacher, method, data.train, training, seed, make)
    test, clock = data.test.subset(MONITORED).to(run.device), run.clock
    _warn_of_slow_precision(training, run.device)
    progress = _of_these_networks(resume, student, method, label) or Progress([], [], {})
    done, stage = len(progress.history), {}
    if method.teacher_part and not done:
        stage = run.train_teacher_part(label, quiet)
    if done:
        restore(progress.tensors, student, method, run.optimiser)
    step = run.step
    if clock.cuda and method.steady:  # the parts of a recorded step can't be timed
        step = clock("step")(Replayed(partial(run.step, clock=Clock(torch.device("cpu"))), run.optimiser))
    shown = {"desc": label, "unit": "step", "mininterval": 1, "disable": quiet}
    with progress_bar(total=training.epochs * run.steps, initial=done * run.steps, **shown) as bar:
        for epoch in range(done, training.epochs):
            torch.manual_seed(seed * 1_000_003 + epoch)
            student.train()
            method.train()
            terms = Means()
            for batch in run.batches(epoch):
                set_rate(run.optimiser, training.learning_rate * schedule(batch.progress, training.warmup))
                terms.add(step(batch))
                bar.update()
            with clock("evaluation"):
                logits = predict_logits(student, test.images)
                hits = (logits.argmax(1) == test.labels).float()
                accuracy = hits.where(logits.isfinite().all(1), torch.nan).mean()
            row = {"epoch": epoch + 1, **terms.read(), "test_accuracy": float(accuracy)}
            progress.history.append(row | (stage if epoch == 0 else {}))
            progress.timing.append({"epoch": epoch + 1, **clock.read()})
            progress.tensors = state_of(student, method, run.optimiser)
            told = "epoch {epoch}, loss {loss:.3f}, accuracy {test_accuracy:.1%}".format(**row)
            bar.set_postfix_str(told, refresh=False)
            after_epoch(progress)
            if progress.diverged:
                break
    student.eval()
    return progress


@dataclass(eq=False)
class Trainer:
    """A run's networks, method and training images, on the student's device, and the steps that train them.

    The fields are as for :func:`fit`.
    """

    student: Network
    teacher: Network | None
    method: Method
    train: Split
    training: Training
    seed: int
    make: Callable[[Tensor, int], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.teacher:
            self.teacher.eval()
        self.device = next(self.student.parameters()).device
        self.train = self.train.to(self.device)
        self.steps = len(self.train) // self.training.batch_size  # of an epoch
        self.clock = Clock(self.device)

    @cached_property
    def optimiser(self) -> torch.optim.Optimizer:
        """The student's; from its making on, what the method trains on the teacher alone is frozen."""
        if self.method.teacher_part:
            self.method.teacher_part.requires_grad_(False)
        return make_optimiser(self.student, self.method, self.training)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """An epoch's augmented batches; the last, incomplete one is left out.

        With ``make`` each ordinary image is followed by its changed version, cropped and mirrored alike:
        twice as many images in as many steps. The teacher's part, before the first epoch, is trained on
        ordinary ones.
        """
        order, crop, flip = (part.to(self.device) for part in epoch_plan(len(self.train), self.seed, epoch))
        size = self.training.batch_size
        for step in range(self.steps):
            with self.clock("data"):
                index = order[step * size : (step + 1) * size]
                originals = self.train.images[index]
                if self.make and epoch >= 0:
                    originals = torch.stack([originals, self.make(index, epoch)], dim=1).flatten(0, 1)
                    index = index.repeat_interleave(2)
                batch = Batch(
                    images=augment(originals, crop[index], flip[index]),
                    labels=self.train.labels[index],
                    indices=index,
                    progress=(epoch + step / self.steps) / self.training.epochs,
                    originals=originals,
                    flip=flip[index],
                )
            yield batch

    def step(self, batch: Batch, clock: Clock | None = None) -> dict[str, Tensor]:
        """One update; returns the loss, its terms and the training accuracy, detached and on the device."""
        clock, method = clock or self.clock, self.method
        with clock("method"):
            batch = replace(batch, images=method.views(batch))
        with clock("teacher"), torch.no_grad(), in_precision(self.training, self.device):
            taught = self.teacher(batch.images, method.reads) if method.reads else None
        with clock("student"), in_precision(self.training, self.device):
            learned = self.student(batch.images, method.reads_student)
        with clock("method"):
            terms = method(batch, learned, taught)
            loss = _sum_of(terms, method.title)
        with clock("update"):
            self.optimiser.zero_grad()
            loss.backward()
            if batch.progress == 0:
                _check_gradients(self.student, method)
            trained = [weight for group in self.optimiser.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.training.clip)
            self.optimiser.step()
        with clock("method"):
            noted = method.after_step()
        views = len(learned.logits) // len(batch.labels)
        hits = (learned.logits[::views].argmax(1) == batch.labels).float().mean()
        row = {"loss": loss, **terms, **noted, "train_accuracy": hits}
        return {name: value.detach() for name, value in row.items()}

    def train_teacher_part(self, label: str, quiet: bool) -> dict[str, float]:
        """Train the method's part on the frozen teacher; what the last epoch recorded, averaged.

        The epochs before the first have negative numbers, so that the student's own stay what they are.
        """
        method = self.method
        optimiser = torch.optim.AdamW(method.teacher_part.parameters(), STAGE_LEARNING_RATE, weight_decay=0)
        method.train()
        epochs = range(-method.stage_epochs, 0)
        for epoch in progress_bar(epochs, desc=f"{label}, teacher's part", disable=quiet):
            torch.manual_seed(self.seed * 1_000_003 + epoch)
            recorded = Means()
            for batch in self.batches(epoch):
                with self.clock("stage"):
                    batch = replace(batch, images=method.views(batch))
                    with torch.no_grad(), in_precision(self.training, self.device):
                        taught = self.teacher(batch.images, method.reads)
                    found = method.stage(batch, taught)
                    optimiser.zero_grad()
                    found["loss"].backward()
                    optimiser.step()
                recorded.add(found)
        return {f"stage_{name}": value for name, value in recorded.read().items()}


@torch.inference_mode()
def predict_logits(network: Network, images: Tensor) -> Tensor:
    """Logits (N, C) of images (N, 3, H, W), on the network's device, in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    # On a CPU a batch whose activations stay in the cache: measured, 64 are half as fast again as 500.
    # On a GPU as many pixels as 2,000 images of 32 px have: 40 images of 224 px.
    parts = images.split(64 if device.type == "cpu" else max(1, 2000 * 32**2 // images[0, 0].numel()))
    return torch.cat([network(part.to(device)).logits for part in parts])


def schedule(share: float, warmup: float) -> float:
    """The learning rate's factor when ``share`` of the steps are done: a linear rise, then half a cosine."""
    if share < warmup:
        return (share + 1e-3) / (warmup + 1e-3)
    return (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))) / 2


def make_optimiser(student: Network, method: Method, training: Training) -> torch.optim.Optimizer:
    """One optimiser for the student and every trained part of the method, on their device with its rate.

    Raises UnknownName if the optimiser is neither "sgd" nor "adamw".
    """
    from timm.optim import param_groups_weight_decay  # here, since timm takes seconds to import

    no_decay = [f"backbone.{name}" for name in getattr(student.backbone, "no_weight_decay", set)()]
    groups = param_groups_weight_decay(student, training.weight_decay, no_weight_decay_list=no_decay)
    groups.append({"params": list(method.shared_parameters().values()), "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    rate, device = training.learning_rate, next(student.parameters()).device
    cuda = device.type == "cuda"
    options = {"lr": torch.tensor(rate, device=device) if cuda else rate, "fused": True}
    makers = {
        "sgd": lambda: torch.optim.SGD(groups, momentum=0.9, nesterov=True, **options),
        "adamw": lambda: torch.optim.AdamW(groups, **options),
    }
    return lookup("optimizer", training.optimizer, makers)()


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, in place where a recorded step reads it."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@contextmanager
def in_precision(training: Training, device: torch.device) -> Iterator[None]:
    """The networks' forwards in the recipe's precision; losses, and all that is measured later, are float32.

    Raises UnknownName for a precision that isn't in :data:`PRECISIONS`.
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


def must_fill_a_batch(training: Training, train: Split) -> None:
    """Raise ValueError if a batch is larger than the training set."""
    if len(train) < training.batch_size:
        told = f"batch size {training.batch_size} exceeds the {len(train)} training images"
        raise ValueError(f"{told}; give a smaller batch_size, or more images")


def _of_these_networks(
    resume: Progress | None, student: Network, method: Method, label: str
) -> Progress | None:
    """What to go on from; None, with a warning, if it is of other networks."""
    if resume:
        own = {name: value.shape for name, value in state_of(student, method).items()}
        kept = {name: value.shape for name, value in resume.tensors.items()}
        if own != {name: kept[name] for name in kept if name.startswith(("student.", "method."))}:
            warnings.warn(f"{label}: the checkpoint is of other networks: training starts over", stacklevel=3)
            return None
    return resume


def _warn_of_slow_precision(training: Training, device: torch.device) -> None:
    if training.precision != "bfloat16":
        return
    if cuda := device.type == "cuda":
        slow = not torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = getattr(torch.cpu, "get_capabilities", dict)()
        slow = known.get("architecture") == "x86_64" and not (known["avx512_bf16"] or known["amx_bf16"])
    if slow:  # measured on a CPU: 2.4 times as long
        warnings.warn(
            f"this {'GPU' if cuda else 'processor'} has no instructions for bfloat16; float32 is faster: "
            "--set training.precision=float32, for every run of a study",
            stacklevel=3,
        )


def _sum_of(terms: dict[str, Tensor], title: str) -> Tensor:
    """The loss; a ValueError for anything but a method's named terms."""
    values = list(terms.values()) if isinstance(terms, dict) else []
    scalars = all(isinstance(one, Tensor) and one.is_floating_point() and one.ndim == 0 for one in values)
    if not (values and scalars) or terms.keys() & set(RECORDED):
        told = f"{title}: forward must return the terms of its loss, a dict of scalar float tensors by name"
        raise ValueError(f"{told}, none called {', '.join(RECORDED)}")
    return torch.stack(values).sum()


def _check_gradients(student: Network, method: Method) -> None:
    trained = {"student": dict(student.named_parameters()), "method": method.shared_parameters()}
    for owner, parameters in trained.items():
        for name, parameter in parameters.items():
            if parameter.requires_grad and parameter.grad is None:
                raise RuntimeError(
                    f"{owner} parameter {name} gets no gradient, so it would never be trained; "
                    "use it in the loss, or set requires_grad to False"
                )
