"""CSKD: cumulative spatial knowledge distillation.

The CNN's own classifier, applied to every cell of its last feature map, gives a prediction for each
location. Each patch token of the ViT must predict the same for its location. During training these local
predictions are blended into the global one, so that the CNN's locality helps early and does not limit the
ViT later.

Zhao, Song, Liang: Cumulative Spatial Knowledge Distillation for Vision Transformers, ICCV 2023
(arXiv:2307.08500). With E: (B, C, h, w) the teacher's cells, R: (B, C, g, g) the distillation head on every
patch token, a = 1 - (share of the steps that are done), and z_c, z_d as in DeiT:

    Y = a E + (1 - a) mean_cells E
    L = w_label CE(z_c, y) + w_decision CE(z_d, argmax z_t) + w_dense mean_cells CE(R, argmax Y)

R and Y are averaged over blocks down to the coarser of the two grids. Deviations: a falls with every step,
not every epoch, since with one epoch it would stay 1; the soft variant is averaged over cells, not summed.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, check_cells, example_output
from kdlib.methods.deit import decision_loss
from kdlib.methods.lm import soft_divergence


def dense_logits(feature_map: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer, (C, D) and (C,), on every cell: (B, D, h, w) to (B, C, h, w)."""
    return F.linear(feature_map.movedim(1, -1), weight, bias).movedim(-1, 1)


def averages_to_logits(classifier: nn.Module, output: Output) -> bool:
    """Whether the network's last layer, applied to every cell and averaged, gives the network's logits."""
    if not isinstance(classifier, nn.Linear) or classifier.in_features != output.feature_map.shape[1]:
        return False
    dense = dense_logits(output.feature_map, classifier.weight, classifier.bias)
    # Measured: off by 2e-7, in bfloat16 3e-3; ConvNeXt, which normalises after pooling, by 0.5; a ViT by 1.
    return bool((dense.mean((2, 3)) - output.logits).norm() < 0.05 * output.logits.norm())


def blend(dense: Tensor, share: float) -> Tensor:
    """``share`` of each cell's own logits, the rest of the mean over all cells: (B, C, h, w)."""
    return share * dense + (1 - share) * dense.mean((2, 3), keepdim=True)


def dense_loss(student: Tensor, teacher: Tensor, soft: bool = False) -> Tensor:
    """Loss with the teacher's decisions, or if ``soft`` its distributions, averaged over cells.

    Logits: the student's (B, C, g, g), the teacher's (B, C, h, w).
    """
    grid = tuple(map(min, student.shape[2:], teacher.shape[2:]))
    student, teacher = (F.adaptive_avg_pool2d(logits, grid) for logits in (student, teacher))
    if not soft:
        return decision_loss(student, teacher)
    student, teacher = (logits.movedim(1, -1).flatten(0, 2) for logits in (student, teacher))
    return soft_divergence(student, teacher, 1.0)


@dataclass(eq=False)
class CSKD(Method):
    """Weights as in the authors' code."""

    title = "CSKD"
    reads = ("logits", "feature_map")
    heads = ("class", "distillation", "dense")

    label_weight: float = 0.5
    decision_weight: float = 0.5
    dense_weight: float = 1.0
    soft: bool = False  # cells match the teacher's distribution, by KL divergence, instead of its decision

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        if not student.has_token:
            name, heads = student.spec.name, ", ".join(self.heads)
            raise ValueError(f"CSKD needs a ViT student with the heads {heads}; {name} is not one")
        output, classifier = example_output(teacher, train), teacher.backbone.get_classifier()
        if not averages_to_logits(classifier, output):
            raise ValueError(
                "CSKD needs a teacher that ends in average pooling and one linear layer (ResNet, RegNet, "
                f"EfficientNet): the mean of {teacher.spec.name}'s logits over cells isn't its logits"
            )
        check_cells("CSKD", teacher, output.grid)
        check_cells("CSKD", student, student.backbone.patch_embed.grid_size)
        # Copies, neither trained nor in checkpoints: the teacher is not part of the method.
        self.register_buffer("weight", classifier.weight.detach().clone(), persistent=False)
        self.register_buffer("bias", classifier.bias.detach().clone(), persistent=False)

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        target = blend(dense_logits(teacher.feature_map, self.weight, self.bias), 1 - batch.progress)
        decision = decision_loss(student.heads["distillation"], teacher.logits)
        return {
            "label": self.label_weight * F.cross_entropy(student.heads["class"], batch.labels),
            "decision": self.decision_weight * decision,
            "dense": self.dense_weight * dense_loss(student.heads["dense"], target, self.soft),
        }
