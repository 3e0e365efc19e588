#!/usr/bin/env bash
# Package: keras 3.15.1, keras.distillation.LogitsDistillation, with torch 2.15.0 as its backend.
# Guess:   by default T² KL(teacher || student) of the softened answers (Hinton et al. 2015), as documented.
# Seen:    the default, loss="kl_divergence", is turned into a function, while softmax and T² are applied to
#          instances of KLDivergence alone. So logits / T, cut to [0, 1], stand for probabilities. Uniform logits of
#          T have a lower loss than the teacher's own, a constant added to all logits changes it, and half of
#          the student's logits get no gradient. loss=keras.losses.KLDivergence() gives Hinton's loss.
# Matters: nothing fails and the loss falls, but the student is not taught the teacher's answers: from the same
#          start it gives the teacher's class in 0.18 of the images where Hinton's loss reaches 1.00. The package's own
#          examples use the default.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 keras==3.15.1)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

KERAS_BACKEND=torch CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import keras
import torch
from torch.nn import functional as F

torch.manual_seed(0)
T = 4.0
teacher = 3 * torch.randn(256, 10)
teacher[torch.arange(256), torch.randint(10, (256,))] += 4
student = 2 * torch.randn(256, 10)
default = keras.distillation.LogitsDistillation(temperature=T)
instance = keras.distillation.LogitsDistillation(temperature=T, loss=keras.losses.KLDivergence())
hinton = T**2 * F.kl_div((student / T).log_softmax(1), (teacher / T).softmax(1), reduction="batchmean").item()
cases = {
    "a student": student,
    "its logits plus 1": student + 1,
    "the teacher's own": teacher,
    "uniform logits of T": torch.full_like(teacher, T),
}
seen = {}
for name, logits in cases.items():
    seen[name] = [loss.compute_loss(teacher, logits).item() for loss in (default, instance)]
    print(f"{name:20} default {seen[name][0]:+8.3f}   KLDivergence() {seen[name][1]:+8.3f}")


def learn(loss):
    logits = student.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], 0.05)
    for step in range(1000):
        optimiser.zero_grad()
        value = loss.compute_loss(teacher, logits)
        value.backward()
        if step == 0:
            unmoved = (logits.grad == 0).float().mean().item()
        optimiser.step()
    return (logits.argmax(1) == teacher.argmax(1)).float().mean().item(), unmoved


alike, unmoved = learn(default)
fine, moved = learn(instance)
print(f"after 1000 steps the teacher's class: default {alike:.2f}, KLDivergence() {fine:.2f}")
print(f"logits without a gradient at the start: default {unmoved:.2f}, KLDivergence() {moved:.2f}")
assert abs(seen["a student"][1] - hinton) < 1e-3 and fine > 0.99 and moved < 0.01, "KLDivergence() changed"
assert seen["a student"][0] > 2 * hinton and alike < 0.7 and unmoved > 0.5, "the default changed"
assert abs(seen["its logits plus 1"][0] - seen["a student"][0]) > 1, "the default doesn't depend on a constant"
assert seen["uniform logits of T"][0] < seen["the teacher's own"][0] - 1, "the default's least loss changed"
END
