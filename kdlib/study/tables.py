"""Tables of a study: its data, probes and networks, how training went and what it cost."""

from dataclasses import asdict

import pandas as pd

from kdlib.bias.statistics import crossed_interval
from kdlib.probes import PROBES
from kdlib.study.study import Study


def data_table(study: Study) -> pd.DataFrame:
    """Where the images come from, how many there are, and their fingerprint."""
    data = study.dataset
    entries = {
        "data": data.source,
        "fingerprint": data.spec.fingerprint,
        "training images": len(data.train),
        "test images": len(study.test),
        "classes": ", ".join(data.classes),
        "chance": data.chance,
    }
    return pd.DataFrame({"what": entries.keys(), "value": [str(value) for value in entries.values()]})


def probe_table(study: Study) -> pd.DataFrame:
    """Every probe with its question, its reference, its size and the name of its images."""
    return pd.DataFrame(
        {
            "probe": name,
            "family": PROBES[name].family,
            "question": PROBES[name].question,
            "compared with": PROBES[name].reference,
            "images": len(made.labels),
            "clipped values": made.meta.get("clipped", 0.0),
            "seconds": made.meta.get("seconds", 0.0) / len(made.labels) * 10_000,
            "sha256": made.sha256[:12],
        }
        for name, made in ((name, study.stimuli[name]) for name in study.probes)
    )


def network_table(study: Study, direction: str) -> pd.DataFrame:
    """What teacher and student are and how they are trained, side by side."""
    teacher, student = (member.spec for member in study.members(direction)[:2])
    columns = {
        name: {key: str(value) for key, value in (asdict(spec.student) | asdict(spec.training)).items()}
        for name, spec in (("teacher", teacher), ("every student", student))
    }
    return pd.DataFrame(columns).rename_axis("what").reset_index()


def teacher_table(study: Study, direction: str) -> pd.DataFrame:
    """How accurate every teacher of a direction is, the controls' too, on the clean test images."""
    specs = [pair for seed in study.seeds for pair in study.teachers(direction, seed).items()]
    runs = study.store.by_role(specs)
    answers = study.answers(direction, runs, {"clean": study.stimuli["clean"]})
    accuracies = [crossed_interval(answers.hits(role, "clean")) for role in runs]
    teachers = [seeds[0].spec for seeds in runs.values()]
    return pd.DataFrame(
        {
            "teacher": [role.replace("_", " ") for role in runs],
            "network": [spec.student.name for spec in teachers],
            "epochs": [spec.training.epochs for spec in teachers],
            **{end: [getattr(found, end) for found in accuracies] for end in ("estimate", "low", "high")},
        }
    )


def history_table(study: Study, direction: str) -> pd.DataFrame:
    """One row for each run, epoch, and term of the loss or accuracy, with its value."""
    return pd.concat(
        [
            run.history.melt("epoch", var_name="term").assign(
                role=role, seed=run.spec.seed, diverged=run.diverged
            )
            for role, runs in study.runs(direction).items()
            for run in runs
        ],
        ignore_index=True,
    )


def cost_table(study: Study, direction: str) -> pd.DataFrame:
    """Seconds an epoch of every run by part, beside the baseline student of the same seed.

    "stage", what a method trains on its teacher beforehand, is shared out over the epochs.
    """
    rows = []
    for role, runs in study.runs(direction).items():
        for run in runs:
            parts = run.timing.drop(columns="epoch").fillna(0).mean()
            rows.append(
                {
                    "direction": direction,
                    "role": role,
                    "seed": run.spec.seed,
                    **parts,
                    "epoch": parts.drop("evaluation").sum(),
                    "epochs": len(run.timing),
                    "parameters": run.record["student_parameters"] + run.record["method_parameters"],
                    "device": run.record["environment"]["device"],
                }
            )
    table = pd.DataFrame(rows)
    alone = table[table.role == "baseline"].set_index("seed")
    extra = table["parameters"] - table["seed"].map(alone["parameters"])
    return table.assign(
        relative=table["epoch"] / table["seed"].map(alone["epoch"]),
        extra_parameters=extra.where(table["role"] != "teacher"),
    )
