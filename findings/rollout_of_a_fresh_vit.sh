#!/usr/bin/env bash
# Packages: fast-vit-rollout 0.1.1, torchxai-explain 0.3.0, each by its defaults, with timm 1.0.31.
# Guess:   attention rollout (Abnar and Zuidema 2020) of an untrained ViT shows all patches alike, as it must:
#          its attention is nearly uniform.
# Seen:    a focused map. Both set the lowest 90% of each block's map to 0, the residual's diagonal included, before
#          the product. What is left of nearly equal numbers is their noise: the class token's weights of the
#          patches have a deviation of half their mean, 100 to 250 times as much as without discarding.
# Matters: the map of an untrained network, the control of a trained one's, looks as if it saw an object, and a
#          teacher's and a student's maps differ by noise. discard_ratio=0 gives the published method.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6 fast-vit-rollout==0.1.1 torchxai-explain==0.3.0)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

TIMM_FUSED_ATTN=0 OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import timm
import torch
from fast_vit_rollout import ViTAttentionRollout
from torchxai.methods.attention_rollout import AttentionRollout

timm.layers.set_fused_attn(False)
torch.manual_seed(0)
net = timm.create_model("vit_tiny_patch16_224", num_classes=10).eval()
image = torch.randn(1, 3, 224, 224)


def spread(patches):
    return (patches.std() / patches.mean()).item()


def fast(**options):
    found = ViTAttentionRollout(net, **options)(image)[0, 0, 1:]
    for block in net.blocks:  # its hooks stay on the network
        block.attn.attn_drop._forward_hooks.clear()
    return spread(found)


def xai(**options):
    method = AttentionRollout(net, device=torch.device("cpu"), **options)
    return spread(torch.as_tensor(method._compute_cam(image, None).copy()))


seen = {}
for name, rollout in (("fast-vit-rollout", fast), ("torchxai-explain", xai)):
    seen[name] = rollout(), rollout(discard_ratio=0.0)
    print(f"{name}: deviation over mean of the patches {seen[name][0]:.3f} by default, {seen[name][1]:.4f} with discard_ratio=0")
for default, whole in seen.values():
    assert default > 0.2 and whole < 0.01, "the default rollout of an untrained ViT changed"
END
