"""What other libraries compute: the same inputs, side by side. Writes docs/other_libraries.md.

    python findings/compare_libraries.py

Run from the repository's root, where kdlib is installed; it needs uv, and a network or a filled cache. Each
package is installed at a pinned release in a temporary folder, without kdlib, and given the arrays that ours
was given. Not a test: whether they agree is what it is meant to find out.

A row is a pair of functions of the inputs, ours and theirs. The guess was written down before the first run.
"""

import json
import os
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
from comparison_base import AFTER, ENVIRONMENTS, SAME
from comparison_inside import NAMES
from comparison_rows import ROWS

INTRODUCTION = """# What other libraries compute

We gave the same arrays to kdlib and to other packages: {rows} comparisons, of which {differ} differ. Made by
`python findings/compare_libraries.py`, which installs the releases named here and writes this page. We
wrote down *guessed* beforehand (– for rows added after a first look). Rows with a wrong guess come first. The
rows that agree are the best evidence for our functions. Each larger surprise has a script of its own in
[findings](../findings/README.md)."""
NOTE = """
## What would change a published conclusion

1. **keras' LogitsDistillation** is not a divergence by default: it treats logits as probabilities, and
   uniform predictions have a lower loss than the teacher's own. Students of such a study were not distilled.
2. **KD-Lib's ProbShift, LabelSmoothReg and NoisyTeacher** are smallest near uniform predictions, whatever the
   teacher predicts. A method compared with them beats students that were flattened, not distilled.
3. **torch-cka's default labels** give each row of the matrix the name of the layer before it. A statement
   about which layers of two networks are most alike is then about other layers.
4. **Bootstrap intervals over three to five seeds** cover 0.74 to 0.83 where 0.95 is claimed: one in four to
   six misses the truth. Errors clustered by image alone leave out the seeds altogether.
5. **Rollouts of fast-vit-rollout and torchxai-explain** set nine tenths of each block's map to 0 by default.
   An untrained ViT's map, which is flat, then looks as if the network saw an object.
6. **"Severity 1" of three packages** is ImageNet-C's, with twice the noise of CIFAR-10-C, and scikit-image's
   Poisson noise depends on how many unlike values an array has. Robustness can't be compared across them.

For pairs of a CNN and a ViT, add timm's LogitDistillationTask: only there does the teacher see different
images.

## Not in the tables

- No package computes shape bias, cue rate or the share of a gap that a student closes. We compare
  their components: proportions, ratios and their errors.
- deep-reps 0.0.6 can't be imported: one of its modules imports the package while the package imports it.
- KD-Lib and textbrewer need releases of 2021 to be imported whole; only the modules compared were loaded.
- mmrazor needs mmcv below 2.1 to be imported whole; only the losses compared were loaded.
"""


def inputs() -> dict[str, np.ndarray]:
    """The arrays that both sides are given."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 64)
    shared = random.standard_normal((500, 24))
    features = [shared @ random.standard_normal((24, d)) + random.standard_normal((500, d)) for d in (48, 96)]
    hits = random.random((2, 400)) < [[0.8], [0.6]]
    hits[1, :150] = hits[0, :150]
    confidence = random.dirichlet(np.full(10, 0.15), 2000)
    answers = np.array([random.choice(10, p=row) for row in confidence])  # calibrated: the true error is 0
    units = random.standard_normal((4, 256, 32))
    found = {
        "student": 2 * random.standard_normal((64, 10)),
        "teacher": 3 * random.standard_normal((64, 10)) + 4 * np.eye(10)[labels],
        "labels": labels,
        "map_student": random.standard_normal((16, 32, 4, 4)),
        "map_teacher": random.standard_normal((16, 32, 4, 4)),
        "views": random.standard_normal((2, 64, 12)),
        "units": units / np.linalg.norm(units, axis=2, keepdims=True),  # projections, and both memories
        "negatives": random.integers(0, 256, (8, 20)),
        "first": features[0],
        "second": features[1],
        "first_units": features[0][:, :32],
        "second_units": features[1][:, :32],
        "independent": np.random.default_rng(1).standard_normal((500, 96)),
        "hits": hits,
        "confidence": confidence,
        "answers": answers,
        "seeds": random.normal(0.1, 0.05, 5),
        "table": random.random((5, 40)) < random.random(40),
        "p": np.array([0.01, 0.02, 0.04]),
        "p_undefined": np.array([0.01, 0.02, 0.04, np.nan]),
    }
    return found | answers_and_seeds() | pictures_and_networks()


def answers_and_seeds() -> dict[str, np.ndarray]:
    """What two networks answer under cue conflict, embeddings, and numbers of five seeds."""
    random = np.random.default_rng(3)
    shape, order = np.arange(400) % 10, random.permutation(400)
    texture = (shape + 1 + np.arange(400) // 10 % 9) % 10
    turn = random.random((2, 400))
    first, second = np.where(
        turn < 0.5, shape, np.where(turn < 0.7, texture, random.integers(0, 10, (2, 400)))
    )
    second[order[:200]] = first[order[:200]]
    clean = random.random(400) < 0.8
    images = random.standard_normal((400, 64))
    roles = random.normal([[0.5], [0.4], [0.8]], 0.05, (3, 5))
    return {
        **{
            "shape_labels": shape,
            "texture_labels": texture,
            "first_answers": first,
            "second_answers": second,
        },
        **{"first_hits": first == shape, "second_hits": second == shape},
        "kept": np.stack([clean & (random.random(400) < 0.6), clean]).astype(float),
        "embeddings": np.stack([images, 0.3 * images + random.standard_normal((400, 64))]) + 3,
        "crossed": random.normal(0, 0.1, (5, 1))
        + random.normal(0, 0.5, 200)
        + random.normal(0, 0.5, (5, 200)),
        "roles": roles,
        "moves": np.stack([roles[0] - roles[1], roles[2] - roles[1] - 0.2]),
        "profiles": random.normal([[[0.0]], [[0.0]], [[0.1]]], 0.05, (200, 3, 8, 5)),
    }


def pictures_and_networks() -> dict[str, np.ndarray]:
    """uint8 images, and the weights of the networks that they are shown to."""
    import timm
    import torch

    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (8, 3, 8, 8), dtype=np.uint8)
    found = {
        "images": coarse.repeat(4, 2).repeat(4, 3),
        "small": random.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8),
        "small_labels": np.array([3, 7]),
        "mlp0": random.standard_normal((16, 192)).astype(np.float32) / 10,
        "mlp1": random.standard_normal((10, 16)).astype(np.float32),
    }
    torch.manual_seed(0)
    for kind, (name, options) in NAMES.items():
        size = {"img_size": 32} if kind == "vit" else {}
        weights = timm.create_model(name, num_classes=10, **size, **options).state_dict()
        for key, value in weights.items():
            sharper = 4 if "qkv.weight" in key else 1  # so that attention is not uniform
            found[f"{kind} {key}"] = np.asarray(sharper * value.numpy())
    return found


def evaluate(environment: str, arrays: Path) -> list[float]:
    """Theirs, of the rows of one environment. Called inside it."""
    x = dict(np.load(arrays))
    return [float(row.theirs(x)) for row in chain(*ROWS.values()) if row.environment == environment]


def install_and_evaluate(environment: str, arrays: Path) -> list[float]:
    """Theirs, from a fresh environment in a temporary folder."""
    packages, alone = ENVIRONMENTS[environment]
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/venv/bin/python"
        install = ["uv", "pip", "install", "-q", "--python", python]
        subprocess.run(["uv", "venv", "-q", f"{folder}/venv"], check=True, cwd=folder)
        subprocess.run([*install, *packages], check=True, cwd=folder)
        if alone:
            subprocess.run([*install, "--no-deps", *alone], check=True, cwd=folder)
        command = [
            python,
            "-W",
            "ignore",
            str(Path(__file__).resolve()),
            "--theirs",
            environment,
            str(arrays),
        ]
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, cwd=folder, env=threads, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    rows, x, theirs = list(chain(*ROWS.values())), inputs(), {}
    ours = {id(row): float(row.ours(x)) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "inputs.npz"
        np.savez(arrays, **x)
        for environment in ENVIRONMENTS:
            print(environment, file=sys.stderr)
            asked = [row for row in rows if row.environment == environment]
            theirs.update(zip(map(id, asked), install_and_evaluate(environment, arrays), strict=True))
    text, differ = [], 0
    for subject, members in ROWS.items():
        lines = []
        for row in members:
            our, their = ours[id(row)], theirs[id(row)]
            agree = bool(np.isclose(our, their, rtol=row.tolerance, atol=1e-9))
            differ += not agree
            # First where the guess was wrong, then where a difference was expected, last what agrees.
            surprised = row.guess != AFTER and agree != (row.guess == SAME)
            order = 0 if surprised else 1 + agree
            why = "agree" if agree else row.why
            cells = (
                row.package,
                row.function,
                f"{round(our, 8):.5g}",
                f"{round(their, 8):.5g}",
                row.guess,
                why,
            )
            lines.append((order, "| " + " | ".join(cells) + " |"))
        header = "| package | function | ours | theirs | guessed | why they differ; what the equation says |"
        text += [f"\n## {subject}\n", header, "|---|---|---|---|---|---|"]
        text += [line for _, line in sorted(lines, key=lambda pair: pair[0])]
    target = Path(__file__).resolve().parents[1] / "docs" / "other_libraries.md"
    introduction = INTRODUCTION.format(rows=len(rows), differ=differ)
    target.write_text("\n".join([introduction, *text, NOTE]), encoding="utf-8")
    print(f"{len(rows)} rows, of which {differ} differ, in {target.name}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        print(json.dumps(evaluate(sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
