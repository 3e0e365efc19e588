import pytest
import timm
import torch

from kdlib.messages import UnknownName
from kdlib.models import ModelSpec, Network

MEAN, STD = torch.full((3,), 0.5), torch.full((3,), 0.25)
IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

# One of each kind of head, stem and feature layout that timm has.
SPECS = {
    "resnet18": {"small_stem": True},
    "resnet18d": {"small_stem": True},
    "convnext_atto": {},
    "efficientnet_b0": {"small_stem": True},
    "mobilenetv3_small_050": {"small_stem": True},
    "regnety_002": {"small_stem": True},
    "vit_tiny_patch16_224": {"options": {"depth": 2}},
    "deit_tiny_distilled_patch16_224": {"options": {"depth": 2}},
    "vit_small_patch16_dinov3": {"options": {"depth": 2}},
    "swin_tiny_patch4_window7_224": {"options": {"img_size": 32, "patch_size": 2, "window_size": 4}},
    "swinv2_tiny_window8_256": {"options": {"embed_dim": 12, "depths": [1, 1, 1, 1]}},
    "mixer_s16_224": {},
    "xcit_nano_12_p16_224": {"options": {"depth": 2}},
    "cait_xxs24_224": {"options": {"depth": 2}},
    "coatnet_pico_rw_224": {},
    "levit_128s": {},
    "resnetv2_18": {},
}


@pytest.mark.parametrize("name", SPECS)
def test_one_interface_for_every_architecture(name):
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    network = Network(ModelSpec(name, **SPECS[name]), 10, MEAN, STD).eval()
    with torch.no_grad():
        output = network(IMAGES)
        plain = network.backbone(network.normalise(IMAGES))
    assert torch.allclose(output.logits, plain, atol=1e-5)
    assert output.embedding.shape == (2, network.embedding_dim)
    rows, columns = output.grid
    assert output.feature_map.shape[2:] == (rows, columns)
    assert output.tokens.shape == (2, rows * columns, output.feature_map.shape[1])
    assert output.logits.dtype == output.feature_map.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("csatv2", "Kernel size: .2 x 2.. Kernel size can't be greater"),
        ("efficientformer_l1", "Expected size for first two dimensions"),
        ("eva02_tiny_patch14_224", "patches of 14 px, which do not divide 32 px"),
        ("volo_d1_224", "its last layer on its embedding doesn't give its logits"),
    ],
)
def test_a_network_that_fails_at_a_size_is_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=f"^{name} .*{reason}"):
        Network(ModelSpec(name), 10, MEAN, STD)


def test_a_vits_map_is_its_patch_tokens_row_by_row():
    network = Network(ModelSpec("vit_tiny_patch16_224", options={"depth": 1}), 10, MEAN, STD).eval()
    with torch.no_grad():
        output = network(IMAGES)
        tokens = network.backbone.forward_features(network.normalise(IMAGES))[:, 1:]
    assert output.grid == (8, 8)
    assert torch.equal(output.tokens, tokens)
    assert torch.equal(output.feature_map[:, :, 2, 3], tokens[:, 2 * 8 + 3])


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("vit_small_patch32_224", 224, 7),
        ("vit_base_patch8_224", 224, 28),
        ("vit_small_patch14_dinov2", 224, 16),
        ("vit_tiny_patch16_224", 224, 14),
        ("vit_tiny_patch16_224", 64, 8),  # small images: 8 x 8 patches, whatever the name says
        ("vit_base_patch8_224", 32, 8),
    ],
)
def test_a_vit_has_the_patches_of_its_name(name, size, grid):
    options = {"depth": 1, "embed_dim": 12, "num_heads": 3}
    network = Network(ModelSpec(name, image_size=size, options=options), 10, MEAN, STD)
    assert network(IMAGES).grid == (grid, grid)


def test_patches_that_leave_out_a_part_of_the_image_are_refused():
    told = "patches of 14 px, which do not divide 128 px; set image_size to a multiple of 14"
    with pytest.raises(ValueError, match=told):
        Network(ModelSpec("vit_small_patch14_dinov2", image_size=128, options={"depth": 1}), 10, MEAN, STD)


def test_attention_maps_are_the_ones_that_timm_uses():
    network = Network(ModelSpec("vit_tiny_patch16_224", options={"depth": 2}), 10, MEAN, STD).eval()
    seen = []
    for block in network.backbone.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        output = network(IMAGES, ["qkv"])
    assert output.qkv[0].shape == (3, 2, 3, 65, 64)
    assert len(output.attention) == len(seen) == 2
    for own, timms in zip(output.attention, seen, strict=True):
        assert own.shape == (2, 3, 65, 65)
        assert torch.allclose(own, timms, atol=1e-6)
    assert network(IMAGES).qkv == ()


def test_a_cnn_has_no_queries_keys_and_values():
    with pytest.raises(ValueError, match="resnet18 has no queries, keys and values; use a ViT"):
        Network(ModelSpec("resnet18"), 10, MEAN, STD)(IMAGES, ["qkv"])


@pytest.mark.parametrize("name", SPECS)
def test_every_architecture_has_four_stages_that_leave_the_rest_as_it_was(name):
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    network = Network(ModelSpec(name, **SPECS[name]), 10, MEAN, STD).eval()
    with torch.no_grad():
        plain, output = network(IMAGES), network(IMAGES, ["stages"])
    assert len(output.stages) == 4 and all(stage.ndim == 4 for stage in output.stages)
    assert torch.allclose(plain.logits, output.logits, atol=1e-6)
    assert torch.allclose(plain.feature_map, output.feature_map, atol=1e-6)
    assert plain.stages == plain.prefixes == ()


@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "avg"}, {"reg_tokens": 2}])
@pytest.mark.parametrize(("depth", "blocks"), [(12, [2, 4, 10, 12]), (4, [1, 2, 3, 4]), (2, [1, 1, 1, 2])])
def test_a_vits_stages_are_the_outputs_of_its_blocks_with_their_prefix(depth, blocks, options):
    options = {"depth": depth, "embed_dim": 24, "num_heads": 2} | options
    spec = ModelSpec("vit_tiny_patch16_224", options=options)
    network = Network(spec, 10, MEAN, STD).eval()
    seen = []
    for block in network.backbone.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        output = network(IMAGES, ["stages"])
    for stage, prefix, block in zip(output.stages, output.prefixes, blocks, strict=True):
        tokens = torch.cat([prefix, stage.flatten(2).transpose(1, 2)], 1)
        assert torch.equal(tokens, seen[block - 1])


# ------------------------------------------------------------------------------------------ more heads


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"no_embed_class": True}])
def test_the_distillation_token_is_one_more_and_the_other_weights_stay(options):
    spec = ModelSpec("vit_tiny_patch16_224", options={"depth": 1, **options})
    plain = Network(spec, 10, MEAN, STD, seed=3)
    network = Network(spec, 10, MEAN, STD, seed=3, heads=("class", "distillation", "dense"))
    count = plain.num_prefix_tokens
    assert network.num_prefix_tokens == count + 1
    old, new = plain.backbone.state_dict(), network.backbone.state_dict()
    for name in old.keys() - {"pos_embed", "reg_token"}:
        assert torch.equal(old[name], new[name]), name
    if not options.get("no_embed_class"):
        kept = torch.cat([new["pos_embed"][:, :count], new["pos_embed"][:, count + 1 :]], 1)
        assert torch.equal(kept, old["pos_embed"])
    distance = (new["reg_token"][:, -1] - old["cls_token"][:, 0]).std()
    assert 0.015 < distance < 0.025


def test_a_vit_that_has_a_distillation_token_gets_no_second_one():
    spec = ModelSpec("deit_tiny_distilled_patch16_224", options={"depth": 1})
    with pytest.raises(ValueError, match="gets no distillation token"):
        Network(spec, 10, MEAN, STD, heads=("class", "distillation"))


def test_what_a_network_predicts_is_the_mean_of_its_heads():
    spec = ModelSpec("vit_tiny_patch16_224", options={"depth": 1})
    network = Network(spec, 10, MEAN, STD, heads=("class", "distillation", "dense")).eval()
    with torch.no_grad():
        output = network(IMAGES)
        features = network.backbone.forward_features(network.normalise(IMAGES))
        dense = network.head_dist(features[:, 2:])
    assert torch.allclose(output.heads["class"], network.backbone.head(features[:, 0]), atol=1e-6)
    assert torch.allclose(output.heads["distillation"], network.head_dist(features[:, 1]), atol=1e-6)
    assert torch.allclose(output.heads["dense"][:, :, 2, 3], dense[:, 2 * 8 + 3], atol=1e-6)
    parts = (output.heads["class"], output.heads["distillation"], dense.mean(1))
    assert torch.allclose(output.logits, sum(parts) / 3, atol=1e-6)


def test_a_cnns_second_head_reads_the_embedding():
    network = Network(ModelSpec("resnet18"), 10, MEAN, STD, heads=("class", "distillation")).eval()
    with torch.no_grad():
        output = network(IMAGES)
        assert torch.equal(output.heads["distillation"], network.head_dist(output.embedding))


def test_small_stem_keeps_the_resolution():
    large = Network(ModelSpec("resnet18", small_stem=True), 10, MEAN, STD).eval()
    usual = Network(ModelSpec("resnet18"), 10, MEAN, STD).eval()
    with torch.no_grad():
        assert large(IMAGES).grid == (4, 4)
        assert usual(IMAGES).grid == (1, 1)


def test_small_stem_is_refused_where_there_is_no_first_convolution():
    with pytest.raises(ValueError, match="vit_tiny_patch16_224 has no single first convolution"):
        Network(ModelSpec("vit_tiny_patch16_224", small_stem=True), 10, MEAN, STD)


def test_patch_size_follows_the_image_size():
    for size, grid in ((32, 8), (64, 8), (224, 14)):
        spec = ModelSpec("vit_tiny_patch16_224", image_size=size, options={"depth": 1})
        network = Network(spec, 10, MEAN, STD).eval()
        with torch.no_grad():
            assert network(IMAGES).grid == (grid, grid)


def test_equal_seeds_give_equal_weights_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    spec = ModelSpec("resnet18", small_stem=True)
    first, same, other = (Network(spec, 10, MEAN, STD, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_bytes_and_unit_floats_are_the_same_images():
    network = Network(ModelSpec("resnet18"), 10, MEAN, STD)
    assert torch.allclose(network.normalise(IMAGES), network.normalise(IMAGES / 255), atol=1e-6)
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert torch.allclose(network.normalise(black), torch.full((1, 3, 32, 32), -2.0))


def test_unknown_model_gets_the_closest_name():
    with pytest.raises(UnknownName, match="unknown timm model 'resnet81'. Did you mean 'resnet18'"):
        Network(ModelSpec("resnet81"), 10, MEAN, STD)


def test_pretrained_weights_are_named_with_their_tag():
    for name, told in (("resnet50", "50.a1_in1k, "), ("resnet50.x", "a1_in1k"), ("coatnet_0_224", "none")):
        with pytest.raises(UnknownName, match=f"pretrained: {name} must name its weights, .*{told}"):
            Network(ModelSpec(name, pretrained=True), 10, MEAN, STD)


def test_unknown_constructor_option_is_named():
    with pytest.raises(UnknownName, match="resnet18 does not take these options .*'depth'"):
        Network(ModelSpec("resnet18", options={"depth": 3}), 10, MEAN, STD)


# ---------------------------------------------------------------------------------- a network of your own


def test_any_torch_network_with_its_mean_and_std_answers_as_it_would_itself():
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
    network = Network(ModelSpec("mine"), 10, MEAN, STD, backbone=own)
    output = network(IMAGES)
    assert torch.equal(output.logits, own((IMAGES / 255 - 0.5) / 0.25))
    assert network.embedding_dim == output.embedding.shape[1] == 10
    with pytest.raises(ValueError, match="mine has no stages to read: only timm's networks do"):
        network(IMAGES, ["stages"])


def test_a_network_of_your_own_with_other_classes_is_refused():
    for own in (torch.nn.Flatten(), timm.create_model("levit_128s", num_classes=5, img_size=32)):
        with pytest.raises(ValueError, match=r"mine has \d+ classes, not 10; give Network as many"):
            Network(ModelSpec("mine"), 10, MEAN, STD, backbone=own).eval()(IMAGES)


def test_a_trained_network_of_timm_stays_as_it_is():
    model = timm.create_model("levit_128s", num_classes=10, img_size=32).eval()
    network = Network(ModelSpec("mine"), 10, MEAN, STD, backbone=model)
    assert network.backbone is model and not model.training
    with torch.no_grad():
        output = network(IMAGES, ["stages"])
        assert torch.allclose(output.logits, model((IMAGES / 255 - 0.5) / 0.25), atol=1e-5)
    assert [stage.shape[1] for stage in output.stages] == [128, 128, 256, 384]


def test_pixels_of_another_scale_are_refused(make_network, shapes):
    network, images = make_network("cnn"), shapes.test.images[:2]
    same = network(images).logits
    assert torch.equal(network(images / 255).logits, same)
    assert torch.allclose(network(images.double() / 255).logits, same, atol=1e-5)
    for wrong, told in (
        (images.float(), r"torch.float32 from \d.* to \d+; give uint8, or floats in \[0, 1\]"),
        (images.long(), "torch.int64 from"),
        ((images / 255 - 0.5) / 0.25, "torch.float32 from -"),
        (images.permute(0, 2, 3, 1), r"\(2, 32, 32, 3\); give \(B, 3, H, W\)"),
        (images[:, :1], r"\(2, 1, 32, 32\); give"),
        (images[:, :, :24], r"\(2, 3, 24, 32\); give"),
    ):
        with pytest.raises(ValueError, match=f"images are {told}"):
            network(wrong)
    for mean, std in ((0.5, 0.0), (127.0, 60.0), (0.5, 60.0), (float("nan"), 0.2)):
        with pytest.raises(ValueError, match=r"give those of pixels in \[0, 1\]"):
            Network(network.spec, 10, torch.full((3,), mean), torch.full((3,), std))
