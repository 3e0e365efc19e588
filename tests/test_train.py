import dataclasses
import math

import pytest
import torch

from kdlib.bias.representations import features, receptive_maps
from kdlib.data import epoch_plan
from kdlib.methods import METHODS
from kdlib.train import (
    Clock,
    Progress,
    Training,
    _warn_of_slow_precision,
    fit,
    make_optimiser,
    predict_logits,
    schedule,
)

from .conftest import RECIPES


class Spy(METHODS["baseline"]):
    """Remembers what it was shown."""

    def __post_init__(self):
        super().__post_init__()
        self.seen = []

    def forward(self, batch, student, teacher):
        self.seen.append((batch, teacher))
        return super().forward(batch, student, teacher)


class TaughtSpy(Spy):
    reads = ("logits",)


def train(student, shapes, method=None, teacher=None, training=RECIPES["cnn"], seed=0, **more):
    return fit(student, teacher, method or METHODS["baseline"](), shapes, training, seed, quiet=True, **more)


def test_every_method_of_a_seed_sees_the_same_batches(make_network, shapes):
    alone, taught = Spy(), TaughtSpy()
    train(make_network("cnn"), shapes, alone)
    train(make_network("vit"), shapes, taught, teacher=make_network("cnn"), training=RECIPES["vit"])
    assert len(alone.seen) == len(taught.seen) == 10
    for (one, no_teacher), (other, teacher) in zip(alone.seen, taught.seen, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.indices, other.indices)
        assert one.progress == other.progress
        assert no_teacher is None and teacher is not None


def test_batches_follow_the_plan_and_labels_their_images(make_network, shapes):
    spy = Spy()
    train(make_network("cnn"), shapes, spy, seed=5)
    order = torch.cat([batch.indices for batch, _ in spy.seen[5:]])
    assert torch.equal(order, epoch_plan(80, 5, 1)[0])
    for batch, _ in spy.seen:
        assert torch.equal(batch.labels, shapes.train.labels[batch.indices])
    assert [batch.progress for batch, _ in spy.seen] == pytest.approx([i / 10 for i in range(10)])


def test_history_names_terms_and_accuracies(make_network, shapes):
    progress = train(make_network("cnn"), shapes)
    assert [row["epoch"] for row in progress.history] == [1, 2]
    assert progress.history[0].keys() == {"epoch", "loss", "label", "train_accuracy", "test_accuracy"}
    assert progress.timing[0].keys() == {
        *("epoch", "data", "teacher", "student", "method", "update", "evaluation")
    }


def test_going_on_from_a_checkpoint_ends_bit_for_bit_the_same(make_network, shapes):
    states = []

    def keep(progress):
        tensors = {name: tensor.clone() for name, tensor in progress.tensors.items()}
        states.append(Progress(list(progress.history), list(progress.timing), tensors))

    student = make_network("vit")
    train(student, shapes, training=RECIPES["vit"], after_epoch=keep)
    again = make_network("vit", seed=9)
    progress = train(again, shapes, training=RECIPES["vit"], resume=states[0])
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert progress.history == states[1].history


def test_every_weight_of_the_student_is_trained(make_network, shapes):
    for name in ("cnn", "vit"):
        student = make_network(name)
        before = {key: value.clone() for key, value in student.named_parameters()}
        train(student, shapes, training=RECIPES[name])
        assert all(not torch.equal(before[key], value) for key, value in student.named_parameters())


def test_the_teacher_is_left_as_it_was(make_network, shapes):
    teacher = make_network("cnn").train()  # even then its batch norms keep their statistics
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    method = METHODS["lm"]()
    train(make_network("vit"), shapes, method, teacher, RECIPES["vit"])
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_a_last_step_that_ruins_the_network_is_divergence(make_network, shapes):
    training = Training(epochs=1, batch_size=80, learning_rate=1e38)  # a single step, from a finite loss
    progress = train(make_network("cnn"), shapes, training=training)
    assert math.isfinite(progress.history[0]["loss"]) and math.isnan(progress.history[0]["test_accuracy"])
    assert progress.diverged


def test_divergence_stops_the_run_and_is_recorded(make_network, shapes):
    class Bad(METHODS["baseline"]):
        def forward(self, batch, student, teacher):
            return {"label": student.logits.sum() * float("nan")}

    progress = train(make_network("cnn"), shapes, Bad())
    assert progress.diverged
    assert len(progress.history) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda loss: loss,
        lambda loss: {},
        lambda loss: {"label": loss, "weight": 0.5},
        lambda loss: {"label": loss[None]},
        lambda loss: {"label": loss, "hits": (loss > 0).sum()},
        lambda loss: {"label": loss, "loss": loss},
    ],
)
def test_anything_but_named_terms_of_a_loss_is_refused(wrong, make_network, shapes):
    class Bad(METHODS["baseline"]):
        def forward(self, batch, student, teacher):
            return wrong(student.logits.square().mean())

    with pytest.raises(
        ValueError, match="Baseline: forward must return the terms of its loss, a dict of scal"
    ):
        train(make_network("cnn"), shapes, Bad())


@pytest.mark.parametrize("function", [predict_logits, features, receptive_maps])
def test_images_that_the_network_shrinks_are_told(make_network, function):
    with pytest.warns(
        UserWarning, match="resnet18 sees images of 48 px at 32 px, its ModelSpec's image_size"
    ):
        function(make_network("cnn"), torch.zeros(1, 3, 48, 48))


def test_a_part_without_gradient_is_named(make_network, shapes):
    method = METHODS["baseline"]()
    method.forgotten = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="method parameter forgotten.weight gets no gradient"):
        train(make_network("cnn"), shapes, method)


def test_a_batch_larger_than_the_data_is_refused(make_network, shapes):
    with pytest.raises(ValueError, match="batch size 81 exceeds the 80 training images"):
        train(make_network("cnn"), shapes, training=Training(batch_size=81))


def test_schedule_rises_to_one_and_falls_to_zero():
    assert schedule(0.0, 0.1) < 0.02
    assert schedule(0.1, 0.1) == pytest.approx(1)
    assert schedule(0.55, 0.1) == pytest.approx(0.5)
    assert schedule(1.0, 0.1) == pytest.approx(0, abs=1e-12)
    assert schedule(0.0, 0.0) == pytest.approx(1)


def test_weight_decay_spares_biases_norms_and_tokens(make_network):
    student = make_network("vit")
    optimiser = make_optimiser(student, METHODS["baseline"](), RECIPES["vit"])
    spared = {id(p) for group in optimiser.param_groups if not group["weight_decay"] for p in group["params"]}
    for name, parameter in student.backbone.named_parameters():
        plain = parameter.ndim == 1 or name in ("cls_token", "pos_embed")
        assert (id(parameter) in spared) == plain, name


def test_unknown_optimiser_is_named(make_network):
    training = dataclasses.replace(RECIPES["vit"], optimizer="adam")
    with pytest.raises(ValueError, match="unknown optimizer 'adam'. Did you mean 'adamw'. Valid: sgd, adamw"):
        make_optimiser(make_network("vit"), METHODS["baseline"](), training)


def test_unknown_precision_is_named(make_network, shapes):
    training = dataclasses.replace(RECIPES["cnn"], precision="float16")
    with pytest.raises(ValueError, match="unknown precision 'float16'. Did you mean"):
        train(make_network("cnn"), shapes, training=training)


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_bfloat16_trains_nearly_the_same_student(make_network, shapes, name):
    def losses(precision):
        student = make_network(name)
        recipe = dataclasses.replace(RECIPES[name], precision=precision)
        history = train(student, shapes, training=recipe).history
        assert all(value.dtype != torch.bfloat16 for value in student.state_dict().values())
        return [row["loss"] for row in history]

    full, half = losses("float32"), losses("bfloat16")
    assert half == pytest.approx(full, rel=0.02)
    assert half != full


@pytest.mark.parametrize(
    ("found", "precision", "warned"),
    [
        ({"avx512_bf16": False, "amx_bf16": False, "architecture": "x86_64"}, "bfloat16", 1),
        ({"avx512_bf16": False, "amx_bf16": False, "architecture": "x86_64"}, "float32", 0),
        ({"avx512_bf16": False, "amx_bf16": True, "architecture": "x86_64"}, "bfloat16", 0),
        ({"architecture": "aarch64"}, "bfloat16", 0),
        ({}, "bfloat16", 0),
    ],
)
def test_a_precision_that_the_processor_only_emulates_is_told(found, precision, warned, monkeypatch, recwarn):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    training = dataclasses.replace(RECIPES["cnn"], precision=precision)
    _warn_of_slow_precision(training, torch.device("cpu"))
    told = [str(warning.message) for warning in recwarn]
    assert len(told) == warned and all("--set training.precision=float32" in text for text in told)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_only_emulates_bfloat16_is_told(native, monkeypatch, recwarn):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    _warn_of_slow_precision(dataclasses.replace(RECIPES["cnn"], precision="bfloat16"), torch.device("cuda"))
    assert ["this GPU has no" in str(warning.message) for warning in recwarn] == [True] * (not native)


def test_clock_adds_up_and_starts_anew():
    clock = Clock(torch.device("cpu"))
    for _ in range(3):
        with clock("part"):
            pass
    assert clock.read()["part"] >= 0
    assert clock.read() == {}


class Adversary(METHODS["lm"]):
    """Has all that a method can have: a part trained on the teacher, an optimiser of its own, more views."""

    stage_epochs = 2
    reads = ("embedding",)

    def build(self, student, teacher, train):
        self.teacher_part = torch.nn.Linear(teacher.embedding_dim, 1)
        self.judge = torch.nn.Linear(student.embedding_dim, 1)
        self.map = torch.nn.Linear(student.embedding_dim, 1)
        self.own_optimiser = torch.optim.Adam(self.judge.parameters(), 1e-2)

    def stage(self, batch, teacher):
        assert len(batch.images) == len(teacher.embedding) == 2 * len(batch.labels)
        loss = (self.teacher_part(teacher.embedding) - 1).square().mean()
        return {"loss": loss, "error": loss.sqrt()}

    def views(self, batch):
        return batch.images.repeat_interleave(2, 0)

    def forward(self, batch, student, teacher):
        self.seen = student.embedding.detach()
        with torch.no_grad():
            target = self.teacher_part(teacher.embedding)
        logits = student.logits[::2]
        return {
            "label": torch.nn.functional.cross_entropy(logits, batch.labels),
            "hint": (self.map(student.embedding) - target).square().mean(),
        }

    def after_step(self):
        loss = (self.judge(self.seen) - torch.rand(len(self.seen), 1)).square().mean()
        self.own_optimiser.zero_grad()
        loss.backward()
        self.own_optimiser.step()
        return {"judge": loss}


def test_a_method_with_every_extension_goes_on_bit_for_bit(make_network, shapes):
    states, teacher = [], make_network("cnn").eval().requires_grad_(False)

    def keep(progress):
        tensors = {name: tensor.clone() for name, tensor in progress.tensors.items()}
        states.append(Progress(list(progress.history), list(progress.timing), tensors))

    def run(student, resume=None):
        torch.manual_seed(0)
        method = Adversary()
        method.build(student, teacher, shapes.train)
        training = dataclasses.replace(RECIPES["vit"], epochs=3)
        train(student, shapes, method, teacher, training, after_epoch=keep, resume=resume)
        return {**student.state_dict(), **method.state_dict()}

    whole = run(make_network("vit"))
    resumed = run(make_network("vit", seed=9), states[0])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert states[2].history == states[-1].history
    assert {"stage_loss", "stage_error", "judge"} < states[0].history[0].keys()
    assert "stage_loss" not in states[1].history[1]
    assert states[0].timing[0]["stage"] > 0


def test_the_teachers_part_is_frozen_and_the_own_optimisers_part_left_out(make_network, shapes):
    student, teacher = make_network("vit"), make_network("cnn").eval().requires_grad_(False)
    method = Adversary()
    method.build(student, teacher, shapes.train)
    kept, made = [], []

    def make(indices, epoch):
        made.append(epoch)
        return shapes.train.images[indices]

    train(
        student,
        shapes,
        method,
        teacher,
        RECIPES["vit"],
        after_epoch=lambda _: kept.append(method.teacher_part.weight.clone()),
        make=make,
    )
    assert torch.equal(kept[0], kept[1])
    assert set(made) == {0, 1}  # that part is trained on ordinary images, in the epochs before
    assert set(method.shared_parameters()) == {"map.weight", "map.bias"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_cuda_goes_through_the_same_code(make_network, shapes):
    student = make_network("cnn").cuda()
    progress = train(student, shapes)
    assert len(progress.history) == 2 and not progress.diverged


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are recorded on CUDA")
@pytest.mark.parametrize("name", ["baseline", "lm", "rsd", "fitnet_last"])
def test_replayed_steps_are_the_launched_ones(make_network, shapes, name):
    """On a ViT, whose kernels give the same bits every time."""
    found = []
    for steady in (False, True):
        method, student = METHODS[name](), make_network("vit")
        method.steady = steady
        teacher = make_network("vit", seed=1).cuda().eval() if method.uses_teacher else None
        torch.manual_seed(0)
        method.build(student, teacher, shapes.train)
        train(student.cuda(), shapes, method.cuda(), teacher, RECIPES["vit"])
        found.append(student.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
