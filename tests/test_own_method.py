"""A method from a file of one's own, which a profile names by ``methods_from``."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from kdlib import methods
from kdlib.__main__ import main
from kdlib.data import PROJECT
from kdlib.report.notebooks import run_notebooks
from kdlib.study import Study
from kdlib.study.profile import digest_of, overridden_profile
from kdlib.study.schema import read_profile
from kdlib.study.specs import RunSpec

from .test_preflight import SMALL

README = (PROJECT / "kdlib" / "methods" / "README.md").read_text(encoding="utf-8")
HINTS = re.search(r"^```python\n(.*?)^```", README, re.M | re.S)[1] + (
    '\nfrom kdlib.methods import METHODS\n\nMETHODS["hints"] = Hints\n'
)


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """What a file adds is gone after the test."""
    known, own, modules = dict(methods.METHODS), dict(methods.OWN), set(sys.modules)
    yield
    for table, before in ((methods.METHODS, known), (methods.OWN, own)):
        table.clear()
        table.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("methods_from_"):
            del sys.modules[name]


def write(folder: Path, source: str = HINTS) -> str:
    """The method's file, and beside it a small profile with it; the profile's path."""
    profile = {key: value for key, value in SMALL.items() if value is not None}
    profile |= {"title": "Mine", "methods_from": "my_method.py"}
    profile["directions"] = {"cnn_to_vit": SMALL["directions"]["cnn_to_vit"] | {"methods": ["lm", "hints"]}}
    folder.mkdir(exist_ok=True)
    (folder / "my_method.py").write_text(source)
    (folder / "mine.yml").write_text(yaml.safe_dump(profile))
    return str(folder / "mine.yml")


def spec_of(study: Study, role: str) -> RunSpec:
    return next(member.spec for member in study.members() if member.role == role)


def test_commands_and_the_kernels_of_notebooks_know_it(tmp_path, capsys):
    words = ["--profile", write(tmp_path), f"--output={tmp_path}/out", f"--data={tmp_path}"]
    assert main(["train", *words]) == 0 and main(["status", *words]) == 0
    assert re.search("hints +0 +done", capsys.readouterr().out)
    study = Study(str(tmp_path / "mine.yml"), tmp_path / "out", tmp_path, quiet=True)
    (executed,) = run_notebooks(study, ["02_cnn_to_vit"])
    assert "Hints" in str([cell.get("outputs") for cell in nbformat.read(executed, 4).cells])


def test_the_file_is_part_of_what_its_runs_are_and_of_no_others(tmp_path):
    first = Study(write(tmp_path / "one"), tmp_path, tmp_path)
    again = Study(write(tmp_path / "copy"), tmp_path, tmp_path)
    assert spec_of(again, "hints").id == spec_of(first, "hints").id
    assert again.profile_digest == first.profile_digest
    plain = Study("quick", tmp_path, tmp_path, SMALL)
    assert spec_of(plain, "lm").id == spec_of(first, "lm").id
    before, baseline = spec_of(first, "hints").id, spec_of(first, "baseline").id
    del methods.METHODS["hints"]  # as in a new process
    changed = Study(write(tmp_path / "one", HINTS + "# changed\n"), tmp_path, tmp_path)
    assert spec_of(changed, "hints").id != before and spec_of(changed, "baseline").id == baseline
    assert changed.profile_digest != first.profile_digest


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1", "it adds no method; end it with METHODS"),
        ("import nothing_like_this", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("def", "SyntaxError: invalid syntax (my_method.py, line 1)"),
        (HINTS.replace('"hints"', '"lm"'), "the name lm is taken; choose another"),
        (HINTS.replace('"hints"', '"more_epochs"'), "the name more_epochs is taken; choose another"),
        (
            HINTS.replace("= Hints\n", "= print\n"),
            "hints is not a subclass of kdlib.methods.Method with a title",
        ),
        (HINTS.replace('title = "Hints"', 'title = "LM"'), "hints: the title LM is taken; choose another"),
        (HINTS.replace("(eq=False)", ""), "hints: write @dataclass(eq=False) above the class, and give each"),
        (
            HINTS.replace("float = 1.0", "float"),
            "hints: write @dataclass(eq=False) above the class, and give",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, capsys, source, told):
    profile, known = write(tmp_path, source), dict(methods.METHODS)
    assert main(["train", "--profile", profile, f"--output={tmp_path}", f"--data={tmp_path}"]) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"kdlib: methods_from: {tmp_path / 'my_method.py'}: {told}") and "\n" not in line
    assert known == methods.METHODS


def test_a_default_of_1_of_a_float_may_be_changed_to_a_half(tmp_path):
    profile = write(tmp_path, HINTS.replace("float = 1.0", "float = 1"))
    study = Study(profile, tmp_path, tmp_path, {"hyper.hints.weight": 0.5})
    assert spec_of(study, "hints").hyper == {"weight": 0.5}


def test_a_file_that_changes_under_a_process_is_refused(tmp_path):
    read_profile(write(tmp_path))
    read_profile(write(tmp_path))
    with pytest.raises(ValueError, match="the name hints is taken; .* restart Python if the file has chan"):
        read_profile(write(tmp_path, HINTS + "# changed\n"))


def test_a_missing_file_is_named_before_torch_is_loaded(tmp_path):
    profile = write(tmp_path)
    assert digest_of(overridden_profile(profile, ["methods_from=null"]))
    (tmp_path / "my_method.py").unlink()
    with pytest.raises(
        ValueError, match="there is no file .*my_method.py; give a path from the profile's fold"
    ):
        overridden_profile(profile)
