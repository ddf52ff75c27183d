"""The client for programs in Python: it gets lines to the watch and never waits for it."""

import ast
import contextlib
import math
import socket
import sys
import threading
import time

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY
from live.pushed import PushedTo, example, surface, until

pytestmark = ONCE  # no backend changes what is tested here

MINE = ("push_lines", "createc_push", "gxsm_push", "hk_classifier")
THEIRS = {
    "numpy",
    "push_lines",
    "gxsm",
    "win32com",
    "pywintypes",
}  # beside the standard library


@pytest.fixture
def module(monkeypatch):
    with example("push_lines") as module:
        monkeypatch.setattr(module, "PAUSE", 0.01)
        yield module


@pytest.fixture
def connect(module):
    """Return a function that makes a client, closed in the end, and a list of what it said."""
    clients = []

    def make(port):
        said = []
        clients.append(module.Push(port, said.append))
        return clients[-1], said

    yield make
    for each in clients:
        each.close()


def talk(push, answers, enough):
    """Talk until a condition holds."""
    until(lambda: answers.extend(push.talk()) or enough())


@pytest.mark.parametrize("name", MINE)
def test_programs_beside_a_microscope_need_numpy_alone(name):
    tree = ast.parse((REPOSITORY / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    heads = {each.partition(".")[0] for each in names}
    assert heads - set(sys.stdlib_module_names) <= THEIRS


def test_lines_are_pushed_and_answered(connect, module):
    heights = surface(3, 5)
    heights[1, 2], heights[2, 4] = np.nan, -np.inf
    answers = []
    with PushedTo() as watch:
        push, said = connect(watch.port)
        push.begin(lines=3, pixels=5, size=[2e-8, 1e-8], slow="up", bias=None)
        for row in (2, 1):
            push.line(heights[row], row)
        push.line(heights[2], 2, "backward")
        talk(push, answers, lambda: len(answers) == 3)
        push.line(heights[0])
        push.end()
        talk(push, answers, lambda: len(answers) == 4)
        until(lambda: watch.scans()[0][2])
    (frame, lines, reason) = watch.scans()[0]
    assert (frame.lines, frame.pixels, frame.size, frame.slow) == (3, 5, (2e-8, 1e-8), "up")
    assert [(each.row, each.direction[0]) for each in lines] == [
        *((2, "f"), (1, "f"), (2, "b"), (0, "f"))
    ]
    expected = np.where(np.isfinite(heights), heights, math.nan)
    np.testing.assert_array_equal(lines[0].heights, expected[2])
    np.testing.assert_array_equal(lines[1].heights, expected[1])
    assert reason == "complete"
    assert module.summary(answers[0]) == "forward row 2: rows"
    assert said == [f"The watch at port {watch.port} is there."]


def test_answers_are_told_in_a_few_words(module):
    told = {"verdict": "rows", "row": 3, "direction": "backward", "change_line": 2}
    assert module.summary(told) == "backward row 3: rows, tip changed at line 2"
    assert module.summary({**told, "verdict": None}) == ""
    assert module.summary({"error": "no"}) == "Error: no"


def test_nobody_waits_for_a_watch_that_is_not_there(connect):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    push, said = connect(port)
    push.begin(lines=4, pixels=5)
    begun = time.monotonic()
    for row, heights in enumerate(surface(4, 5)):
        push.line(heights, row)
        assert push.talk() == []
        time.sleep(0.02)  # longer than the pause: each is an attempt
    assert time.monotonic() - begun < 2
    assert said == [f"No watch at port {port}. It is looked for again and again."]


def test_attempts_to_connect_are_rare(connect, module, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 3600)
    tried = []

    def refuse(*_, **options):
        tried.append(options["timeout"])
        raise ConnectionRefusedError

    monkeypatch.setattr(module.socket, "create_connection", refuse)
    push, _ = connect(1)
    for _ in range(50):
        push.talk()
    assert tried == [module.CONNECTING]


def test_a_watch_that_was_started_again_gets_the_whole_scan(connect):
    heights, answers = surface(4, 5), []
    with PushedTo() as first:
        push, said = connect(first.port)
        push.begin(lines=4, pixels=5, name="Si 12")
        push.line(heights[0], 0)
        push.line(heights[1], 1)
        talk(push, answers, lambda: len(answers) == 2)
    push.line(heights[2], 2)  # into a connection of which nobody knows that it is gone
    talk(push, answers, lambda: len(said) == 2)
    with PushedTo(first.port) as second:
        talk(push, answers, lambda: second.rows() == [0, 1, 2])
        push.line(heights[3], 3)
        push.end()
        talk(push, answers, lambda: second.scans()[0][2] == "complete")
        assert len(second.scans()) == 1
    np.testing.assert_array_equal(second.scans()[0][1][1].heights, heights[1])
    assert [text.split()[0] for text in said] == ["The", "No", "The"]


def test_a_scan_that_is_over_is_not_pushed_again(connect):
    answers = []
    with PushedTo() as first:
        push, said = connect(first.port)
        push.talk()
        push.begin(lines=1, pixels=5)
        push.line(surface(1, 5)[0])
        push.end()
        talk(push, answers, lambda: first.scans() and first.scans()[0][2])
    talk(push, answers, lambda: len(said) == 2)
    with PushedTo(first.port) as second:
        talk(push, answers, lambda: len(said) == 3)
        push.begin(lines=2, pixels=6)
        talk(push, answers, lambda: second.scans())
        assert [frame.pixels for frame, _, _ in second.scans()] == [6]


def test_of_a_long_scan_only_so_much_is_kept(connect, module, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    push, _ = connect(1)
    push.begin(lines=9, pixels=5)
    for row, heights in enumerate(surface(9, 5)):
        push.line(heights, row)
    with PushedTo() as watch:
        push._port = watch.port
        talk(push, [], lambda: watch.rows() == [6, 7, 8])


def test_a_second_client_hears_why_and_tries_again(connect):
    with PushedTo() as watch:
        first, _ = connect(watch.port)
        first.begin(lines=2, pixels=5)
        talk(first, [], lambda: watch.scans())
        second, said = connect(watch.port)
        answers = []
        talk(second, answers, lambda: answers)
        assert answers[0]["error"].startswith("Another client is connected")
        first.close()
        second.begin(lines=2, pixels=7)
        talk(second, answers, lambda: watch.scans()[-1][0].pixels == 7)


def test_a_watch_that_does_not_read_keeps_nobody_waiting(connect, module, monkeypatch):
    monkeypatch.setattr(module, "STUCK", 1 << 20)
    line = surface(1, 4000)[0]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        push, said = connect(silent.getsockname()[1])
        push.begin(pixels=4000)
        begun = time.monotonic()
        while len(said) < 2:
            push.line(line)
            push.talk()
            assert time.monotonic() < begun + 20
        assert said[1].startswith("No watch")


def test_what_answers_and_is_no_watch_breaks_nothing(connect, module, monkeypatch):
    monkeypatch.setattr(module, "STUCK", 1 << 20)
    answers = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        push, said = connect(other.getsockname()[1])
        push.talk()
        connection, _ = other.accept()
        with connection:
            connection.sendall(b"SSH-2.0\n[1]\n")
            talk(push, answers, lambda: len(answers) == 2)
            assert [list(each) for each in answers] == [["error"]] * 2
            sender = threading.Thread(target=flood, args=(connection,))
            sender.start()
            talk(push, answers, lambda: len(said) >= 2)
            assert said[1].startswith("No watch")
            sender.join()


def flood(connection):
    """Send without an end of line, until the other side has had enough."""
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(bytes(1 << 16))


def test_what_was_noted_last_arrives_though_answers_were_not_read(connect):
    heights = surface(300, 64)
    with PushedTo() as watch:
        push, _ = connect(watch.port)
        push.begin(lines=400, pixels=64)
        for row in range(300):
            push.line(heights[row], row)
        push.talk()
        push.end()
        push.close()
        push.close()  # may be called twice
        until(lambda: watch.scans()[0][2])
    assert watch.rows() == list(range(300))
    assert watch.scans()[0][2] == "stopped"  # by `end`, not as the client left
