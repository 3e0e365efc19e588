from copy import deepcopy

import pytest

from kdlib.report import findings
from kdlib.study import known_bias as yardstick
from kdlib.study.runs import RunStore


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path, tmp_path, quiet=True)


def test_a_made_bias_is_found(store, monkeypatch):
    """Trained where only shape, or only texture, predicts the label; in networks half as wide."""
    monkeypatch.setattr(yardstick, "SEEDS", (1000,))
    known = deepcopy(yardstick.YARDSTICKS[:2])
    for one in known:
        one["model"]["options"] |= {"channels": [8, 16, 32, 64], "stem_width": 8}
    monkeypatch.setattr(yardstick, "YARDSTICKS", known)
    table = yardstick.yardstick_table(store, train_images=4000)
    assert (table.accuracy > 0.5).all() and table.holds.all()
    assert table.lowest[0] > 0.9 and table.highest[1] < 0.1
    assert findings.yardsticks(table) == "**All 2 known biases were recovered.**"


def test_what_an_architecture_cannot_do_is_not_found(store, monkeypatch):
    """Whatever they learned: no distant interaction without blocks, no order without a position embedding."""
    monkeypatch.setattr(yardstick, "YARDSTICKS", yardstick.YARDSTICKS[2:])
    table = yardstick.yardstick_table(store, train_images=64)
    assert table.holds.all()
    assert table.highest[0] < 1e-3 and table.lowest[1] == pytest.approx(1)


def test_a_missed_answer_is_told(store, monkeypatch):
    monkeypatch.setattr(yardstick, "SEEDS", (1000,))
    monkeypatch.setattr(yardstick, "YARDSTICKS", yardstick.YARDSTICKS[:1])
    told = findings.yardsticks(yardstick.yardstick_table(store, train_images=64))
    assert told == "**0 of 1 known biases were recovered.**"
