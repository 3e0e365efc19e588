import pytest
import torch
from torch.nn import functional as F

from kdlib.methods.cskd import blend, dense_logits, dense_loss
from kdlib.models import ModelSpec, Network

from .common import built, make_batch, terms_of

HEADS = ("class", "distillation", "dense")


@pytest.fixture
def make_any(shapes):
    def make(*arguments, heads=("class",), **options) -> Network:
        spec = ModelSpec(*arguments, **options)
        return Network(spec, len(shapes.classes), *shapes.statistics, heads=heads).eval()

    return make


def test_a_cell_flips_from_its_own_decision_to_the_global_one_at_a_third():
    """Margin 2 in the first cell, -1 on average: a 2 - (1 - a) is 0 at a = 1/3."""
    dense = torch.zeros(1, 2, 2, 2)
    dense[0, 0] = torch.tensor([[2.0, -2.0], [-2.0, -2.0]])
    decisions = {share: blend(dense, share).argmax(1)[0] for share in (1.0, 0.34, 0.33, 0.0)}
    assert decisions[1.0].tolist() == decisions[0.34].tolist() == [[0, 1], [1, 1]]
    assert decisions[0.33].tolist() == decisions[0.0].tolist() == [[1, 1], [1, 1]]


def test_cells_are_their_own_at_first_and_the_mean_at_last():
    dense = torch.randn(3, 10, 4, 4)
    assert torch.equal(blend(dense, 1.0), dense)
    assert torch.equal(blend(dense, 0.0), dense.mean((2, 3), keepdim=True).expand_as(dense))


def test_the_blend_follows_the_runs_progress(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", heads=HEADS).eval()
    method = built("cskd", student, teacher, shapes)
    output = teacher(make_batch(shapes).images)
    cells = dense_logits(output.feature_map, method.weight, method.bias)
    student_cells = student(make_batch(shapes).images).heads["dense"]
    for progress in (0.0, 0.25, 0.75):
        found = terms_of(method, student, teacher, make_batch(shapes, progress=progress))["dense"]
        assert found.item() == pytest.approx(dense_loss(student_cells, blend(cells, 1 - progress)).item())


def test_cskd_of_uniform_heads_is_two_ln_10(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", heads=HEADS)
    for part in (*student.backbone.head.parameters(), *student.head_dist.parameters()):
        torch.nn.init.zeros_(part)
    method = built("cskd", student, teacher, shapes)
    terms = terms_of(method, student, teacher, make_batch(shapes))
    assert sum(terms.values()).item() == pytest.approx(4.605170, abs=1e-6)


def test_tokens_lie_in_the_grid_row_by_row(make_network, shapes):
    student, images = make_network("vit", heads=HEADS).eval(), make_batch(shapes).images
    with torch.no_grad():
        dense = student(images).heads["dense"]
        tokens = student.backbone.forward_features(student.normalise(images))[:, 2:]
        logits = student.head_dist(tokens)
    assert dense.shape == (16, 10, 8, 8)
    for k in range(64):
        assert torch.allclose(dense[:, :, k // 8, k % 8], logits[:, k], atol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_the_finer_grid_is_averaged_over_blocks(soft):
    coarse, fine = torch.randn(2, 10, 4, 4), torch.randn(2, 10, 8, 8)
    blocks = fine.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    assert dense_loss(fine, coarse, soft).item() == pytest.approx(dense_loss(blocks, coarse, soft).item())
    assert dense_loss(coarse, fine, soft).item() == pytest.approx(dense_loss(coarse, blocks, soft).item())


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_soft_loss_is_an_average_over_cells(size):
    teacher = torch.log(torch.tensor([0.9, 0.1])).view(1, 2, 1, 1).expand(3, 2, size, size)
    assert dense_loss(torch.zeros(3, 2, size, size), teacher, soft=True).item() == pytest.approx(
        0.368064, abs=1e-6
    )


def test_the_teachers_classifier_stays_the_teachers(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", heads=HEADS)
    method = built("cskd", student, teacher, shapes)
    assert not method.state_dict() and not list(method.parameters())
    before = dense_logits(torch.ones(1, 16, 2, 2), method.weight, method.bias)
    torch.nn.init.zeros_(teacher.backbone.fc.weight)
    assert torch.equal(dense_logits(torch.ones(1, 16, 2, 2), method.weight, method.bias), before)


def test_cells_are_classified_as_the_whole_image_is(make_network, shapes):
    teacher, student = make_network("cnn").eval(), make_network("vit", heads=HEADS)
    method = built("cskd", student, teacher, shapes)
    output = teacher(make_batch(shapes).images)
    dense = dense_logits(output.feature_map, method.weight, method.bias)
    assert torch.allclose(dense.mean((2, 3)), output.logits, atol=1e-5)
    corner = F.linear(output.feature_map[:, :, 0, 3], method.weight, method.bias)
    assert torch.allclose(dense[:, :, 0, 3], corner, atol=1e-6)


def test_students_and_teachers_without_local_answers_are_refused(make_network, make_any, shapes):
    cnn, vit = make_network("cnn").eval(), make_network("vit", heads=HEADS)
    options = {"embed_dim": 16, "depth": 1, "num_heads": 1, "patch_size": 32}
    one_patch = make_any("vit_tiny_patch16_224", options=options, heads=HEADS)
    tiny = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    for student, teacher, message in (
        (make_network("cnn", heads=HEADS), cnn, "resnet18 is not one"),
        (
            make_network("vit"),
            cnn,
            "with the heads class, distillation, dense; vit_tiny_patch16_224 is not one",
        ),
        (vit, make_network("vit"), "the mean of vit_tiny_patch16_224's logits over cells isn't its logits"),
        (vit, make_any("convnext_atto", image_size=64, options=tiny), "convnext_atto's logits over cells"),
        (vit, make_any("mobilenetv3_small_050"), "mobilenetv3_small_050's logits over cells"),
        (one_patch, cnn, "vit_tiny_patch16_224 has 1 x 1"),
        (vit, make_any("resnet10t"), "at least 2 x 2 cells; resnet10t has 1 x 1: take larger images"),
    ):
        with pytest.raises(ValueError, match=message):
            built("cskd", student, teacher, shapes)
