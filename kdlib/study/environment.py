"""What a number depends on beside its spec."""

import platform
from pathlib import Path

import timm
import torch

from kdlib import __version__


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions, the device that trains, and its threads; kept with every run."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "kdlib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "device": gpu or _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
