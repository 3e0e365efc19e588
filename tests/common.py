"""Answers with known measures, for measures, claims and figures; a study so small that tests can run it."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml
from matplotlib.figure import Figure

from kdlib.bias.influence import Answers, Measures
from kdlib.probes import Stimuli
from kdlib.report.figures import page
from kdlib.report.notebooks import NOTEBOOKS
from kdlib.study import Study
from kdlib.study.profile import PROFILES

IMAGES = 400
DIRECTIONS = {  # every method of the natural comparison, and every control, in one direction at least
    "cnn_to_vit": {
        **{"teacher": "cnn", "student": "vit", "same_family": "vit", "matched": "vit_matched"},
        "methods": ["lm", "crd", "cskd", "vlfkd", "deit", "dkd", "dist"],
        "controls": ["lm_same_family", "crd_same_family", "lm_matched"],
    },
    "vit_to_cnn": {
        **{"teacher": "vit", "student": "cnn", "same_family": "cnn"},
        "methods": ["lm", "crd", "sskd", "capd", "lskd", "ofa", "fitnet"],
        "controls": ["lm_same_family", "label_smoothing", "rotations", "fewer_epochs"],
    },
}
TINY_CNN = {
    "layers": [1, 1, 1, 1],
    "channels": [8, 8, 16, 16],
    "stem_type": "deep",
    "stem_width": 4,
    "output_stride": 8,
}
TINY_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2}


PROBES = [
    *("clean", "cue_conflict", "no_conflict", "edges", "superpixels_100", "scramble_4", "scramble_gutter"),
    *("scramble_4_offset", "local_noise", "gaussian_noise"),
]


def write_tiny_profile(folder: Path, epochs: int = 2, images: int = 60) -> dict[str, str]:
    """The natural comparison of the quick profile with all of DIRECTIONS, tiny networks and few images.

    Returns a study's arguments.
    """
    profile = yaml.safe_load((PROFILES / "quick.yml").read_text())
    del profile["made"]
    profile["data"] |= {"train_images": 120, "options": {"test_images": images}}
    profile["teachers"]["vit_matched"] = profile["teachers"]["vit"]
    profile |= {"directions": DIRECTIONS, "probes": PROBES, "test_images": images, "seeds": [0, 1]}
    profile |= {"inside_images": 2, "yardstick_images": 64}
    profile["training"] = {"epochs": epochs, "batch_size": 16}
    profile["hyper"] = {"crd": {"negatives": 32}}
    profile["longer"] = {
        "students.cnn.training.epochs": epochs + 1,
        "directions.cnn_to_vit": None,
        "directions.vit_to_cnn.methods": ["capd"],
        "directions.vit_to_cnn.controls": [],
    }
    profile = json.loads(json.dumps(profile))  # without the anchors, which share one object
    for group in ("students", "teachers"):
        for name, network in profile[group].items():
            network["model"]["options"] = TINY_CNN if name.startswith("cnn") else TINY_VIT
            network["training"]["epochs"] = epochs
    path = folder / "minimal.yml"
    path.write_text(yaml.safe_dump(profile))
    return {"profile": str(path), "output": str(folder / "outputs"), "data": str(folder / "data")}


def arguments(minimal: dict[str, str], *words: str) -> list[str]:
    """A command's words, with a study's arguments."""
    return [*words, *(f"--{name}={value}" for name, value in minimal.items())]


# Of the tiny study 2 directions with a teacher and 3 students each, and 8 yardsticks, asked one thing.
SMALL = ["--set=seeds=[0]", "--set=probes=[clean]", "--set=inside_images=0", "--set=longer={}"]
for name in DIRECTIONS:
    SMALL += [f"--set=directions.{name}.methods=[lm, crd]", f"--set=directions.{name}.controls=[]"]
NO_YARDSTICKS = ["--set=yardstick_images=null"]


def run_cells(study: Study, monkeypatch) -> str:
    """What all notebooks say of a study; their cells run here, without a kernel. Figures are small PNGs."""

    def small(figure: Figure, path: Path, **more) -> None:
        if path.suffix == ".png":
            savefig(figure, path, **more | {"dpi": 40})

    shown, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", small)
    monkeypatch.setattr(page, "display", lambda part: shown.append(str(part.data)))
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        names = {}
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
                if "parameters" in cell["metadata"].get("tags", []):
                    names |= study.parameters
    plt.close("all")
    return "\n".join(shown)


def make_evidence(*args, **options) -> Measures:
    """The measures of :func:`make_answers`."""
    return Measures(make_answers(*args, **options))


def make_answers(
    rates: dict[str, dict[str, float]],
    seeds: int = 3,
    direction: str = "cnn_to_vit",
    inside: dict[str, tuple[float, float]] | None = None,
    spread: float = 0.01,
    classes: int = 10,
) -> Answers:
    """Answers right at given rates; the same images are easy for all roles, and seeds differ a little.

    Args:
        rates: role -> probe -> accuracy; under cue conflict all wrong answers name the texture.
        inside: role -> far/near, and what every scrambled image keeps of its embedding.
        spread: standard deviation of a rate over seeds.
        classes: how many; a guesser is right once in as many.
    """
    generator = np.random.default_rng(0)
    labels, probes = np.arange(IMAGES) % classes, list(next(iter(rates.values())))
    textures = (labels + 1 + np.arange(IMAGES) // classes % (classes - 1)) % classes
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
            wrong = textures if probe == "cue_conflict" else (labels + classes // 2) % classes
            answers[role][probe] = {
                "predicted": np.where(right, labels, wrong),
                "confidence": np.full((seeds, IMAGES), 0.8),
                "confidence_label": np.where(right, 0.8, 0.1),
                "squares": np.full((seeds, IMAGES), 0.66),
            }
    looked = {role: _look(*found, seeds, probes, generator) for role, found in (inside or {}).items()}
    return Answers(direction, made, answers, looked, 1 / classes)


def _look(far_near: float, kept: float, seeds: int, probes: list[str], generator) -> dict[str, np.ndarray]:
    near = 1 + 0.1 * generator.random((seeds, 50))
    noise = generator.normal(0, 0.002, (2, seeds, 50))
    scrambled = [probe for probe in probes if probe.startswith("scramble")]
    return {
        **{"near": near, "far": far_near * near + noise[0]},
        **{f"invariance {probe}": kept + noise[1] for probe in scrambled},
    }
