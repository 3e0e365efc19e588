"""What would stop a study is told before anything trains."""

import json

import numpy as np
import pytest
from PIL import Image

from kdlib.__main__ import main
from kdlib.methods import METHODS as kinds
from kdlib.study.preflight import preflight
from kdlib.study.study import Study

from .common import TINY_CNN, TINY_VIT

SMALL = {
    "data": {"name": "shape_texture", "train_images": 40, "options": {"test_images": 40}},
    "training": {"epochs": 1, "batch_size": 16},
    "teachers": {"cnn": {"model": {"name": "resnet18", "options": TINY_CNN}}},
    "students": {"vit": {"model": {"name": "vit_tiny_patch16_224", "options": TINY_VIT}}},
    "directions": {"cnn_to_vit": {"teacher": "cnn", "student": "vit", "methods": ["lm", "crd"]}},
    **{"seeds": [0], "probes": ["clean"], "inside_images": 0, "made": None, "hyper": {}, "external": []},
    "yardstick_images": None,
}
NAME, METHODS = "students.vit.model.name", "directions.cnn_to_vit.methods"


@pytest.fixture
def study(tmp_path):
    def make(changes: dict) -> Study:
        return Study("quick", tmp_path / "outputs", tmp_path, SMALL | changes, quiet=True)

    return make


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"training.batch_size": 500},
            "baseline: resnet18 and 3 more: batch size 500 exceeds the 40 training images; give a smaller",
        ),
        (
            {NAME: "vit_tiny"},
            "baseline: vit_tiny and 2 more: unknown timm model 'vit_tiny'. Did you mean",
        ),
        ({"students.vit.model.options": {"depht": 2}}, "does not take these options"),
        (
            {METHODS: ["capd"]},
            "capd: vit_tiny_patch16_224 from resnet18: CAPD reads the attention of a plain",
        ),
        (
            {"probes": ["clean", "no_conflict"], "data.options": {"test_images": 10}},
            "probe no_conflict: cue conflict of 10 classes (2 or more) need",
        ),
        (
            {"data.image_size": 28, "probes": ["scramble_8", "grid_mean_64"]},
            "probe scramble_8 and 1 more: grid 8 doesn't divide images of 28x28",
        ),
        (
            {"data.image_size": 30, "inside_images": 2},
            "inside_images, baseline: resnet18: images of 30x30 px can't be cut into 4 x 4",
        ),
    ],
)
def test_what_would_stop_a_study_is_told(study, changes, told):
    with pytest.raises(ValueError) as error:
        preflight(study(changes))
    assert str(error.value).startswith("nothing is trained yet: ") and told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_method_that_forgets_what_it_reads_is_told_where_to_name_it(study, monkeypatch):
    monkeypatch.setitem(kinds, "forgetful", type("Forgetful", (kinds["fitnet"],), {"reads": ("logits",)}))
    with pytest.raises(ValueError, match="forgetful: .*; name the stages or qkv that a method"):
        preflight(study({METHODS: ["forgetful"]}))


def test_everything_is_told_at_once(study):
    changes = {
        "training.batch_size": 500,
        NAME: "vit_tiny",
        **{"probes": ["no_conflict"], "data.options": {"test_images": 10}},
        METHODS: ["lm", "cskd"],
    }
    with pytest.raises(ValueError) as error:
        preflight(study(changes))
    for told in ("batch size 500", "unknown timm model", "cue conflict of 10 classes"):
        assert str(error.value).count(told) == 1


def test_weights_that_cannot_be_had_are_asked_for_once(study, monkeypatch):
    asked = []

    def build(spec, *given, **more):
        asked.append(spec.name)
        raise OSError("no connection")

    monkeypatch.setattr("kdlib.study.preflight.Network", build)
    with pytest.raises(ValueError, match="baseline: resnet18 and 3 more: OSError: no connection"):
        preflight(study({METHODS: ["lm", "deit"]}))
    assert asked == ["resnet18", "vit_tiny_patch16_224"]


def test_the_profile_of_a_hundred_classes_takes_a_step_with_two_images_of_each(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        folder = tmp_path / "cifar100" / ("train", "test")[index % 2] / f"{index // 4:02}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    changes = {"seeds": [0], "yardstick_images": None, "inside_images": 0, "training.batch_size": 100}
    changes |= {"directions.vit_to_cnn": None, "directions.cnn_to_vit.controls": []}
    for network in ("students.vit", "teachers.vit", "teachers.vit_matched", "teachers.cnn"):
        changes[f"{network}.model.options"] = TINY_CNN if network.endswith("cnn") else TINY_VIT
    made = Study("cifar100", tmp_path / "outputs", tmp_path, changes, quiet=True)
    preflight(made)
    shown = made._draw("colour_axis", made.test)
    assert set(shown.labels.bincount().tolist() + shown.texture_labels.bincount().tolist()) == {1}


def test_stimuli_by_others_for_other_classes_are_left_out(study):
    made = study({"external": ["geirhos", "cifar10_c"]})
    preflight(made)
    assert list(made.stimuli) == ["clean"]
    assert all(told.endswith("with CIFAR-10.") for told in made.missing) and len(made.missing) == 2


def test_a_command_trains_nothing_that_would_not_end(tmp_path, capsys):
    words = [f"--output={tmp_path}", f"--data={tmp_path}"]
    words += [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    words.append("--set=training.batch_size=5000")
    assert main(["train", *words]) == 1
    assert "nothing is trained yet: baseline: resnet18 and" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*/spec.json"))


def test_nothing_is_tried_of_a_study_that_is_finished(finished, monkeypatch):
    monkeypatch.setattr("kdlib.study.preflight.fit", None)
    preflight(finished)
