"""Evidence with known answers, for measures, claims and figures."""

import numpy as np
import torch

from kdlib.bias.evidence import Evidence
from kdlib.probes import Stimuli

IMAGES = 400


def make_evidence(
    rates: dict[str, dict[str, float]],
    seeds: int = 3,
    direction: str = "cnn_to_vit",
    inside: dict[str, tuple[float, float]] | None = None,
    spread: float = 0.01,
) -> Evidence:
    """Answers right at given rates; the same images are easy for all roles, and seeds differ a little.

    Args:
        rates: role -> probe -> accuracy; under cue conflict all wrong answers name the texture.
        inside: role -> far/near, and what every scrambled image keeps of its embedding.
        spread: standard deviation of a rate over seeds.
    """
    generator = np.random.default_rng(0)
    labels, probes = np.arange(IMAGES) % 10, list(next(iter(rates.values())))
    textures = (labels + 1 + np.arange(IMAGES) // 10 % 9) % 10
    blank = torch.zeros(IMAGES, 3, 1, 1, dtype=torch.uint8)
    made = {
        probe: Stimuli(
            blank,
            torch.tensor(labels),
            torch.arange(IMAGES),
            torch.tensor(textures) if probe == "cue_conflict" else None,
        )
        for probe in probes
    }
    difficulty = {probe: generator.random(IMAGES) for probe in made}
    answers = {}
    for role, wanted in rates.items():
        answers[role] = {}
        for probe in made:
            jitter = generator.normal(0, spread, (seeds, 1))
            right = difficulty[probe] < wanted[probe] + jitter
            wrong = textures if probe == "cue_conflict" else (labels + 5) % 10
            answers[role][probe] = {
                "predicted": np.where(right, labels, wrong),
                "confidence": np.full((seeds, IMAGES), 0.8),
                "confidence_label": np.where(right, 0.8, 0.1),
                "squares": np.full((seeds, IMAGES), 0.66),
                "confidence_texture": np.where(right, 0.1, 0.8),
            }
    looked = {role: _look(*found, seeds, probes, generator) for role, found in (inside or {}).items()}
    return Evidence(direction, made, answers, looked, 0.1)


def _look(far_near: float, kept: float, seeds: int, probes: list[str], generator) -> dict[str, np.ndarray]:
    near = 1 + 0.1 * generator.random((seeds, 50))
    noise = generator.normal(0, 0.002, (2, seeds, 50))
    scrambled = [probe for probe in probes if probe.startswith("scramble")]
    return {
        **{"near": near, "far": far_near * near + noise[0], "weighted": 10 * near, "mass": near},
        **{f"invariance {probe}": kept + noise[1] for probe in scrambled},
    }
