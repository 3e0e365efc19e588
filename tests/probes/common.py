"""What the tests of the probes share."""

import torch
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(n: int = 6, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, 3, side, side), generator=generator(seed), dtype=torch.uint8)


def classes(n: int, k: int = 10) -> Tensor:
    return torch.arange(n) % k


def plain(colour: tuple[int, int, int], n: int = 1, side: int = 32) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).repeat(n, 1, side, side)
