"""Studies that can say little: each comes to its end, and says what it can't tell and why."""

import pytest

from kdlib.study.study import Study

from .common import run_cells

DIRECTIONS = ("cnn_to_vit", "vit_to_cnn")
ONE_METHOD = {f"directions.{name}.methods": ["lm"] for name in DIRECTIONS} | {"yardstick_images": None}
NO_CONTROLS = {f"directions.{name}.controls": [] for name in DIRECTIONS}


@pytest.fixture
def told(minimal, finished, monkeypatch):
    """What all notebooks say in a study with these overrides; cells run here, without a kernel."""

    def run(overrides: dict) -> str:
        study = Study(**minimal, overrides=overrides, quiet=True)
        study.train()
        text = run_cells(study, monkeypatch)
        assert " nan" not in text and "NaN" not in text
        return text

    return run


def test_one_seed(told):
    text = told(ONE_METHOD | NO_CONTROLS | {"seeds": [0], "longer": {}})
    assert "**This study cannot tell: one seed gives no interval" in text


def test_one_seed_with_a_longer_schedule_of_the_whole_profile(told):
    longer = {"training": {"epochs": 1}, "directions.vit_to_cnn": None}
    text = told(ONE_METHOD | NO_CONTROLS | {"seeds": [0], "longer": longer})
    assert "* **CNN → ViT, 1 epoch.** Not testable: one seed gives no interval. Accuracy: Teacher" in text


def test_one_direction(told):
    text = told({"directions.cnn_to_vit": None})
    assert "**This study has no direction CNN → ViT**, only ViT → CNN." in text
    assert "this study has no CNN → ViT" in text  # a claim's reason


def test_one_method_without_controls(told):
    text = told(ONE_METHOD | NO_CONTROLS | {"longer": {}})
    assert text.count(">not run</td>") > 5  # objections that need a control
    assert text.count("This study has no teachers with a trained-in property.") == 5
    assert "This study has no longer schedule" in text


def test_clean_images_alone(told):
    text = told(ONE_METHOD | {"probes": ["clean"], "longer": {}, "inside_images": 0})
    assert "This study has no shape bias on cue conflict." in text
    assert "### Permutation invariance" not in text  # a section without its probes


def test_made_properties_of_networks_that_learned_nothing(told):
    made = {"properties": {"noise": 0.2}, "methods": ["rsd"], "directions": {"cnn_to_vit": []}}
    text = told(ONE_METHOD | NO_CONTROLS | {"longer": {}, "made": made})
    assert "**This study cannot tell whether a property trained into the teacher reaches a student" in text
    assert "* **CNN → ViT.** Nothing is testable: the " in text and "did not learn (1)." in text
    assert "No comparison of the two heads is testable here." in text
    assert "it needs 3 seeds; this study has 2" in text
