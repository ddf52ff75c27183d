"""Several commands of ours at a time, and what becomes of them."""

import signal
import sys
import threading

import pytest
from helpers import ONCE

from stm_keras.experiments import queue
from stm_keras.experiments.queue import Task, run_all

pytestmark = ONCE  # no backend changes what is tested here


@pytest.fixture
def _sleepers(monkeypatch):
    """Processes that sleep as long as their first word says."""
    code = "import sys, time; print(*sys.argv[1:]); time.sleep(float(sys.argv[1]))"
    start = queue.subprocess.Popen

    def popen(command, **more):
        return start([sys.executable, "-c", code, *command[3:]], **more)

    monkeypatch.setattr(queue.subprocess, "Popen", popen)


@pytest.mark.usefixtures("_sleepers")
def test_logs_grow_and_what_is_not_done_is_told(tmp_path, caplog):
    caplog.set_level("INFO", "stm_keras")
    log = tmp_path / "logs" / "a.log"
    task = Task("a", ["0"], log, lambda: False)
    assert run_all([task]) == [False]
    other = Task("b", ["0", "1"], log, lambda: True)
    assert run_all([task, other], 2) == [False, True]
    assert log.read_text().count("ended with exit code 0\n") == 3
    assert caplog.messages[0].startswith(f"a: failed (0), see {log} in ")


@pytest.mark.usefixtures("_sleepers")
def test_whatever_ends_the_wait_ends_the_processes(tmp_path):
    tasks = [Task(str(n), ["60"], tmp_path / f"{n}.log", lambda: False) for n in range(3)]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    timer = threading.Timer(1.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all(tasks, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    codes = [tmp_path / f"{n}.log" for n in range(2)]
    assert all(f"exit code {-signal.SIGTERM}" in log.read_text() for log in codes)
    assert "60" not in (tmp_path / "2.log").read_text()
