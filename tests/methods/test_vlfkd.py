import copy

import pytest
import torch
from torch.nn import functional as F

from kdlib.methods import METHODS
from kdlib.methods.lm import soft_divergence
from kdlib.methods.vlfkd import AttentionPool, batch_covariances, cells, correlations, decoupled_loss
from kdlib.models import ModelSpec, Network
from kdlib.train import Training, fit

from .common import built, make_batch, terms_of


def binary(probability: float) -> torch.Tensor:
    return torch.tensor([[probability, 1 - probability]]).log()


@pytest.mark.parametrize(
    ("student", "teacher", "expected"), [(0.5, 0.9, 0.415183), (0.1, 0.5, 0.475675), (0.95, 0.9, 0.0)]
)
def test_decoupled_loss_of_known_probabilities(student, teacher, expected):
    """At last the student's is half way from the teacher's to the label's."""
    found = decoupled_loss(binary(student), binary(teacher), torch.tensor([0]))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_decoupled_loss_sees_the_labels_class_only():
    student, teacher, labels = torch.randn(6, 10), torch.randn(6, 10), torch.arange(6)
    shuffled = [logits.clone() for logits in (student, teacher)]
    for logits, new in zip((student, teacher), shuffled, strict=True):
        for row in range(6):
            others = [column for column in range(10) if column != row]
            new[row, others] = logits[row, others][torch.randperm(9)]
    found = decoupled_loss(*shuffled, labels).item()
    assert found == pytest.approx(decoupled_loss(student, teacher, labels).item(), abs=1e-6)


def test_a_mixture_that_sums_to_a_half_would_cost_half_ln_2_more():
    student, teacher, labels = *torch.randn(2, 6, 10), torch.arange(6)
    s, t = (F.softmax(logits, 1)[range(6), labels] for logits in (student, teacher))
    mixture = torch.stack([0.5 * (t + 1) / 2, 0.5 * (1 - t) / 2], 1)
    both = torch.stack([s, 1 - s], 1)
    literal = 0.5 * (both * (both / mixture).log()).sum(1).mean()
    difference = literal - decoupled_loss(student, teacher, labels)
    assert difference.item() == pytest.approx(0.346574, abs=1e-6)


def test_decoupled_loss_hardly_moves_a_student_that_is_badly_wrong():
    """Which is why the label has a term of its own: that has the gradient -0.999."""
    logits = binary(1e-3).requires_grad_()
    decoupled_loss(logits, binary(0.9), torch.tensor([0])).backward()
    assert logits.grad[0, 0].item() == pytest.approx(-0.0049, abs=1e-4)


def test_decoupled_loss_is_finite_for_sure_networks():
    for sign in (-1, 1):
        teacher = 200 * F.one_hot(torch.arange(4), 10).float()
        student = (sign * teacher).requires_grad_()
        loss = decoupled_loss(student, teacher, torch.arange(4))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_equal_maps_cost_nothing_and_scale_keeps_the_relations():
    maps = torch.randn(3, 32, 4, 4)
    assert soft_divergence(cells(maps), cells(maps), 1.0).item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(correlations(3.7 * maps), correlations(maps), atol=1e-6)
    assert torch.allclose(batch_covariances(3.7 * maps), batch_covariances(maps), atol=1e-6)
    assert torch.allclose(correlations(maps).diagonal(dim1=1, dim2=2), torch.ones(3, 16), atol=1e-6)


def test_relations_are_correlations_and_the_authors_covariances():
    maps = torch.randn(2, 32, 3, 3)
    assert torch.allclose(correlations(maps)[1], torch.corrcoef(maps[1].flatten(1).T), atol=1e-5)
    expected = torch.cov(F.normalize(maps.movedim(1, -1).reshape(18, 32), dim=1))
    assert torch.allclose(batch_covariances(maps), expected, atol=1e-6)


@pytest.mark.parametrize(("channels", "heads"), [(512, 8), (2048, 32), (440, 4), (16, 1)])
def test_the_pools_heads_are_a_power_of_two_that_divides_the_channels(channels, heads):
    pool = AttentionPool(channels, cells=4, width=8)
    assert pool.heads == heads
    assert pool(torch.randn(2, channels, 2, 2)).shape == (2, 8)


def test_a_pool_without_queries_is_the_mean_and_with_them_knows_the_places():
    pool, maps = AttentionPool(128, cells=9, width=8), torch.randn(4, 128, 3, 3)
    assert not torch.allclose(pool(maps.flip(3)), pool(maps), atol=1e-4)
    for part in (pool.position, *pool.query.parameters()):
        torch.nn.init.zeros_(part)
    assert torch.allclose(pool(maps), pool.out(pool.value(maps.mean((2, 3)))), atol=1e-5)


def test_the_stage_teaches_the_pool_the_labels(make_network, shapes):
    teacher, student = make_network("cnn"), make_network("vit")
    method, batch = built("vlfkd", student, teacher, shapes), make_batch(shapes, count=32)
    method.teacher_part.requires_grad_(True)
    with torch.no_grad():  # with the batch's statistics: without, an untrained network's maps hardly differ
        output = teacher.train()(batch.images)
    optimiser = torch.optim.AdamW(method.teacher_part.parameters(), 1e-2)
    found = []
    for _ in range(40):
        row = method.stage(batch, output)
        optimiser.zero_grad()
        row["loss"].backward()
        optimiser.step()
        found.append({name: value.item() for name, value in row.items()})
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]
    assert found[-1]["accuracy"] > 0.7 > found[0]["accuracy"]


def test_the_pool_is_trained_before_the_student_and_then_stays(make_network, shapes):
    teacher, student = make_network("cnn").eval().requires_grad_(False), make_network("vit")
    method = METHODS["vlfkd"]()
    method.build(student, teacher, shapes.train)
    pools = [copy.deepcopy(method.teacher_part.state_dict())]

    def keep(progress):
        pools.append(copy.deepcopy(method.teacher_part.state_dict()))

    training = Training(epochs=2, batch_size=16, optimizer="adamw", learning_rate=1e-3)
    progress = fit(student, teacher, method, shapes, training, seed=0, after_epoch=keep, quiet=True)
    assert {"stage_loss", "stage_accuracy"} < progress.history[0].keys()
    assert not torch.equal(pools[0]["0.out.weight"], pools[1]["0.out.weight"])
    assert all(torch.equal(pools[1][name], pools[2][name]) for name in pools[0])
    assert set(method.shared_parameters()) == {"align_visual.weight", "align_linguistic.weight"}


def test_the_frozen_pool_gets_no_gradient(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1)
    method = built("vlfkd", student, teacher, shapes)
    method.teacher_part.requires_grad_(True)  # even if someone forgets
    sum(terms_of(method, student, teacher, make_batch(shapes)).values()).backward()
    assert all(part.grad is None for part in method.teacher_part.parameters())


def test_faithful_leaves_the_label_out_and_averages_over_channels(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1).eval()
    ours, theirs = (
        terms_of(
            built("vlfkd", student, teacher, shapes, faithful=faithful), student, teacher, make_batch(shapes)
        )
        for faithful in (False, True)
    )
    assert ours.keys() - theirs.keys() == {"label"}
    assert ours["pdd"] == theirs["pdd"]
    assert theirs["global"].item() == pytest.approx(ours["global"].item() / 16)
    assert theirs["linguistic"].item() == pytest.approx(ours["linguistic"].item() / 128)
    assert theirs["patch"] < ours["patch"]


def test_maps_of_a_single_cell_are_refused(make_network, shapes):
    def make(*arguments, **options) -> Network:
        return Network(ModelSpec(*arguments, **options), len(shapes.classes), *shapes.statistics)

    vit = {"embed_dim": 16, "depth": 1, "num_heads": 1, "patch_size": 32}
    for student, teacher, message in (
        (make_network("vit"), make("resnet10t"), "resnet10t has 1 x 1: take larger images"),
        (make("vit_tiny_patch16_224", options=vit), make_network("cnn"), "vit_tiny_patch16_224 has 1 x 1"),
    ):
        with pytest.raises(ValueError, match=f"VLFKD needs at least 2 x 2 cells; {message}"):
            built("vlfkd", student, teacher.eval(), shapes)
