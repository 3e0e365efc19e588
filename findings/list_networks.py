"""Which of timm's families work, as teacher and as student. Writes docs/networks.md.

    python findings/list_networks.py

Run from the repository's root, where kdlib is installed; it takes minutes. Of each family one small network
is built at 32 px, or the next larger size that it works at. It then takes a step of LM in either role, beside
a tiny ResNet, and the methods that are made for some networks only are asked whether they take it.
"""

import sys
import warnings
from functools import cache
from pathlib import Path

import timm
import torch

from kdlib.data import DataSpec, load
from kdlib.data.base import Split
from kdlib.methods import METHODS, Batch
from kdlib.models import ModelSpec, Network, is_vit

SIZES = (32, 64, 128, 224)
FUSSY = ("cskd", "vlfkd", "capd")
OPTIONS = {
    "eva02_tiny_patch14_224": {"patch_size": 4},
    "resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "output_stride": 8},
    "vit_tiny_patch16_224": {"embed_dim": 16, "depth": 2, "num_heads": 2},
    "volo_d1_224": {"use_aux_head": False},
}
# A small network of each family; add a name and run it again.
NAMES = """
resnet18 resnetv2_18 regnety_002 efficientnet_b0 mobilenetv3_small_050 densenet121 convnext_atto
convmixer_768_32 rexnet_100 inception_v3 csatv2 vit_tiny_patch16_224 deit_tiny_distilled_patch16_224
vit_relpos_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224
xcit_nano_12_p16_224 convit_tiny tnt_s_patch16_224 volo_d1_224 crossvit_9_240 vitamin_small_224
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 mvitv2_tiny hiera_tiny_224 nest_tiny pit_ti_224
levit_128s twins_svt_small davit_tiny focalnet_tiny_srf gcvit_xxtiny pvt_v2_b0 coatnet_pico_rw_224
maxvit_rmlp_pico_rw_256 coat_tiny visformer_tiny mobilevit_xxs edgenext_xx_small efficientformer_l1
efficientformerv2_s0 efficientvit_b0 efficientvit_m0 tiny_vit_5m_224 poolformer_s12
mambaout_femto sequencer2d_s mixer_s32_224 gmlp_ti16_224 resmlp_12_224
"""
PAGE = """# timm's networks

Which families of timm {version} work here: {fine} of {all}, {small} of them at 32 px. Made by
`python findings/list_networks.py`, which builds one small network of each and trains it for a step of LM, as
teacher and as student. The network's own code decides: `img_size` is passed if its constructor takes it, and
stages, grids and widths are read from one forward pass. A network that lacks something that methods and
measures need is refused when it is built, with the reason.

- **Smallest size**: the first of {sizes} px at which it works, and the grids of its four stages there.
- **As teacher, as student**: the methods that take it; the others refuse it with the reason. CAPD needs a
  plain ViT as teacher. CSKD needs one as student and average pooling in the teacher. VLFKD needs 2 × 2 cells.
- **Attention**: whether queries, keys and values can be read, as `attention_distance` needs.
- Patches of 16 px leave 2 × 2 cells at 32 px; `options: {{patch_size: 4}}` gives most such networks 8 × 8.

| family | network | smallest size | stages | as teacher | as student | attention |
|---|---|---|---|---|---|---|
{rows}

Refused, with the reason at {largest} px:

| family | network | reason |
|---|---|---|
{refused}
"""


def network(name: str, size: int, heads: tuple[str, ...] = ("class",)) -> Network:
    spec = ModelSpec(name, image_size=size, small_stem=name == "resnet18", options=OPTIONS.get(name, {}))
    return Network(spec, 10, torch.full((3,), 0.5), torch.full((3,), 0.25), heads=heads)


suited = cache(network)


def step(student: Network, teacher: Network, batch: Batch) -> None:
    """One of LM; raises if a loss isn't finite or no gradient reaches the student."""
    method = METHODS["lm"]()
    with torch.no_grad():
        taught = teacher.eval()(batch.images)
    loss = sum(method(batch, student.train()(batch.images), taught).values())
    loss.backward()
    slopes = [part.grad for part in student.parameters() if part.grad is not None]
    if not slopes or not all(slope.isfinite().all() for slope in [loss, *slopes]):
        raise ArithmeticError(f"{student.spec.name} learns nothing from {teacher.spec.name}")


def taking(train: Split, size: int, student: Network | None = None, teacher: Network | None = None) -> str:
    """The methods that take a pair; a network that isn't given is one that suits the method."""
    refusing = []
    for name in FUSSY:
        method = METHODS[name]()
        suits = (
            ("resnet18", "vit_tiny_patch16_224") if name == "capd" else ("vit_tiny_patch16_224", "resnet18")
        )
        learner = student or suited(suits[0], size, method.heads)
        try:
            if student and is_vit(student.backbone):  # CSKD gives a ViT two more heads
                learner = network(student.spec.name, size, method.heads)
            method.build(learner, (teacher or suited(suits[1], size)).eval(), train)
        except ValueError:
            refusing.append(method.title)
    return f"all but {', '.join(refusing)}" if refusing else "all"


def main() -> None:
    warnings.simplefilter("ignore")
    train = load(DataSpec("shape_texture", train_images=100, options={"test_images": 20})).train
    index = torch.arange(8)
    images, labels = train.images[index], train.labels[index]
    batch = Batch(images, labels, index, 0.0, images, torch.zeros(8, dtype=torch.bool))
    rows, refused, small = [], [], 0
    for name in NAMES.split():
        family = timm.model_entrypoint(name).__module__.rpartition(".")[2]
        print(name, file=sys.stderr)
        for size in SIZES:
            try:
                model = network(name, size)
                break
            except ValueError as error:
                reason = str(error).replace("|", "/")
        else:
            refused.append(f"| {family} | `{name}` | {reason.split('; take another')[0]} |")
            continue
        small += size == SIZES[0]
        other = network("resnet18", size)
        step(model, other, batch)
        step(other, model, batch)
        with torch.no_grad():
            stages = model(batch.images[:2], ["stages"]).stages
        grids = ", ".join(f"{stage.shape[2]} × {stage.shape[3]}" for stage in stages)
        roles = taking(train, size, teacher=model), taking(train, size, student=model)
        attention = "yes" if is_vit(model.backbone) else "no"
        options = f" {OPTIONS[name]}" if name in OPTIONS else ""
        rows.append(
            f"| {family} | `{name}`{options} | {size} | {grids} | {' | '.join(roles)} | {attention} |"
        )
    text = PAGE.format(
        version=timm.__version__,
        fine=len(rows),
        all=len(rows) + len(refused),
        small=small,
        sizes=", ".join(map(str, SIZES)),
        rows="\n".join(sorted(rows)),
        largest=SIZES[-1],
        refused="\n".join(sorted(refused)),
    )
    Path("docs/networks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
