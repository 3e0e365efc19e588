import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from kdlib.__main__ import main
from kdlib.data import CIFAR10_CLASSES
from kdlib.methods import METHODS
from kdlib.report import figures, findings
from kdlib.report.notebooks import NOTEBOOKS, make_report, run_notebooks
from kdlib.study import internals as inside
from kdlib.study.internals import inside_table, likeness_table
from kdlib.study.schema import read_profile
from kdlib.study.specs import TEACHER_SEEDS
from kdlib.study.status import read_plan, states, summary
from kdlib.study.study import Study
from kdlib.study.tables import cost_table, teacher_table
from kdlib.train import Progress

# ---------------------------------------------------------------------------------------------- study


@pytest.mark.parametrize(("name", "sample"), [("cifar10", ("lm", "sskd")), ("paper", ("crd", "capd"))])
def test_large_profiles_build_and_take_a_step(name, sample, tmp_path):
    """Their own networks and recipes, on a few procedural images and without the weights to download."""
    changes = {
        "data": {"name": "shape_texture", "train_images": 10, "options": {"test_images": 10}},
        "seeds": [0],
        "training": {"epochs": 1, "batch_size": 5},
    }
    for group in ("students", "teachers"):
        for network in read_profile(name)[group]:
            changes[f"{group}.{network}.training.epochs"] = 1
            changes[f"{group}.{network}.model.pretrained"] = False
            if name == "paper":
                changes[f"{group}.{network}.model.image_size"] = 64  # for 224: a twelfth of the time
    if name == "paper":  # two of ViT-B's twelve blocks
        vits = ("students.vit", "teachers.vit", "teachers.vit_matched")
        changes |= {f"{network}.model.options": {"depth": 2} for network in vits}
    study = Study(name, tmp_path, tmp_path, changes, quiet=True)
    members = [member for member in study.members() if member.role in sample]
    for run in study.store.get_all(member.spec for member in members):
        assert not run.diverged


def test_members_are_paired_by_seed(finished):
    members = finished.members()
    assert len(members) == 2 * (2 + 10 + 2 + 11)  # teacher, baseline, methods and controls of two directions
    for member in members:
        teacher = member.spec if member.role == "teacher" else member.spec.teacher
        assert teacher is None or teacher.seed == TEACHER_SEEDS + member.seed
        assert member.role == "teacher" or member.spec.seed == member.seed
    baseline = next(m for m in members if (m.direction, m.role) == ("cnn_to_vit", "baseline"))
    taught = next(m for m in members if (m.direction, m.role) == ("cnn_to_vit", "crd"))
    assert baseline.spec.training == taught.spec.training
    assert baseline.spec.student == taught.spec.student


def test_networks_and_probes_follow_the_size_of_the_data(minimal):
    overrides = {"data.image_size": 48, "students.vit.model.image_size": 64, "probes": ["grey"]}
    study = Study(**minimal, overrides=overrides, quiet=True)
    sizes = {(m.spec.student.name, m.role == "teacher"): m.spec.student.image_size for m in study.members()}
    assert sizes == {
        ("resnet18", True): 48,
        ("resnet18", False): 48,
        ("vit_tiny_patch16_224", True): 48,
        ("vit_tiny_patch16_224", False): 64,  # its own
    }
    assert study.dataset.train.images.shape[2:] == study.stimuli["grey"].images.shape[2:] == (48, 48)


def test_a_longer_schedule_shares_what_it_does_not_change(finished):
    longer = finished.longer
    base = {(m.direction, m.role, m.seed): m.spec for m in finished.members()}
    later = {(m.direction, m.role, m.seed): m.spec for m in longer.members()}
    changed = {key for key, spec in later.items() if spec != base[key]}
    assert changed == {("vit_to_cnn", role, seed) for role in ("baseline", "capd") for seed in (0, 1)}
    assert later.keys() - changed == {("vit_to_cnn", "teacher", seed) for seed in (0, 1)}
    assert all(later[key].training.epochs == base[key].training.epochs + 1 for key in changed)
    assert {later[key].id for key in changed} < {spec.id for spec in finished.specs()}
    assert longer.longer is None and longer.store is finished.store
    told, moved = findings.with_more_epochs(longer, {"clean"})
    assert re.search(r"ViT → CNN, 3 epochs.*CAPD moves ", told, re.DOTALL)
    assert set(moved.method) == {"capd"}


def test_without_a_longer_schedule_it_is_said():
    assert findings.with_more_epochs(None, set())[0].startswith("This study has no longer schedule")


def test_evidence_has_every_answer(finished):
    evidence = finished.evidence("vit_to_cnn")
    plan = finished.directions["vit_to_cnn"]
    assert evidence.roles == ["teacher", "baseline", *plan["methods"], *plan["controls"]]
    for role in evidence.roles:
        for probe, stimuli in finished.stimuli.items():
            assert evidence[role, "accuracy", probe].shape == (2, len(stimuli.labels))
        assert evidence[role, "far_near", "inside"].shape == (2, len(finished.few))


def test_conflicts_of_the_procedural_set_are_drawn_of_the_same_pairs(finished):
    drawn, painted = (finished.stimuli[name] for name in ("cue_conflict", "colour_axis"))
    for field in ("labels", "texture_labels", "ids"):
        assert getattr(drawn, field).equal(getattr(painted, field))
    assert not (drawn.images == painted.images).flatten(1).all(1).any()
    assert drawn.sha256 == finished._draw("cue_conflict", finished.test).sha256


def test_networks_are_looked_into_once(finished, monkeypatch):
    table = inside_table(finished, "cnn_to_vit")
    attention = table[table.measure == "attention"]
    assert "untrained" in set(attention.role) and "teacher" not in set(attention.role)  # the teacher is a CNN
    assert set(table[table.measure == "rms"].place) == {1, 2, 3, 4}
    likeness = likeness_table(finished, "cnn_to_vit")
    assert len(likeness) == 25 * 2 * (len(set(table.role)) - 2) and likeness.cka.max() <= 1
    monkeypatch.setattr(inside, "_ckas", None)
    pd.testing.assert_frame_equal(likeness_table(finished, "cnn_to_vit"), likeness)


def test_a_shorter_control_is_the_baseline_with_fewer_epochs(finished):
    members = {member.role: member.spec for member in finished.members("vit_to_cnn") if not member.seed}
    fewer, alone = members["fewer_epochs"], members["baseline"]
    assert fewer.training.epochs == 1 and alone.training.epochs == 2  # 0.6 times, rounded
    assert replace(fewer, training=alone.training) == alone


def test_stimuli_by_others_are_used_where_their_files_are(tmp_path):
    for split in ("train", "test"):
        for name in CIFAR10_CLASSES:
            folder = tmp_path / "cifar10" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / "0.png")
    (tmp_path / "CIFAR-10-C").mkdir()
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", np.zeros((20, 32, 32, 3), np.uint8))
    np.save(tmp_path / "CIFAR-10-C" / "labels.npy", np.tile([0, 1, 2, 3], 5).astype(np.uint8))
    changes = {"data": {"name": "cifar10"}, "probes": ["clean"], "test_images": 10}
    study = Study(
        "quick", tmp_path, tmp_path, changes | {"external": ["geirhos", "cifar10_c"], "inside_images": 10}
    )
    assert list(study.stimuli) == ["clean", "fog_c1", "fog_c3", "fog_c5"]
    (missing,) = study.missing
    assert "texture-vs-shape" in missing and "clone https://github.com/rgeirhos" in missing
    assert figures.probe_gallery(study.stimuli, ["texture"]) is None
    told = findings.external(study)
    assert told.startswith("Stimuli by others in use: fog_c1, fog_c3 and fog_c5.") and "* Not here: " in told


def test_a_control_differs_from_its_method_in_the_teacher_alone(finished):
    cnn_to_vit, vit_to_cnn = (
        {member.role: member.spec for member in finished.members(direction) if not member.seed}
        for direction in finished.directions
    )
    for members, control, method, key in (
        (cnn_to_vit, "lm_same_family", "lm", "vit"),
        (cnn_to_vit, "crd_same_family", "crd", "vit"),
        (cnn_to_vit, "lm_matched", "lm", "vit_matched"),
        (vit_to_cnn, "lm_same_family", "lm", "cnn"),
    ):
        assert asdict(members[control]) | {"teacher": None} == asdict(members[method]) | {"teacher": None}
        assert members[control].teacher.student.name == finished.profile["teachers"][key]["model"]["name"]
        assert members[control].teacher != members[method].teacher
    rotated = vit_to_cnn["rotations"]
    assert rotated.hyper == {"augmentation": "rotations"} and rotated.teacher is None


def test_teachers_are_told_with_their_accuracy(finished):
    table = teacher_table(finished, "cnn_to_vit")
    assert list(table.teacher) == ["teacher", "same family", "matched"]
    assert list(table.network) == ["resnet18", "vit_tiny_patch16_224", "vit_tiny_patch16_224"]
    assert table.estimate.between(0, 1).all()


def test_cost_is_relative_to_the_baseline(finished):
    cost = cost_table(finished, "cnn_to_vit")
    assert (cost[cost.role == "baseline"]["relative"] == 1).all()
    assert (cost[cost.role == "crd"]["extra_parameters"] == 128 * (16 + 16 + 2)).all()


def test_the_parameters_that_a_method_adds_are_counted(finished):
    cost = cost_table(finished, "cnn_to_vit").drop_duplicates("role").set_index("role")["extra_parameters"]
    # DeiT: a token, its position, and a second head for 10 classes; D is 16.
    expected = {"lm": 0, "crd": 128 * (16 + 16 + 2), "deit": 2 * 16 + 17 * 10}
    assert cost[list(expected)].to_dict() == expected


# --------------------------------------------------------------------------------------------- status


def test_everything_is_done(finished):
    table = pd.DataFrame(states(finished.store.root, finished.plan()))
    assert set(table.state) == {"done"} and set(table.seconds) == {0} and set(table.error) == {""}
    assert set(table.answers) == {f"{len(finished.probes)}/{len(finished.probes)}", ""}
    assert (table.role == "yardstick").sum() == 8
    assert summary(states(finished.store.root, finished.plan())) == f"{len(set(table.run))} done"


def test_status_tells_what_each_run_is(finished, minimal, tmp_path):
    study = Study(**minimal | {"output": tmp_path}, overrides=[text.removeprefix("--set=") for text in SMALL])
    roles = {m.role: m.spec for m in study.members("cnn_to_vit")}
    plan, root = study.plan(), study.store.root
    assert {row["state"] for row in states(root, plan)} == {"left"} and len(plan["runs"]) == 16
    assert summary(states(root, plan)) == "16 left; no estimate yet of the time that is left"

    shutil.copytree(finished.store.path(roles["teacher"]), study.store.path(roles["teacher"]))
    (study.store.path(roles["teacher"]) / "timing.csv").write_text("epoch,student,stage\n1,50,20\n2,50,\n")
    Progress([{"epoch": 1}], [{"epoch": 1, "student": 1.0}], {}).write(
        study.store.beside(roles["baseline"], "checkpoint")
    )
    study.store.beside(roles["lm"], "failed").write_text("ValueError: no\n\nwhere it came from")
    with FileLock(study.store.beside(roles["crd"], "lock")):
        rows = states(root, plan)
    table = pd.DataFrame(rows)
    found = table[table.direction == "cnn_to_vit"].set_index("role")
    assert dict(found.state) == {
        "teacher": "done",
        "baseline": "stopped",
        "lm": "failed",
        "crd": "running",
    }
    assert list(found.epochs) == ["2/2", "1/2", "0/2", "0/2"]
    assert list(found.seconds) == [0, 60, 120, 120]
    assert found.error["lm"] == "ValueError: no"
    # 1 + 2 + 2 epochs there, 4 runs of 2 in the other direction, and 8 yardsticks of 5: 53 minutes
    assert summary(rows) == (
        "12 left, 1 done, 1 stopped, 1 failed, 1 running; training may take 53 min more with 1 at a time, "
        "probes not counted"
    )


# -------------------------------------------------------------------------------- notebooks, report


@pytest.fixture(scope="session")
def executed(finished):
    return run_notebooks(finished)


def test_all_notebooks_run_and_leave_figures_and_tables(finished, executed):
    assert [path.stem[:2] for path in executed] == ["01", "02", "03", "04", "05"]
    figures = {path.name for path in (finished.folder / "figures").iterdir()}
    assert {name.removesuffix(".png") + ".svg" for name in figures if name.endswith(".png")} <= figures
    for name in ("01_probe_texture.png", "02_learning.png", "03_cost.png", "05_original.png"):
        assert name in figures
    measures = pd.read_csv(finished.folder / "tables" / "04_measures.csv")
    assert {"accuracy", "retention", "raw_ratio", "shape_bias", "cue_rate"} <= set(measures.measure)


def test_the_report_holds_all_chapters(finished, executed):
    page, *rest = make_report(finished)
    text = page.read_text()
    assert text.count("data-notebook=") == 5
    assert finished.dataset.spec.fingerprint in text
    assert "This cell failed" not in text
    assert [path.suffix for path in rest] in ([], [".pdf"])


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_clean(path):
    notebook = nbformat.read(path, as_version=4)
    first, parameters = notebook.cells[:2]
    assert first.cell_type == "markdown" and re.match(r"# [\w ]+\n\n\*.*\?\*\n", first.source)
    assert parameters.metadata.tags == ["parameters"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 12 and "def " not in cell.source
            assert max(map(len, cell.source.splitlines())) <= 100


# --------------------------------------------------------------------------------------- command line


def arguments(minimal, *more):
    return [*more, *(f"--{name}={value}" for name, value in minimal.items())]


def test_train_command_finds_everything_done(finished, minimal, capsys):
    assert main(arguments(minimal, "train")) == 0
    assert "runs are complete" in capsys.readouterr().out


SMALL = [
    "--set=seeds=[0]",
    "--set=probes=[clean]",
    "--set=inside_images=0",
    "--set=longer={}",
]  # 2 directions with a teacher and 3 students each, and 8 yardsticks
for direction in ("cnn_to_vit", "vit_to_cnn"):
    SMALL += [f"--set=directions.{direction}.methods=[lm, crd]", f"--set=directions.{direction}.controls=[]"]
NO_YARDSTICKS = ["--set=yardstick_images=null"]


def test_a_time_limit_stops_before_the_next_run(minimal, tmp_path, capsys):
    assert main([*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL, "--time-limit=0"]) == 3
    assert "stopped before baseline: resnet18" in capsys.readouterr().err


def test_a_signal_stops_at_a_checkpoint_and_the_same_command_goes_on(finished, minimal, tmp_path, capsys):
    words = [*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL]

    def at_the_first_checkpoint():
        while not list(tmp_path.glob("runs/*.checkpoint.safetensors")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=at_the_first_checkpoint, daemon=True).start()
    assert main(words) == 3
    assert re.search(r"stopped .*; the same command goes on from there\n$", capsys.readouterr().err)
    assert main(words) == 0
    assert "16 runs are complete" in capsys.readouterr().out
    for path in tmp_path.glob("runs/*/weights.safetensors"):
        undisturbed = finished.store.root / path.relative_to(tmp_path / "runs")
        assert path.read_bytes() == undisturbed.read_bytes()


def test_a_failed_run_is_named_and_the_others_are_trained(minimal, tmp_path, capsys, monkeypatch):
    forward = METHODS["crd"].forward

    def broken(self, batch, student, teacher):
        if batch.progress:  # not in the first step, which is tried before anything is trained
            raise ValueError("no such thing")
        return forward(self, batch, student, teacher)

    monkeypatch.setattr(METHODS["crd"], "forward", broken)
    words = [*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL]
    assert main(words) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    first = "crd: vit_tiny_patch16_224 from resnet18, seed 0 and 1 more: ValueError: no such thing"
    assert error == f"kdlib: 2 of 16 runs failed: {first}"
    assert main(["status", *words[1:]]) == 0
    told = capsys.readouterr().out
    assert told.count(" failed: ValueError: no such thing\n") == 2
    assert "14 done, 2 failed; training may take" in told


def test_two_commands_started_together_train_every_run_once(minimal, tmp_path):
    script = (
        "import sys\n"
        "from kdlib.__main__ import main\n"
        "from kdlib.study.runs import RunStore\n"
        "train = RunStore._train\n"
        "def noted(self, spec):\n"
        "    with open(sys.argv[1], 'a') as file:\n"
        "        file.write(spec.id + '\\n')\n"
        "    return train(self, spec)\n"
        "RunStore._train = noted\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    words = [*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL, *NO_YARDSTICKS]
    start = [sys.executable, "-c", script, tmp_path / "trained.txt", *words]
    processes = [subprocess.Popen(start, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    trained = (tmp_path / "trained.txt").read_text().split()
    assert len(trained) == len(set(trained)) == 8


def test_two_jobs_share_the_runs(minimal, tmp_path, capsys):
    words = [*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL, *NO_YARDSTICKS, "--jobs=2"]
    assert main(words) == 0
    done = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    assert len(done) == 8


def test_status_reads_the_plan_that_training_left(finished, minimal):
    """Without torch, pandas and pydantic; a wrong name is told as quickly."""
    plan = read_plan(finished.folder, finished.profile_digest)
    assert plan == json.loads(json.dumps(finished.plan()))
    script = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'numpy', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "from kdlib.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    start = [sys.executable, "-c", script]
    told = subprocess.run([*start, *arguments(minimal, "status")], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == f"{len(finished.specs())} done"
    for words, code in ((["list", "profiles"], 0), (["status", "--profile=quik"], 1)):
        assert subprocess.run([*start, *words], capture_output=True).returncode == code


def test_status_command(finished, minimal, capsys):
    assert main(arguments(minimal, "status")) == 0
    assert f"{len(finished.specs())} done" in capsys.readouterr().out


def test_bench_command(minimal, tmp_path, capsys):
    methods = {"cnn_to_vit": "lm", "vit_to_cnn": "ofa"}
    few = [f"--set=directions.{name}.methods=[{method}]" for name, method in methods.items()]
    few += [f"--set=directions.{name}.controls=[]" for name in methods]
    place = [f"--profile={minimal['profile']}", f"--output={tmp_path}", f"--data={minimal['data']}"]
    assert main(["bench", "--rounds=1", *place, *few]) == 0
    assert "OFA-KD" in capsys.readouterr().out
    kept = json.loads((tmp_path / "minimal" / "bench.json").read_text())
    assert len(kept["steps"]) == 2 + 2


def test_errors_are_one_line(capsys):
    assert main(["status", "--profile=quik"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("kdlib: unknown profile 'quik'. Did you mean 'quick'")
    assert error.count("\n") == 1


def test_training_needs_neither_jupyter_nor_plotting():
    """A bare compute node has torch, timm, pandas, scikit-image, safetensors and tqdm."""
    script = (
        "import sys\n"
        "for name in ('matplotlib', 'seaborn', 'papermill', 'nbconvert', 'IPython', 'jupyterlab', 'bs4'):\n"
        "    sys.modules[name] = None\n"
        "import kdlib.study.study, kdlib.__main__\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
