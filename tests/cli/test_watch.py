"""`stm-keras watch` as a user starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import scan_files
from helpers import ONCE, REPOSITORY, check_error, stm
from PIL import Image

from stm_keras import shipped_path
from stm_keras.inference.find_model import read_metadata
from stm_keras.inference.predictor import Predictor
from stm_keras.live.records import read_log
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.generate import simulate

pytest.importorskip("onnxruntime")
pytestmark = ONCE

LIMIT = 120  # s until a process that should have ended is killed
WITHOUT_KERAS = (
    "import sys; sys.modules.update(dict.fromkeys("
    "('keras', 'tensorflow', 'torch', 'jax', 'sklearn', 'scipy', 'matplotlib', 'nicegui')));"
)
WINDOWS = (  # as far as it can be had here
    "import os, signal, sys; sys.modules['fcntl'] = None; del os.fdatasync; "
    "[delattr(signal, n) for n in ('SIGTERM', 'SIGUSR1', 'SIGKILL', 'SIGHUP', 'SIGCHLD')];"
)
START = "from stm_keras.__main__ import run; run()"


@contextmanager
def watching(tmp_path, *arguments, before=""):
    """Start a watch in a process of its own; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + START, "watch", "--no-page", *map(str, arguments)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def read_until(process, text):
    """Return the lines of standard output up to one that holds a text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines[-20:]) + process.stderr.read())


def the_log(folder):
    (path,) = folder.glob("*.jsonl")
    return list(read_log(path))


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan whose tip changes in the middle, as a file of Nanonis."""
    made = simulate(64, 5, SimulationConfig(p_tip_change=0))
    good = (made.lines == 128) & (made.change_line < 0)
    first = [np.flatnonzero(good & (made.labels == c))[0] for c in (0, 3)]
    heights = np.concatenate([made.images[first[0]][:60], made.images[first[1]][60:]])
    path = tmp_path_factory.mktemp("scan") / "scan.sxm"
    path.write_bytes(scan_files.sxm({"Z": ("m", heights * 1e-12, None)}, size=(8e-9, 8e-9)))
    return path


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_simulated_tip_changes_the_user_is_told_and_ctrl_c_ends_it(tmp_path, name):
    with watching(tmp_path, "simulated", "--speed", "0", "--no-page") as process:
        lines = read_until(process, "bad tip")
        process.send_signal(getattr(signal, name))
        rest, error = process.communicate()
    assert process.returncode == 130, error
    assert any("TIP CHANGE" in line for line in lines)
    assert "Stopped." in error
    assert "Traceback" not in error
    records = the_log(tmp_path / "live")
    assert records[0]["event"] == "run"
    assert len(records[0]["model"]["sha256"]) == 64
    assert records[0]["settings"]["no_page"] is True
    assert records[0]["settings"]["alarm_at"] == 0.7
    assert (records[-1]["event"], records[-1]["reason"]) == ("stop", name)


def test_json_gives_every_record_of_the_log(tmp_path):
    with watching(tmp_path, "simulated", "--speed", "0", "--json") as process:
        lines = read_until(process, '"event": "change"')
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate()
    told = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    assert told == the_log(tmp_path / "live")


@pytest.mark.parametrize("before", [WITHOUT_KERAS, WINDOWS], ids=["onnx alone", "Windows"])
def test_it_needs_neither_keras_nor_what_windows_lacks(tmp_path, scan, before):
    with watching(tmp_path, scan, "--speed", "0", before=before) as process:
        output, error = process.communicate()
    assert process.returncode == 0, error
    assert "bad tip" in output
    assert len([r for r in the_log(tmp_path / "live") if r["event"] == "line"]) == 128


def test_the_last_verdict_of_a_replay_is_that_of_predict(tmp_path, scan):
    told = stm("watch", scan, "--no-page", "--speed", 0, "--json", "--log", tmp_path)
    assert told.exit_code == 0, told.stderr
    records = [json.loads(line) for line in told.stdout.splitlines()]
    (end,) = [record for record in records if record["event"] == "end"]
    file = json.loads(stm("predict", scan, "--json").stdout)
    assert end["verdict"] == file["verdict"]
    assert end["change_line"] == file["change_lines"][-1]
    last = [record for record in records if record["event"] == "line"][-1]
    assert last["probabilities"] == pytest.approx(file["probabilities"], abs=1e-5)


def test_a_day_is_shown_again_and_written_as_a_page(tmp_path, scan):
    stm("watch", scan, "--no-page", "--speed", 0, "--log", tmp_path)
    (log,) = tmp_path.glob("*.jsonl")
    live = stm("watch", scan, "--no-page", "--speed", 0, "--log", tmp_path / "again").stdout
    shown = stm("watch", "--replay-log", log)
    assert shown.exit_code == 0

    def alarms(text):
        return [
            line.split(maxsplit=1)[1] for line in text.splitlines() if "bad tip" in line
        ]

    assert alarms(shown.stdout) == alarms(live) != []
    page = tmp_path / "day.html"
    assert stm("watch", "--replay-log", log, "--report", page).exit_code == 0
    assert "bad tip" in page.read_text(encoding="utf-8")
    check_error(stm("watch", "--replay-log", log, "--report", page), 1, "exists")
    with log.open("ab") as file:
        file.write(b"{nonsense\n")
    assert "1 line " in stm("watch", "--replay-log", log).stderr


def test_a_command_is_started_at_a_bad_tip(tmp_path, scan):
    done = tmp_path / "done.txt"
    script = tmp_path / "hook.py"
    script.write_text(
        f"import sys; open({str(done)!r}, 'a').write(sys.argv[1] + sys.stdin.read())"
    )
    command = f'"{sys.executable}" "{script}" "{{class}}"'
    told = stm(
        "watch",
        scan,
        "--no-page",
        "--speed",
        30,
        "--log",
        tmp_path,
        "--on-bad-command",
        command,
    )
    assert told.exit_code == 0
    text = done.read_text(encoding="utf-8")
    assert text.startswith("generic defects{")
    assert json.loads(text.removeprefix("generic defects"))["rule"] == "bad tip"


def test_a_model_that_is_missing_or_judges_whole_scans_is_refused(
    tmp_path, scan, monkeypatch
):
    missing = tmp_path / "none.onnx"
    check_error(
        stm("watch", scan, "--no-page", "--model", missing, "--log", tmp_path),
        3,
        "none.onnx",
    )

    class Whole(Predictor):
        metadata = read_metadata(shipped_path().with_suffix(".onnx"))
        every_line = False

        def outputs(self, images, batch_size=64, progress=None, lines=None):
            raise NotImplementedError

    file = shipped_path().with_suffix(".onnx")
    monkeypatch.setattr("stm_keras.inference.onnx_model.load_onnx", lambda path: Whole())
    told = stm("watch", scan, "--no-page", "--model", file, "--log", tmp_path)
    check_error(told, 4, "line by line")


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        ((), 2, ["SOURCE is missing", "nanonis://HOST", "simulated"]),
        (("nothing.sxm",), 3, ["nothing.sxm", "no such file", "nanonis://HOST"]),
        (("simulated", "--ports", "1,2"), 2, ["--ports", "not for this source"]),
        (("simulated", "--channel", "Z"), 2, ["--channel", "not for this source"]),
        (("nanonis://localhost", "--speed", "3"), 2, ["--speed", "nanonis"]),
        (("nanonis://localhost", "--ports", "6501"), 2, ["Two ports", "6501"]),
        (("simulated", "--bad", "nice"), 2, ["nice", "individual atoms"]),
        (("simulated", "--alarm-at", "0.2"), 2, ["release_at"]),
        (("simulated", "--report", "a.html"), 2, ["--replay-log"]),
        (("simulated", "--replay-log", "a.jsonl"), 2, ["Leave SOURCE out"]),
        (("--replay-log", "a.jsonl"), 3, ["a.jsonl"]),
        (("push://0.0.0.0:9",), 2, ["0.0.0.0"]),
        (("nanonis://no-such-host.invalid",), 3, ["no-such-host.invalid"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, arguments, code, phrases):
    monkeypatch.chdir(tmp_path)
    check_error(stm("watch", *arguments, "--no-page"), code, *phrases)


def test_two_watches_do_not_write_one_log(tmp_path):
    with watching(tmp_path, "simulated", "--speed", "5") as process:
        read_until(process, "scan 1")
        with watching(tmp_path, "simulated") as other:
            _, error = other.communicate()
    assert other.returncode == 1
    assert error.count("\n") == 1
    assert "another `stm-keras watch`" in error


def test_a_picture_is_not_taken_for_a_microscope(tmp_path):
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    told = stm("watch", tmp_path / "dot.png", "--no-page", "--speed", 0, "--log", tmp_path)
    assert told.exit_code != 0 or "Warning" in told.stderr or "dot.png" in told.stdout


def test_without_nicegui_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "nicegui", None)
    told = stm("watch", "simulated")
    check_error(told, 1, "nicegui is not installed", '".[live]"', "--no-page")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (("--port", "70000"), ["--port", "65535"]),
        (("--host", "0.0.0.0"), ["other computers", "--token", "ssh -L"]),
        (("--host", "0.0.0.0", "--token", "env:NOT_THERE"), ["NOT_THERE"]),
        (
            ("--host", "0.0.0.0", "--token", "secret-of-mine-1234"),
            ["file:PATH or env:NAME"],
        ),
        (("--host", "0.0.0.0", "--token", "env:SHORT"), ["16 to 200"]),
        (("--host", "192.0.2.1", "--token", "env:LONG", "--port", "0"), ["--port 0"]),
    ],
)
def test_a_page_that_cannot_be_served_ends_before_anything_begins(
    tmp_path, monkeypatch, arguments, phrases
):
    pytest.importorskip("nicegui")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORT", "abc")
    monkeypatch.setenv("LONG", "sixteen-letters-or-more")
    told = stm("watch", "simulated", *arguments)
    check_error(told, 2, *phrases)
    assert "sixteen" not in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_said_before_the_microscope_is_asked(tmp_path, monkeypatch):
    pytest.importorskip("nicegui")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = stm("watch", "nanonis://no-such-host.invalid", "--port", port)
    check_error(told, 2, f"--port {port}", "another program has this port")
