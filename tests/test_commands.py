"""Commands as they are typed: training in one process and in several, and how it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

from kdlib.__main__ import main
from kdlib.methods import METHODS

from .common import NO_YARDSTICKS, SMALL, arguments


def test_train_command_finds_everything_done(finished, minimal, capsys):
    assert main(arguments(minimal, "train")) == 0
    assert "runs are complete" in capsys.readouterr().out


def test_a_time_limit_stops_before_the_next_run(minimal, tmp_path, capsys):
    assert main([*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL, "--time-limit=0"]) == 3
    assert "stopped before baseline: resnet18" in capsys.readouterr().err


def test_a_signal_stops_at_a_checkpoint_and_the_same_command_goes_on(finished, minimal, tmp_path, capsys):
    words = [*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL, *NO_YARDSTICKS]

    def at_the_first_checkpoint():
        while not list(tmp_path.glob("runs/*.checkpoint.npz")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=at_the_first_checkpoint, daemon=True).start()
    assert main(words) == 3
    assert re.search(r"stopped .*; the same command resumes from there\n$", capsys.readouterr().err)
    assert main(words) == 0
    assert "8 runs are complete" in capsys.readouterr().out
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
    words = [*arguments(minimal, "train"), f"--output={tmp_path}", *SMALL, *NO_YARDSTICKS]
    assert main(words) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    first = "crd: vit_tiny_patch16_224 from resnet18, seed 0 and 1 more: ValueError: no such thing"
    assert error == f"kdlib: 2 of 8 runs failed: {first}"
    assert main(["status", *words[1:]]) == 0
    told = capsys.readouterr().out
    assert told.count(" failed: ValueError: no such thing\n") == 2
    assert "6 done, 2 failed; training may take" in told


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


def test_bench_command(minimal, tmp_path, capsys):
    methods = {"cnn_to_vit": "lm", "vit_to_cnn": "ofa"}
    few = [f"--set=directions.{name}.methods=[{method}]" for name, method in methods.items()]
    few += [f"--set=directions.{name}.controls=[]" for name in methods]
    place = [f"--profile={minimal['profile']}", f"--output={tmp_path}", f"--data={minimal['data']}"]
    assert main(["bench", "--rounds=1", *place, *few]) == 0
    assert "OFA-KD" in capsys.readouterr().out
    kept = json.loads((tmp_path / "minimal" / "bench.json").read_text())
    assert len(kept["steps"]) == 2 + 2


def test_training_needs_neither_jupyter_nor_plotting():
    """A bare compute node has torch, timm, pandas, scikit-image, safetensors and tqdm."""
    script = (
        "import sys\n"
        "for name in ('matplotlib', 'seaborn', 'papermill', 'nbconvert', 'IPython', 'jupyterlab', 'bs4'):\n"
        "    sys.modules[name] = None\n"
        "import kdlib.study.study, kdlib.__main__\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
