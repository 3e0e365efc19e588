import io
import sys

from kdlib.messages import progress_bar


def test_in_a_log_file_progress_is_a_line_now_and_then(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(sys, "__stderr__", log)
    with progress_bar(total=500, desc="a run") as bar:
        for _ in range(500):
            bar.update()
    assert "\r" not in log.getvalue()
    first, last = log.getvalue().splitlines()
    assert "0/500" in first and "a run: 100%" in last
