"""CAPD: cross-architecture projection distillation, from a ViT to a CNN.

Two projectors map the CNN's third stage, cell by cell: one to queries, keys and values, whose attention
output must match that of the ViT's last block; one to the ViT's tokens. Randomly transformed images, and a
discriminator that learns to tell projected tokens from real ones, make the match robust.

Liu, Cao, Li, Hu, Ding, Li: Cross-Architecture Knowledge Distillation, ACCV 2022 (arXiv:2207.05273). With
F: (B, C, g, g) of the student, N = g², Q, K, V: (B, h, N, d) of both networks, H: (B, N, D) the teacher's
tokens after the last norm, and G: (B, N, D) the linear projection of F, with weights for each 4 x 4 cells:

    A = softmax(Q Kᵀ / √d) V,   with each element of Q_s, K_s, V_s replaced by the teacher's half of the time
    L_attention = MSE(A_s, A_t),   L_values = MSE(V_s V_sᵀ / √d, V_t V_tᵀ / √d),   L_tokens = MSE(G, LN(H))
    L_adversarial = -log σ(D(G)),   while D minimises -log σ(D(LN(H))) - log(1 - σ(D(G)))
    L = CE + k (L_attention / c1 + w_values L_values / c2 + L_tokens) + w_adversarial k_a L_adversarial

Deviations: CE comes from the authors' code, because their equations alone never train the classifier. c1
and c2 are the terms' values on the first batch, so that no term depends on the teacher's scale. k and k_a
rise from 0 to 1 early in the run. The adversarial term has the form whose gradient does not vanish while D
is right.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from kdlib.methods.base import Batch, Method, Network, Output, Split, check_cells, example_output, ramp
from kdlib.methods.fitnet import resample
from kdlib.methods.views import transformed
from kdlib.models import is_vit


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention's output, (B, h, N, d) as are the three."""
    return (queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])).softmax(-1) @ values


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of attention's outputs; student, teacher: queries, keys and values, (3, B, h, N, d)."""
    return F.mse_loss(attend(*student), attend(*teacher))


def value_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of the products of all pairs of values; student, teacher: (B, h, N, d)."""
    products = [values @ values.transpose(-2, -1) for values in (student, teacher)]
    return F.mse_loss(*products) / student.shape[-1]


def replace_some(student: Tensor, teacher: Tensor, probability: float) -> Tensor:
    """Each element of the student's, with the given probability, replaced by the teacher's."""
    return torch.where(torch.rand_like(student) < probability, teacher, student)


def real_or_not(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, from its logits of any shape."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


class GroupwiseLinear(nn.Module):
    """A linear layer for each block of 4 x 4 cells: (B, C, h, w) to (B, h w, D), row by row."""

    def __init__(self, grid: tuple[int, int], inputs: int, outputs: int, dropout: float, side: int = 4):
        super().__init__()
        self.side = side
        groups = math.prod(math.ceil(length / side) for length in grid)
        bound = 1 / math.sqrt(inputs)  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, 1, outputs).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        channels, height, width = features.shape[1:]
        # Padding fills the last blocks; it is cut off again below.
        padded = F.pad(self.dropout(features), (0, -width % self.side, 0, -height % self.side))
        cells = padded.unflatten(3, (-1, self.side)).unflatten(2, (-1, self.side))  # (B, C, R, 4, S, 4)
        blocks = cells.permute(2, 4, 0, 3, 5, 1)
        out = torch.baddbmm(self.bias, blocks.reshape(len(self.weight), -1, channels), self.weight)
        cells = out.view(*blocks.shape[:-1], -1).permute(2, 0, 3, 1, 4, 5)  # (B, R, 4, S, 4, D)
        return cells.flatten(3, 4).flatten(1, 2)[:, :height, :width].flatten(1, 2)


@dataclass(eq=False)
class CAPD(Method):
    """The paper does not give weights, dropout and the discriminator's widths; these values are ours."""

    title = "CAPD"
    reads = ("qkv", "feature_map")
    reads_student = ("stages",)

    values_weight: float = 0.25
    adversarial_weight: float = 0.1
    start: float = 0.05  # shares of the run's steps between which the terms come in
    end: float = 0.15
    adversarial_start: float = 0.2
    adversarial_end: float = 0.4
    replacement: float = 0.5  # probability for each element
    transformation: float = 0.5  # probability for each image
    kernel_size: int = 3  # of the convolutions; 1 is cheaper where the third stage is wide, as in ResNet-50
    dropout: float = 0.1
    hidden: int = 256  # width of the discriminator
    learning_rate: float = 1e-4  # of the discriminator

    def build(self, student: Network, teacher: Network, train: Split) -> None:
        vit = teacher.backbone
        if not is_vit(vit):
            told = f"CAPD reads the attention of a plain ViT, but the teacher is {teacher.spec.name}"
            raise ValueError(f"{told}; give it a plain ViT as teacher")
        channels, height, width = example_output(student, train).stages[2].shape[1:]
        check_cells("CAPD", student, (height, width))
        attention, dimension = vit.blocks[-1].attn, teacher.embedding_dim
        self.grid, self.split = tuple(vit.patch_embed.grid_size), (3, attention.num_heads, attention.head_dim)
        # Three convolutions in one: the queries', the keys' and the values'.
        self.to_qkv = nn.Conv2d(channels, math.prod(self.split), self.kernel_size, padding="same")
        self.to_tokens = GroupwiseLinear(self.grid, channels, dimension, self.dropout)
        self.discriminator = nn.Sequential(
            *(nn.Linear(dimension, self.hidden), nn.LeakyReLU(0.2)),
            *(nn.Linear(self.hidden, self.hidden), nn.LeakyReLU(0.2)),
            nn.Linear(self.hidden, 1),
        )
        parameters = self.discriminator.parameters()
        self.own_optimiser = torch.optim.Adam(parameters, self.learning_rate, betas=(0.5, 0.999))
        for term in ("attention", "values"):
            self.register_buffer(f"first_{term}", torch.zeros(()))

    def views(self, batch: Batch) -> Tensor:
        return transformed(batch.images, self.transformation)

    def forward(self, batch: Batch, student: Output, teacher: Output) -> dict[str, Tensor]:
        features = resample(student.stages[2], self.grid)
        found = self.to_qkv(features).unflatten(1, self.split).flatten(4).permute(1, 0, 2, 4, 3)
        # Without the class token and the like, so that the rest of each row sums to 1.
        target = teacher.qkv[-1][..., -found.shape[3] :, :]
        mixed = replace_some(found, target, self.replacement) if self.training else found
        real = F.layer_norm(teacher.tokens, teacher.tokens.shape[-1:])
        fake = self.to_tokens(features)
        # The student must change the features, not the discriminator.
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        unconvinced = F.softplus(-functional_call(self.discriminator, frozen, (fake,))).mean()
        self._seen = real, fake.detach()
        match = ramp(batch.progress, self.end, self.start)
        fool = ramp(batch.progress, self.adversarial_end, self.adversarial_start)
        return {
            "label": F.cross_entropy(student.logits, batch.labels),
            "attention": match * self._relative("attention", attention_loss(mixed, target)),
            "values": match * self.values_weight * self._relative("values", value_loss(found[2], target[2])),
            "tokens": match * F.mse_loss(fake, real),
            "adversarial": fool * self.adversarial_weight * unconvinced,
        }

    def _relative(self, term: str, loss: Tensor) -> Tensor:
        # Zero until the first batch has set it; a test on the host would wait for the device at every step.
        first = getattr(self, f"first_{term}")
        scale = torch.where(first > 0, first, loss.detach().clamp(min=1e-6))
        first.copy_(scale)
        return loss / scale

    def after_step(self) -> dict[str, Tensor]:
        """One step of the discriminator."""
        real, fake = (self.discriminator(tokens) for tokens in self._seen)
        loss = real_or_not(real, fake)
        self.own_optimiser.zero_grad()
        loss.backward()
        self.own_optimiser.step()
        return {"discriminator": loss}
