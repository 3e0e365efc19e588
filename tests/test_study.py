from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdlib.data import CIFAR10_CLASSES
from kdlib.report import figures, findings
from kdlib.study import internals as inside
from kdlib.study.internals import inside_table, likeness_table
from kdlib.study.schema import read_profile
from kdlib.study.specs import TEACHER_SEEDS
from kdlib.study.study import Study
from kdlib.study.tables import cost_table, teacher_table

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
    checked = pd.DataFrame({"probe": ["cue_conflict"], "accepted": [True]})
    told, moved = findings.with_more_epochs(longer, checked)
    assert "* **ViT → CNN, 3 epochs.** Not testable: " in told  # so small networks learn nothing
    assert set(moved.method) == {"capd"} and "cue_conflict" in set(moved.probe)
    moved = findings.with_more_epochs(longer, checked.assign(accepted=False))[1]
    assert len(moved) and "cue_conflict" not in set(moved.probe)


def test_parameters_that_papermill_gives_as_text_may_be_none():
    assert Study("quick", "None", "None", "", results="None").parameters == Study("quick").parameters


def test_without_a_longer_schedule_it_is_said():
    assert findings.with_more_epochs(None, pd.DataFrame())[0].startswith("This study has no longer schedule")


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
    assert told.startswith("Published stimuli in use: fog_c1, fog_c3 and fog_c5.") and "* Not here: " in told


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
