#!/usr/bin/env bash
# Package: torchdistill 1.1.5, DISTPlusLoss (DIST+, TPAMI 2025), with torch 2.15.0.
# Guess:   each of its relational terms is a distance, 1 - correlation: 0 where the student's features are the
#          teacher's, about 1 where they are unrelated, 2 where they are the negative.
# Seen:    the channel term is the correlation itself: 1 for the teacher's own features, 0 for unrelated ones,
#          -1 for their negative. The spatial term has the right sign (0, 1, 2).
# Matters: minimising it drives the student's channels away from the teacher's. With the default weights of 1
#          the two feature terms pull against each other, and features that match have no lower loss than
#          the negated ones.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 torchdistill==1.1.5 numpy==2.4.6)
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
from torchdistill.losses.mid_level import DISTPlusLoss

torch.manual_seed(0)
logits = torch.randn(32, 10)
teacher, unrelated = torch.randn(32, 64, 4, 4), torch.randn(32, 64, 4, 4)


def loss(features, channels, space):
    paths = ["head", "output", "head", "output", "map", "output", "map", "output"]
    terms = DISTPlusLoss(*paths, iota=channels, kappa=space)
    student = {"head": {"output": logits}, "map": {"output": features}}
    return terms(student, {"head": {"output": logits}, "map": {"output": teacher}}).item()


cases = {"the teacher's features": teacher, "unrelated features": unrelated, "their negative": -teacher}
channel = [loss(features, 1.0, 0.0) for features in cases.values()]
spatial = [loss(features, 0.0, 1.0) for features in cases.values()]
for name, first, second in zip(cases, channel, spatial):
    print(f"{name:25} channel term {first:+.3f}   spatial term {second:+.3f}   both {first + second:+.3f}")
assert channel[0] > 0.99 and abs(channel[1]) < 0.1 and channel[2] < -0.99, "the channel term's sign changed"
assert abs(spatial[0]) < 1e-3 and spatial[2] > 1.99, "the spatial term changed"
END
