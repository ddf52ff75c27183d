"""`stm-keras connect`: what is read once of a controller, and what stays out of the file."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, check_error, stm
from live.controller import Controller, text, texts
from live.watched import check_wire, scan

from stm_keras.live import connect_asked, nanonis_client
from stm_keras.live.connect import as_text, read_controller, summary
from stm_keras.live.connect_asked import plain, without_host
from stm_keras.live.connect_lines import compare_directions, describe_frame
from stm_keras.live.nanonis_codec import NanonisError

pytestmark = ONCE
EVERY = 0.05  # s between grabs, here
LINES = 80
SLOTS = {"numbers": "slots", "channels": (0, 2)}
SECRET = "where-nobody-should-look"


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(connect_asked, "EVERY", EVERY)
    monkeypatch.setattr(nanonis_client, "PATIENCE", 0.3)


def read(controller, **options):
    """Read a controller, see that the wire was respected and that JSON holds the report."""
    report = read_controller("127.0.0.1", controller.ports, **options)
    check_wire(controller, connect_asked.EVERY)
    assert json.loads(as_text(report)) == json.loads(json.dumps(report))
    return report


@contextlib.contextmanager
def scanning(up=False, **moods):
    """A controller in the middle of its second scan, which goes on in a thread."""
    with Controller(LINES, line_time=0.02, **moods) as controller:
        controller.start(scan(1, LINES), up=up)
        for _ in range(2 * LINES):
            controller.step(heard=False)
        controller.start(scan(2, LINES), up=up)
        over = threading.Event()

        def scan_on():
            while not over.is_set() and controller.done[1] < LINES:
                controller.run(1, 0.1)

        thread = threading.Thread(target=scan_on, daemon=True)
        thread.start()
        yield controller
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("moods", "up", "held"),
    [
        ({"rest": "nan"}, False, "NaN"),
        ({"rest": "zero", "errors": "zeros"}, True, "zeros"),
        ({"rest": "stale"} | SLOTS, False, "data"),
        ({"rest": "stale", "slots_told": False}, True, "data"),
    ],
)
def test_a_scan_tells_numbering_lines_and_what_lies_ahead(hurry, moods, up, held):
    with scanning(up, **moods) as controller:
        report = read(controller)
    slots = moods.get("numbers") == "slots"
    assert report["numbering"] == ("slots" if slots else "signals")
    assert report["judged"] == {"number": 2 if slots else 30, "name": "Z (m)"}
    assert report["unscanned"] == [held]
    assert len(report["lines"]) == 20
    told = [(each["number"], each["movement"]) for each in report["lines"]]
    assert told == sorted(set(told))
    assert {movement for _, movement in told} == {0, 1}
    changed = [each["changed"] for each in report["frames"] if each.get("changed")]
    assert len(changed) > 3
    first = [rows[-1 if up else 0][0] for rows in changed]
    assert first == sorted(first, reverse=up)
    assert max(last for rows in changed for *_, last in rows) == 39
    assert all(each["up"] == up for each in report["frames"])
    assert report["directions"]["straight"] > 0.99 > report["directions"]["mirrored"]
    assert set(report["missing"]) <= {"Signals.InSlotsGet"}
    assert report["running_after"] == 1


@pytest.mark.parametrize("errors", ["alone", "zeros"])
def test_without_line_events_rows_are_still_seen(hurry, errors):
    old = {"version": ("Nanonis", "R10862", 10862), "line_events": False}
    with scanning(errors=errors, **old, **SLOTS) as controller:
        report = read(controller)
    assert report["lines"] == []
    assert "refuses Scan.WaitEndOfLine" in report["missing"]["lines"]
    assert report["unscanned"] == ["NaN"]
    assert len(report["frames"]) == 20
    error = bytes.fromhex(report["error"]["hex"])
    block = b"\0\0\0\1\0\0\0\x15there is no such slot"
    assert error == (bytes(16) if errors == "zeros" else b"") + block
    assert "controller  Nanonis R10862 10862" in summary(report)


@pytest.mark.parametrize("line_events", [True, False])
def test_without_a_scan_it_says_what_could_not_be_had(line_events):
    with Controller(5, line_time=0.02, line_events=line_events) as controller:
        report = read(controller)
    assert [each["timed_out"] for each in report["lines"]] == [1] * line_events
    assert ("No scan runs" if line_events else "refuses") in report["missing"]["lines"]
    assert "No scan runs" in report["missing"]["unscanned"]
    assert "No row" in report["missing"]["directions"]
    assert [each["holds"] for each in report["frames"]] == [[["NaN", 5]]] * 2
    assert report["judged"]["number"] == 30
    assert report["settings"]["Scan.FrameGet"]["angle"] == 30


def test_nothing_private_is_in_the_report(hurry, monkeypatch):
    class Private(Controller):
        def answer(self, name, body):
            if name == "Scan.PropsGet":
                return bytes(12) + text(SECRET) + text(SECRET) + texts([SECRET])
            return super().answer(name, body)

    with Private(4, 16, line_time=0.02) as controller:
        controller.start(scan(1, 4, 16))
        controller.step(8, heard=False)
        controller.stop()
        with socket.create_connection(("127.0.0.1", controller.ports[0])):
            shown = as_text(read(controller))
        asked = set(controller.names())
    assert SECRET not in shown
    assert SECRET.encode().hex() not in shown
    assert "127.0.0.1" not in shown
    assert "Port " in shown
    assert not asked & {"Util.SessionPathGet", "Scan.WaitEndOfScan", "ZCtrl.ZPosGet"}
    values = {f"{value:.7g}" for value in scan(1, 4, 16).ravel().tolist()}
    assert len(values & set(re.findall(r"[-+.e\d]+", shown))) <= 2  # smallest and largest


ODD = bytes(16) + SECRET.encode()  # fits nothing


@pytest.mark.parametrize(
    ("name", "kept"),
    [("Scan.PropsGet", 16), ("Scan.FrameDataGrab", 16), ("Util.VersionGet", None)],
)
def test_an_answer_that_does_not_fit_is_kept_without_what_is_private(hurry, name, kept):
    def longer(port, asked, answer):
        if asked != name:
            return answer
        return answer[:32] + len(ODD).to_bytes(4, "big") + bytes(4) + ODD

    with Controller(4, line_time=0.02) as controller:
        controller.mangle = longer
        report = read(controller)
    odd = [each for each in report["exchanges"] if each["command"] == name]
    assert {each["hex"] for each in odd} == {ODD[:kept].hex()}
    assert all(each["answers"] for each in report["ports"])
    assert report["settings"]["Bias.Get"] == {"bias": -1.5}  # what follows is read


def test_a_port_that_is_taken_is_told_and_others_are_used(hurry):
    with Controller(4, line_time=0.02) as controller:
        ports = controller.ports
        with socket.create_connection(("127.0.0.1", ports[3])):
            report = read(controller)
        assert "Scan.FrameDataGrab" in controller.names(1)
        assert "Scan.WaitEndOfLine" in controller.names(2)
    assert [each["port"] for each in report["ports"]] == list(ports)
    assert [each["answers"] for each in report["ports"]] == [True, True, True, False]
    assert "taken by another client" in report["ports"][3]["reason"]


def test_one_port_is_enough_for_all_but_line_ends(hurry):
    with scanning() as controller:
        report = read_controller("127.0.0.1", controller.ports[2:3])
    assert "second port" in report["missing"]["lines"]
    assert report["unscanned"] == ["NaN"]
    assert len(report["frames"]) == 20


def test_where_no_port_answers_the_error_is_that_of_watch(hurry):
    with Controller() as controller, contextlib.ExitStack() as stack:
        for port in controller.ports:
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with pytest.raises(NanonisError, match="taken by another client"):
            read(controller)
    with pytest.raises(NanonisError, match="Nothing listens"):
        read_controller("127.0.0.1", controller.ports)


def test_a_connection_that_is_lost_costs_only_what_was_to_follow(hurry):
    with Controller(4) as controller:
        controller.mangle = lambda port, name, answer: (
            b"" if name == "Scan.SpeedGet" else answer
        )
        start = time.monotonic()
        report = read(controller)
        assert time.monotonic() - start < 3
    assert report["settings"]["Scan.FrameGet"]["width"] == pytest.approx(4e-8)
    for part in ("Scan.SpeedGet", "Bias.Get", "error"):
        assert "has not answered" in report["missing"][part]
    assert "No channel" in report["missing"]["lines"]


def test_nothing_is_asked_once_the_time_is_over(hurry, monkeypatch):
    def over(port, name, answer):
        if name == "Scan.BufferGet":
            monkeypatch.setattr(connect_asked, "LONGEST", -1.0)
        return answer

    with Controller(4) as controller:
        controller.mangle = over
        report = read(controller)
        assert controller.names()[-1] == "Scan.BufferGet"
    assert "two minutes are over" in report["missing"]["Scan.FrameGet"]


def test_numbers_that_no_reading_explains_are_told(hurry):
    with Controller(4, line_time=0.02, channels=(-3, 30)) as controller:
        report = read(controller)
        assert (report["numbering"], report["judged"]) == ("signals", None)
        assert "'Z (m)'" in report["missing"]["judged"]
    with Controller(4, line_time=0.02, **SLOTS, slots_told=False) as controller:
        controller.moods.slots[0] = 7
        report = read(controller)
    assert (report["numbering"], report["judged"]["number"]) == ("neither", 2)
    assert report["channels"][0]["name"] == "Input 7 (V)"
    with Controller(4, line_time=0.02, channels=(0,), feedback=0) as controller:
        report = read(controller)
    assert report["numbering"] == "either"
    assert report["judged"] == {"number": 0, "name": "Current (A)"}


def test_a_frame_is_described_by_its_rows():
    frame = scan(3, 6, 20)
    frame[1:3], frame[3, 4:], frame[5] = 0, np.nan, np.inf
    described = describe_frame(frame)
    kinds = [["data", 1], ["zeros", 2], ["part", 1], ["data", 1], ["part", 1]]
    assert described["holds"] == kinds
    assert (described["rows"], described["pixels"]) == (6, 20)
    assert described["mean"] == pytest.approx(1e-9, rel=0.01)
    assert "mean" not in describe_frame(np.zeros((0, 7), np.float32))


def test_mirrored_rows_are_told_from_straight_ones():
    forward = scan(4, 6, 20)
    alike = compare_directions(forward, forward[:, ::-1])
    assert alike["mirrored"] == 1 > alike["straight"]
    assert compare_directions(forward, forward[:, :7]) is None
    assert compare_directions(forward, np.full_like(forward, np.nan)) is None
    assert compare_directions(None, forward) is None


def test_what_is_kept_is_bounded_and_json_holds_it():
    assert plain([float("nan"), 1 / 3, "x" * 999]) == ["nan", 0.3333333, "x" * 300]
    error = NanonisError("Port 6503 of lab.local, not of lab.local2 or my-lab.local.")
    assert without_host(error, "lab.local") == (
        "Port 6503 of HOST, not of lab.local2 or my-lab.local."
    )


def connect(controller, *arguments):
    ports = ",".join(map(str, controller.ports[2:]))
    return stm("connect", "nanonis://127.0.0.1", "--ports", ports, *arguments)


def test_the_command_saves_a_file_and_says_what_is_in_it(hurry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Controller(4, line_time=0.02) as controller:
        told = connect(controller)
        assert told.exit_code == 0, told.stderr
        assert not controller.names(0)
        (path,) = tmp_path.iterdir()
        assert re.fullmatch(r"connect-127\.0\.0\.1-\d{4}-\d\d-\d\d\.json", path.name)
        report = json.loads(path.read_text(encoding="utf-8"))
        assert told.stdout.splitlines() == summary(report)
        assert "watch would judge Z (m) (channel 30)" in told.stdout
        assert "no comment" in told.stderr
        asked = len(controller.log)
        check_error(connect(controller), 1, "exists")
        assert len(controller.log) == asked
        assert connect(controller, "--overwrite").exit_code == 0
        assert connect(controller, "-o", "a/b.json").exit_code == 0
    assert json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "code", "phrase"),
    [
        (("nanonis://127.0.0.1:1", "-o", "x.json"), 3, "Nothing listens"),
        (("nanonis://",), 2, "not the address of a controller"),
        (("simulated",), 2, "not the address of a controller"),
        (("nanonis://h", "--ports", "6501,6501"), 2, "Two different ports"),
        (("nanonis://127.0.0.1", "-o", "."), 1, "is a folder"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(
    tmp_path, monkeypatch, arguments, code, phrase
):
    monkeypatch.chdir(tmp_path)
    result = stm("connect", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert phrase in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is sent otherwise there")
def test_ctrl_c_ends_it_and_leaves_no_file(tmp_path):
    with Controller(4, line_time=9.0) as controller:
        controller.start(scan(1, 4))
        ports = ",".join(map(str, controller.ports[2:]))
        words = ("connect", "nanonis://127.0.0.1", "--ports", ports)
        process = subprocess.Popen(
            [sys.executable, "-m", "stm_keras", *words],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        try:
            controller.wait(lambda: "Scan.WaitEndOfLine" in controller.names(), 60)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "Interrupted."
    assert list(tmp_path.iterdir()) == []
