"""What all rows of docs/other_libraries.md are made of. Runs with kdlib and without it."""

from collections.abc import Callable
from dataclasses import dataclass

TORCH = ["torch==2.15.0", "torchvision==0.29.2", "numpy==2.4.6"]
# Name: packages, and those whose own requirements can't be met beside torch 2.15.
ENVIRONMENTS: dict[str, tuple[list[str], list[str]]] = {
    "distillation": ([*TORCH, "torchdistill==1.1.5", "timm==1.0.31"], ["textbrewer==0.2.1.post1"]),
    "modelopt": ([*TORCH, "nvidia-modelopt==0.47.0", "requests", "huggingface_hub"], []),
    "kd-lib": ([*TORCH, "matplotlib", "tensorboard"], ["kd-lib==0.0.32"]),
    "similarity": (
        [
            *(*TORCH, "ckatorch==1.0.3", "torch-cka==0.21", "pytorch-cka==1.1.3", "cka-pytorch==1.1.3"),
            *("repsim==0.1.5", "dcor==0.7", "lightning", "torchmetrics==1.9.0", "matplotlib", "tqdm"),
        ],
        [],
    ),
    "statistics": (
        [
            *(*TORCH, "scipy==1.17.1", "statsmodels==0.15.0", "pingouin==0.7.0", "scikit-learn==1.9.1"),
            *("torchmetrics==1.9.0", "netcal==1.4.0", "uncertainty-calibration==0.1.4", "numba", "tqdm"),
            *(
                "samplics==0.6.1",
                "uncertainties==3.2.3",
                "krippendorff==0.9.0",
                "torch-uncertainty[cpu]==0.13.0",
            ),
        ],
        ["lm-sim==0.1.1", "error-consistency==0.3.1"],
    ),
    "losses": (
        [
            *(*TORCH, "keras==3.15.1", "lightly==1.6.0", "pytorch-metric-learning==2.9.0", "trl==1.16.0"),
            "timm==1.0.31",
        ],
        ["mmrazor==1.0.0"],
    ),
    "inside": (
        [
            *(*TORCH, "timm==1.0.31", "captum==0.9.0", "openerf==0.6.1", "fast-vit-rollout==0.1.1"),
            *("torchxai-explain==0.3.0", "shapiq==1.4.1"),
        ],
        [],
    ),
    "images": (
        [
            *(*TORCH, "kornia==0.9.0", "albumentations==2.0.8", "scikit-image==0.26.0", "scipy==1.17.1"),
            *("corrupt-tta==0.1.7", "imagecorruptions-imaug==1.1.5", "torch-uncertainty[cpu]==0.13.0"),
            "pillow==13.0.0",
        ],
        [],
    ),
    "rliable": (["numpy==1.26.4", "pandas==2.2.3", "scipy==1.13.1", "arch==7.2.0", "rliable==1.2.0"], []),
}

SAME, OTHER, AFTER = "the same", "another", "–"  # guesses; none, of a row added after a first look
T = 4.0  # of all losses but where another is given


def tensors(x: dict, *names: str):
    import torch

    return [torch.from_numpy(x[name]) for name in names]


def gradient_of(loss: Callable, x: dict) -> float:
    student, teacher = tensors(x, "student", "teacher")
    loss(student.requires_grad_(), teacher).backward()
    return student.grad.norm().item()


@dataclass(frozen=True)
class Row:
    """One comparison; `theirs` runs in its environment, where kdlib is not installed."""

    package: str
    function: str
    environment: str
    ours: Callable[[dict], float]
    theirs: Callable[[dict], float]
    why: str = ""  # of a difference, and what the equation says
    guess: str = SAME  # or OTHER, written down beforehand
    tolerance: float = 2e-5  # relative; some of them compute in float32
