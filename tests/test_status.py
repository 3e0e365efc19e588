"""What status tells of a study: before, while and after it is trained."""

import json
import shutil
import subprocess
import sys

import pandas as pd
from filelock import FileLock

from kdlib.study.status import read_plan, states, summary
from kdlib.study.study import Study
from kdlib.train import Progress

from .common import SMALL, arguments


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


def test_status_reads_the_plan_that_training_left(finished, minimal):
    """Without torch, pandas and pydantic, which take seconds to import."""
    plan = read_plan(finished.folder, finished.profile_digest)
    assert plan == json.loads(json.dumps(finished.plan()))
    script = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "from kdlib.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    start = [sys.executable, "-c", script]
    told = subprocess.run([*start, *arguments(minimal, "status")], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == f"{len(finished.specs())} done"
