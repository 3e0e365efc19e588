"""A study of made properties whose students have a known tau."""

from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import numpy as np

IMAGES, DIRECTIONS = 600, ("cnn_to_vit", "vit_to_cnn", "cnn_to_cnn", "vit_to_vit")
ASKED = {  # measure, probe -> what teachers that were made "texture", "noise" and "patches" gain by it
    ("shape_rate", "cue_conflict"): {"texture": 0.4},
    ("texture_rate", "cue_conflict"): {"texture": -0.3},
    ("retention", "gaussian_noise"): {"noise": 0.3},
    ("retention", "scramble_2"): {"patches": 0.2},  # of the series that is named, one level alone
}


class Evidence(dict):
    """Influence by (role, measure, probe); the same images are hard for all networks."""

    def __init__(self, roles):
        self.roles, self.questions = roles, [*ASKED, ("accuracy", "clean"), ("agreement", "clean")]
        self.students = [role for role in roles if role not in ("teacher", "baseline")]


class Synthetic:
    """Students with given taus: role, or (role, direction), or (role, direction, property) -> tau.

    Teachers have the gains of ASKED in every image; ``noise`` is a student's standard deviation from that.
    ``clean`` gives accuracies by (role, property), else 0.7.
    """

    def __init__(self, taus, seeds=3, noise=0.0, clean=None, gains=1.0, data="cifar10", **more):
        self.taus, self.noise, self.clean, self.gains = taus, noise, clean or {}, gains
        self.properties = ["texture", "noise", "patches"]
        roles = dict.fromkeys(key if isinstance(key, str) else key[0] for key in taus)
        self.directions = {name: list(roles) for name in more.get("directions", DIRECTIONS)}
        profile, source = {"data": {"name": data}, "title": "Drawn images"}, f"{data} (drawn)"
        dataset = SimpleNamespace(source=source)
        folder, seeds = Path(more.get("profile", "drawn")), list(range(seeds))
        self.study = SimpleNamespace(profile=profile, dataset=dataset, seeds=seeds, folder=folder)
        self.study.test = range(IMAGES)
        self.specs = {direction: SimpleNamespace(id=direction) for direction in self.directions}

    def tau(self, role, direction, name):
        keys = ((role, direction, name), (role, direction), role)
        return next(self.taus[key] for key in keys if key in self.taus)

    def evidence(self, direction, made="plain"):
        found = Evidence(["teacher", "baseline", *self.directions[direction]])
        seeds = len(self.study.seeds)
        for role in found.roles:
            rate = self.clean.get((role, made), self.clean.get((role, "any"), 0.7))
            hits = np.arange(IMAGES) < rate * IMAGES
            found[role, "accuracy", "clean"] = np.tile(hits, (seeds, 1)).astype(float)
            found[role, "agreement", "clean"] = np.full((seeds, IMAGES), 0.6)
            for place, (question, gain) in enumerate(ASKED.items()):
                random = np.random.default_rng(crc32(repr((direction, role, made, place)).encode()))
                base = np.tile(np.random.default_rng(place).random(IMAGES), (seeds, 1))
                moved = self.gains * gain.get(made, 0.0)
                if role != "teacher":
                    moved *= 0 if role == "baseline" else self.tau(role, direction, made)
                    base = base + random.normal(0, self.noise, (seeds, IMAGES)) * (role != "baseline")
                found[(role, *question)] = base + moved
        return found
