#!/usr/bin/env bash
# Package: vit-pytorch 1.26.11, DistillWrapper with a DistillableViT, with torch 2.15.0.
# Guess:   after distillation student(images) has learned from the teacher. With alpha=1 it agrees with it
#          wholly.
# Seen:    the teacher is matched by a layer of the wrapper, on a token of the wrapper. The student, called as in
#          the package's README, has neither and answers by the head that is trained on the labels only. With
#          alpha=1 that head gets no gradient: the wrapper's layer is right as the teacher is, the student at
#          chance.
# Matters: what was fitted to the teacher isn't evaluated or saved; DeiT adds both heads' answers. With a large
#          alpha the student looks as if distillation failed.
# Instead: evaluate with student(images, distill_token=wrapper.distillation_token) and add wrapper.distill_mlp
#          of the second output, and save the wrapper.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 vit-pytorch==1.26.11 numpy==2.4.6)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import torch
from vit_pytorch.distill import DistillableViT, DistillWrapper

torch.manual_seed(0)
patterns = torch.randn(4, 3, 16, 16)


def batch(count):
    """Images of four patterns in noise."""
    labels = torch.randint(0, 4, (count,))
    return patterns[labels] + torch.randn(count, 3, 16, 16), labels


class Teacher(torch.nn.Module):
    def forward(self, images):
        return torch.einsum("nchw,kchw->nk", images, patterns) / 50


images, labels = batch(1000)
for alpha in (0.5, 1.0):
    torch.manual_seed(1)
    student = DistillableViT(image_size=16, patch_size=4, num_classes=4, dim=32, depth=2, heads=2, mlp_dim=64)
    wrapper = DistillWrapper(student=student, teacher=Teacher(), temperature=3, alpha=alpha)
    optimizer = torch.optim.AdamW(wrapper.parameters(), lr=2e-3)
    for _ in range(150):
        optimizer.zero_grad()
        wrapper(*batch(64)).backward()
        optimizer.step()
    felt = student.mlp_head.weight.grad.abs().sum().item()
    student.eval()
    with torch.no_grad():
        alone = student(images)
        _, token = student(images, distill_token=wrapper.distillation_token)
        distilled = wrapper.distill_mlp(token)
    answers = Teacher()(images), alone, distilled
    right = [(answer.argmax(1) == labels).float().mean().item() for answer in answers]
    print(f"alpha {alpha}: right are teacher {right[0]:.2f}, student {right[1]:.2f}, wrapper {right[2]:.2f};"
          f" the student's head has {'no' if felt == 0 else 'a'} gradient")
    if alpha == 1:
        assert felt == 0, "the head has a gradient now"
        assert right[1] < 0.6 and min(right[0], right[2]) > 0.9, "the student learns from the teacher now"
END
