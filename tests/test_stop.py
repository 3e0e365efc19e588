import os
import signal
import subprocess
import sys
import time

import pytest

from kdlib.study.interrupt import SIGNALS, Stop

# A process that waits until it is told to stop, and leaves a file when it does; given 1, it has a helper.
WAIT = """
import pathlib, sys, time
from kdlib.study.interrupt import Stop
place, helpers, helper = pathlib.Path(sys.argv[1]), int(sys.argv[2]), "--helper" in sys.argv
name = "helper" if helper else "parent"
with Stop(helper=helper) as stop:
    for _ in range(helpers):
        stop.help([sys.executable, __file__, str(place), "0", "--helper"], {"PYTHONPATH": sys.path[-1]})
    (place / f"{name} began").touch()
    while not stop():
        time.sleep(0.01)
    if "--deaf" in sys.argv:
        (place / f"{name} is deaf").touch()
        time.sleep(600)
(place / f"{name} stopped").touch()
"""


def appears(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.01)


def test_the_first_signal_is_remembered_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_nohup_is_kept():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_time_is_up():
    assert Stop(minutes=0)() and not Stop(minutes=1)() and not Stop()()


@pytest.fixture
def pair(tmp_path):
    """A process and its helper, in a process group of their own, as a terminal would start them."""
    script = tmp_path / "wait.py"
    script.write_text(WAIT.replace("sys.path[-1]", repr(os.pathsep.join(sys.path))))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start(*more):
        words = [sys.executable, script, tmp_path, "1", *more]
        process = subprocess.Popen(words, env=environment, process_group=0, stderr=subprocess.DEVNULL)
        appears(tmp_path / "parent began")
        appears(tmp_path / "helper began")
        return process

    return start


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_all_stops_a_process_and_its_helper_once(pair, tmp_path, number):
    process = pair()
    os.killpg(process.pid, number)
    assert process.wait(60) == 0
    assert (tmp_path / "parent stopped").exists() and (tmp_path / "helper stopped").exists()


def test_a_helper_stops_when_its_parent_is_killed(pair, tmp_path):
    pair().kill()
    appears(tmp_path / "helper stopped")


def test_a_second_signal_ends_the_helper_too(pair, tmp_path):
    process = pair("--deaf")
    process.send_signal(signal.SIGTERM)
    appears(tmp_path / "parent is deaf")  # two signals at once would be one
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGINT  # what Python makes of KeyboardInterrupt
    assert not (tmp_path / "parent stopped").exists()
