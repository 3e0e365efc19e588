"""The command line: what it refuses, and what it needs torch for."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from kdlib import __main__ as command
from kdlib.__main__ import granted_processors, main
from kdlib.methods import METHODS
from kdlib.study.profile import PROFILES, profile_names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the following arguments are required: command; see python -m kdlib --help"),
        (["trian"], "invalid choice: 'trian' (choose from"),
        (["status", "--jobs=2"], "unrecognized arguments: --jobs=2"),
        (
            ["train", "--jobs=0"],
            "argument --jobs: 0 is too small; give at least 1; see python -m kdlib train",
        ),
        (["train", "--jobs=two"], "argument --jobs: invalid"),
        (["train", "--time-limit=-1"], "argument --time-limit: -1 is too small; give at least 0"),
        (["train", "--time-limit=nan"], "argument --time-limit: nan is too small"),
        (["train", f"--output={__file__}"], f"argument --output: {__file__} is a file; give a folder"),
        (["train", f"--data={__file__}"], f"argument --data: {__file__} is a file; give a folder"),
        (["study", "--notebooks", "06"], "argument --notebooks: invalid choice: '06' (choose from '01_data"),
        (["list", "people"], "argument kind: invalid choice: 'people' (choose from"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    error = capsys.readouterr().err
    assert error.startswith("kdlib: ") and error.count("\n") == 1 and told in error


@pytest.mark.parametrize("words", [["status"], ["train"], ["study"]])
def test_an_unknown_profile_is_told_in_one_line_with_the_closest(words, capsys):
    assert main([*words, "--profile=quik"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("kdlib: unknown profile 'quik'. Did you mean 'quick'") and error.count("\n") == 1


@pytest.mark.parametrize("word", ["train", "study", "report", "bench"])
def test_an_output_that_cannot_be_made_is_told_before_anything_is_read(word, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([word, f"--output={tmp_path}/file/below", "--data=nowhere"]) == 1
    told = f"kdlib: --output: {tmp_path}/file/below/quick can't be written (Not a directory); give a folder"
    assert capsys.readouterr().err.startswith(told)


def test_a_profile_without_directions_has_no_notebooks(capsys):
    assert main(["study", "--profile=induced"]) == 1
    assert "profile induced has no directions for the notebooks to show" in capsys.readouterr().err


def test_a_copied_profile_of_the_same_name_does_not_replace_published_records(capsys, tmp_path):
    copy = tmp_path / "quick.yml"
    copy.write_text((PROFILES / "quick.yml").read_text())
    assert main(["publish", "--profile", str(copy)]) == 1
    assert "results/quick is of kdlib's profile; call yours otherwise" in capsys.readouterr().err


def test_a_traceback_is_shown_on_request():
    with pytest.raises(ValueError, match="unknown profile 'quik'"):
        main(["--traceback", "status", "--profile=quik"])


def test_methods_and_profiles_are_listed(capsys):
    assert main(["list", "methods"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(METHODS)
    assert main(["list", "profiles"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == profile_names()


@pytest.mark.parametrize("kind", [*("methods", "probes"), "models"])
def test_everything_that_can_be_named_is_listed(kind, capsys):
    assert main(["list", kind]) == 0
    assert {"methods": "crd", "probes": "cue_conflict", "models": "resnet18"}[kind] in capsys.readouterr().out


@pytest.mark.parametrize(("told", "count"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")
def test_processors_are_those_granted_not_the_machines(told, count, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(command, "CGROUPS", tmp_path)
    (tmp_path / "cpu.max").write_text(told)
    assert granted_processors() == count


def test_threads_and_device_hold_for_whatever_is_started(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "granted_processors", lambda: 0)  # fewer than any machine has

    def train(options):
        pass

    monkeypatch.setattr(command, "train", train)
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "0"})
    assert main(["train", "--device=cpu", f"--output={tmp_path}"]) == 0
    assert os.environ == {"OMP_NUM_THREADS": "0", "CUDA_VISIBLE_DEVICES": ""}
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "3"})
    assert main(["train", f"--output={tmp_path}"]) == 0 and os.environ == {"OMP_NUM_THREADS": "3"}


def test_runs_that_diverged_are_told(monkeypatch, capsys, tmp_path):
    runs = [SimpleNamespace(diverged=no, spec=SimpleNamespace(label=f"run {no}")) for no in (0, 1, 2)]
    store = SimpleNamespace(root="runs", device=torch.device("cpu"))
    study = SimpleNamespace(store=store, train=lambda: runs)
    monkeypatch.setattr(command, "_study", lambda options, **more: study)
    monkeypatch.setattr("kdlib.study.preflight.preflight", lambda study: None)
    assert main(["train", f"--output={tmp_path}"]) == 0
    assert "2 of 3 runs diverged, so no measure uses them: run 1; run 2\n" in capsys.readouterr().err


SLOW = ("torch", "torchvision", "timm", "numpy", "pandas", "pydantic", "scipy", "matplotlib", "papermill")


@pytest.mark.parametrize(
    "words",
    [
        *("--help", "study --help", "list methods", "list profiles"),
        *("status --profile quik", f"train --output {__file__}/below"),
    ],
)
def test_what_needs_no_library_that_is_slow_imports_none(words):
    script = (
        f"import sys; sys.modules |= dict.fromkeys({SLOW}); from kdlib.__main__ import main\n"
        "try: sys.exit(main(sys.argv[1:]))\n"
        "except ImportError: sys.exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *words.split()], capture_output=True, check=False)
    assert done.returncode == (1 if "quik" in words or "below" in words else 0), done.stderr


def test_networks_and_training_are_known_without_their_libraries():
    """torchvision imports torch's compiler, and timm all its networks; scipy.optimize is for one method."""
    script = (
        "import sys; sys.modules |= dict.fromkeys(('torchvision', 'timm', 'scipy'))\n"
        "import kdlib.train, kdlib.models, kdlib.methods, kdlib.data\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
