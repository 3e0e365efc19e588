"""FitNet hints: the plain feature baseline.

A hidden map of the student, mapped by a trained linear regressor, must reproduce a hidden map of the teacher,
cell by cell. The loss uses neither class labels nor any knowledge of the architecture.

Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets, ICLR 2015
(arXiv:1412.6550). With F_s: (B, D_s, h, w) and F_t: (B, D_t, h_t, w_t) the maps after stage 3, r a 1x1
convolution from D_s to D_t channels, R the resampling to h x w, and N the normalisation of each cell to
mean 0 and variance 1 over its D_t channels,

    L = CE + w mean((r(F_s) - N(R(F_t)))²)

Deviations: the paper first trains the student's lower part on hints, then all of it by logit matching. This
is the form usual in comparisons, with one stage and no logits. The target is normalised, since the channels
of a ViT and a CNN differ in scale. Predicting zero then costs 1, so the weight is 1 where RepDistiller has
100 for raw maps. At stage 3 the CNN's grid equals the ViT's in our settings.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, example_output

STAGE = 2  # from 0: stage 3 of 4


def resample(feature_map: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, D, h, w) on another grid: averages of cells where it is coarser, bilinear where it is finer."""
    height, width = feature_map.shape[-2:]
    if (height, width) == tuple(grid):
        return feature_map
    if height >= grid[0] and width >= grid[1]:
        return F.adaptive_avg_pool2d(feature_map, grid)
    return F.interpolate(feature_map, grid, mode="bilinear")


def hint_loss(guided: Tensor, hint: Tensor) -> Tensor:
    """Mean squared error of the student's map, after the regressor, to the teacher's: (B, D, h, w) each.

    The teacher's is resampled to the student's grid and normalised over the channels of each cell.
    """
    hint = resample(hint, tuple(guided.shape[-2:])).movedim(1, -1)
    # Where few channels of a CNN are active, their variance is so small that the usual eps matters.
    target = F.layer_norm(hint, hint.shape[-1:], eps=1e-8)
    return F.mse_loss(guided.movedim(1, -1), target)


@dataclass(eq=False)
class FitNet(Method):
    title = "FitNet"
    reads = ("stages",)
    reads_student = ("stages",)
    steady = True

    weight: float = 1.0

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        widths = [example_output(network, train).stages[STAGE].shape[1] for network in (student, teacher)]
        self.regressor = nn.Conv2d(*widths, kernel_size=1)

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        guided = self.regressor(student.stages[STAGE])
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "hint": self.weight * hint_loss(guided, teacher.stages[STAGE]),
        }
