"""Lines that a program pushes: the protocol, its connections, and who cannot disturb whom."""

import contextlib
import json
import math
import os
import queue
import socket
import threading
import time

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY

from stm_keras.errors import InputError, UsageError
from stm_keras.live import push as push_module
from stm_keras.live.events import (
    BACKWARD,
    FORWARD,
    UP,
    Connected,
    Found,
    Frame,
    Line,
    Lost,
    Note,
    ScanBegan,
    ScanEnded,
    Tick,
)
from stm_keras.live.push import Client, PushSource
from stm_keras.live.push_protocol import LONGEST, PushProtocol, parse_request

pytestmark = ONCE  # no backend changes what is tested here

WAIT = 20  # s, of which a machine that is busy needs few


def told(*requests):
    """Return the events that requests mean, one after the other."""
    protocol = PushProtocol(clock=lambda: 12.5)
    return [event for each in requests for event in protocol.events(each)]


def line(*heights, **more):
    return {"line": list(heights) or [1.0, 2.0, 4.0], **more}


def places(events):
    lines = [each for each in events if isinstance(each, Line)]
    return [(each.number, each.row, each.direction) for each in lines]


def test_a_scan_is_announced_pushed_and_ended():
    scan = {"lines": 2, "pixels": 3, "size": [2e-8, 1e-8], "slow": "up", "channel": "Z (m)"}
    scan |= {"unit": "m", "bias": -1.5, "setpoint": 5e-11, "center": [0, 1e-7], "angle": 30}
    scan |= {"line_time": 0.5, "name": "Si 12", "comment": "unknown keys are passed over"}
    events = told(
        {"scan": scan}, line(1, None, 3.5), line(), {"end": True, "path": "a.sxm"}
    )
    known = {"channel": "Z (m)", "unit": "m", "bias": -1.5, "setpoint": 5e-11, "angle": 30}
    frame = Frame(
        3, 2, size=(2e-8, 1e-8), slow=UP, center=(0, 1e-7), line_time=0.5, **known
    )
    assert events[0] == ScanBegan(frame, "Si 12")
    assert places(events) == [(0, 1, FORWARD), (1, 0, FORWARD)]
    np.testing.assert_array_equal(events[1].heights, [1, math.nan, 3.5])
    assert events[1].t_end == 12.5
    assert events[-1] == ScanEnded("complete", "a.sxm")


def test_rows_are_counted_where_nobody_says_each_direction_by_itself():
    scan = {"scan": {"lines": 5, "slow": "up"}}
    backward = line(direction="backward")
    events = told(scan, line(), backward, line(row=0), backward, line())
    assert places(events) == [
        *((0, 4, FORWARD), (0, 4, BACKWARD), (1, 0, FORWARD), (1, 3, BACKWARD)),
        (2, 2, FORWARD),
    ]
    assert places(told(line(), line(), line(row=7))) == [
        *((0, 0, FORWARD), (1, 1, FORWARD), (2, 7, FORWARD))
    ]


def test_a_line_without_a_scan_begins_one_with_what_is_known():
    events = told(line(), line(), {"end": True})
    assert events[0] == ScanBegan(Frame(pixels=3, unit=""))
    assert events[-1] == ScanEnded("complete")


def test_a_scan_ends_with_its_last_line_or_for_a_reason():
    scan = {"scan": {"lines": 2}}
    ends = [each.reason for each in told(scan, line(), scan) if isinstance(each, ScanEnded)]
    assert ends == ["restarted"]
    assert told(scan, line(), {"end": True})[-1].reason == "stopped"
    events = told(scan, *[line()] * 5)  # a continuous scan, announced once
    assert places(events) == [(n, n, FORWARD) for n in (0, 1, 0, 1, 0)]
    assert [each.reason for each in events if isinstance(each, ScanEnded)] == [
        "complete"
    ] * 2
    protocol = PushProtocol()
    assert list(protocol.left("gone")) == []
    list(protocol.events(line()))
    assert list(protocol.left("gone")) == [ScanEnded("gone")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "A request is a line of JSON, and this is not (Expecting"),
        ("[1]", 'A request is a JSON object with "scan", "line" or "end". Received: list.'),
        ("{}", 'has one of "scan", "line" and "end". Received: none.'),
        ('{"lin": [1, 2]}', "Received: 'lin'."),
        ('{"line": [1, 2], "end": true}', 'has one of "scan", "line" and "end"'),
        ('{"line": 5}', '"line" is a list of 2 heights or more. Received: 5.'),
        ('{"line": [1]}', '"line" is a list of 2 heights or more'),
        ('{"line": [1, "b"]}', "null where nothing was recorded. Received: 'b'."),
        ('{"line": [1, true]}', "Received: True."),
        ('{"line": [1, [2]]}', "Received: [2]."),
        ('{"line": [1, Infinity]}', "a number that is not finite: Infinity"),
        ('{"line": [1, 1e400]}', "a number that is not finite"),
        ('{"line": [1, 1e300]}', "heights beyond 1e+18. Use another unit."),
        ('{"line": [1, 2], "row": -1}', '"row" is a row of the scan, from 0 at its top'),
        ('{"line": [1, 2], "row": 4}', "Received: 4."),
        ('{"line": [1, 2], "row": 1.0}', "Received: 1.0."),
        ('{"line": [1, 2], "direction": "up"}', '"direction" is "forward" or "backward"'),
        ('{"line": [1, 2, 3]}', "Lines of 2 pixels were announced. Received: 3."),
        (
            '{"scan": true}',
            '"scan" is an object, {} where nothing is known. Received: True.',
        ),
        ('{"scan": {"lines": 0}}', '"lines" is a number of lines. Received: 0.'),
        ('{"scan": {"lines": true}}', '"lines" is a number of lines'),
        ('{"scan": {"pixels": 1}}', '"pixels" is 2 or more. Received: 1.'),
        (
            '{"scan": {"size": [1]}}',
            '"size" is a list of two numbers, in m. Received: [1].',
        ),
        ('{"scan": {"size": [1, 0]}}', '"size" is [width, height] in m. Received: [1, 0].'),
        ('{"scan": {"slow": "left"}}', '"slow" is "up" or "down". Received: \'left\'.'),
        ('{"scan": {"bias": "1 V"}}', "\"bias\" is a number. Received: '1 V'."),
        ('{"scan": {"angle": NaN}}', '"angle" is a number. Received: nan.'),
        ('{"scan": {"channel": 3}}', '"channel" is a text of 1000 characters at most'),
        ('{"end": 1}', '"end" is true. Received: 1.'),
        ("[" * 99_999, "nested too deeply"),
        ('{"line": [' + "1" * 500 + "]}", "a number of 500 digits"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(text, words):
    protocol = PushProtocol()
    list(protocol.events({"scan": {"lines": 4, "pixels": 2}}))
    list(protocol.events(line(1, 2)))
    with pytest.raises(InputError) as caught:
        list(protocol.events(parse_request(text.encode())))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert places(protocol.events(line(1, 2))) == [(1, 1, FORWARD)]


def test_an_end_without_a_scan_is_refused_and_marks_and_nan_are_understood():
    with pytest.raises(InputError, match="No scan is on"):
        told({"end": True})
    with pytest.raises(InputError, match="byte 0 is not in UTF-8"):
        parse_request(b"\xff\xfe")
    request = parse_request(b'\xef\xbb\xbf{"line": [1, NaN, null]}\r')
    assert np.isnan(told(request)[1].heights).tolist() == [False, True, True]


class Watching:
    """What reads a source in a thread and answers each line with its number and row."""

    def __init__(self, source, answer=True):
        self.source, self.seen = source, queue.Queue()
        self._answer = answer
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.connected = self.next(Connected)

    def _run(self):
        for event in self.source.events():
            if isinstance(event, Line) and self._answer:
                answer = {"line": event.number, "row": event.row, "verdict": "rows"}
                self.source.answer(answer)
            if not isinstance(event, Tick):
                self.seen.put(event)

    def next(self, kind=object):
        """Return the next event that is of a kind."""
        while True:
            event = self.seen.get(timeout=WAIT)
            if isinstance(event, kind):
                return event


@contextlib.contextmanager
def watching(address="push://127.0.0.1:0", **options):
    watch = Watching(PushSource(address, **options))
    try:
        yield watch
    finally:
        watch.source.close()
        watch.source.close()
        watch.thread.join(WAIT)
        assert not watch.thread.is_alive()


class Program:
    """A client of the protocol."""

    def __init__(self, watch):
        port = int(watch.source.name.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.file = self.socket.makefile("rwb")

    def send(self, *requests):
        for each in requests:
            text = each if isinstance(each, bytes) else json.dumps(each).encode()
            self.file.write(text + b"\n")
        self.file.flush()

    def answer(self):
        text = self.file.readline()
        return json.loads(text) if text else None

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
        self.socket.close()


def test_each_line_is_answered_in_turn_and_nonsense_with_an_error():
    with watching() as watch:
        assert watch.connected.text == f"Lines are awaited at {watch.source.name}."
        program = Program(watch)
        program.send({"scan": {"lines": 4}}, line(), b"nonsense", line(row=3), b"", b" \r")
        answers = [program.answer() for _ in range(3)]
        assert [each.get("line") for each in answers] == [0, None, 1]
        assert list(answers[1]) == ["error"]
        program.send(line())  # in step: no line before the answer to the one before
        assert program.answer() == {"line": 2, "row": 2, "verdict": "rows"}
        program.send({"end": True})
        assert watch.next(ScanEnded).reason == "stopped"
        program.close()
        assert watch.next(Note).text == "The client left."


def test_the_program_of_the_docs_works(capsys):
    page = (REPOSITORY / "docs" / "live.md").read_text(encoding="utf-8")
    section = page.partition("### Lines from any program\n")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    with watching() as watch:
        port = watch.source.name.rpartition(":")[2]
        exec(code.replace("4000", port), {"lines": np.eye(2, 256)})
        assert capsys.readouterr().out == "rows\n" * 2
        assert watch.next(ScanEnded).reason == "stopped"


def test_clients_come_one_after_the_other_and_a_second_one_is_refused():
    with watching() as watch:
        first = Program(watch)
        first.send(line())
        assert first.answer()["line"] == 0
        second = Program(watch)
        second.send(line())
        assert second.answer() == {"error": "Another client is connected. Come back later."}
        assert second.answer() is None
        second.close()
        first.send(line())
        assert first.answer()["line"] == 1
        first.close()
        for number in range(5):  # at once, and again and again
            third = Program(watch)
            third.send(line())
            assert third.answer()["line"] == 0, number
            third.close()


def test_a_client_that_leaves_in_a_scan_is_lost_and_the_next_is_found():
    with watching() as watch:
        program = Program(watch)
        program.send({"scan": {"lines": 9}}, line())
        program.answer()
        program.close()
        assert watch.next(ScanEnded).reason == "the client left"
        assert watch.next() == Lost("The client left.")
        program = Program(watch)
        assert isinstance(watch.next(), Found)
        program.send(line(), {"end": True})
        assert watch.next(ScanBegan).frame.lines is None  # nothing is left of the first
        program.close()
        assert watch.next(Note).text == "The client left."


def test_answers_still_come_when_nothing_more_is_sent():
    with watching() as watch:
        program = Program(watch)
        program.send(*[line()] * 50)
        program.socket.shutdown(socket.SHUT_WR)
        assert [program.answer()["line"] for _ in range(50)] == list(range(50))
        assert program.answer() is None
        program.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" + b"1," * LONGEST, "A request has at most 1 MiB; the connection is closed."),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + b'{"line": [1, 2]}', "not HTTP"),
    ],
)
def test_a_line_that_is_too_long_and_a_web_page_are_hung_up_on_with_a_reason(text, words):
    with watching() as watch:
        program = Program(watch)
        with contextlib.suppress(OSError):  # it may be closed before all is sent
            program.send(text)
        assert words in program.answer()["error"]
        assert program.answer() is None
        program.close()
        assert watch.next(Note).text == "A client is connected."
        assert watch.next() == Note("The client sent what is not a request.")
        program = Program(watch)  # the watching goes on
        program.send(line())
        assert program.answer()["line"] == 0
        program.close()


def test_a_client_that_reads_nothing_is_cut_off_and_delays_nobody(monkeypatch):
    monkeypatch.setattr(push_module, "STALLED", 0.5)
    with watching() as watch:
        watch.source.answer({"to": "nobody"})
        program = Program(watch)
        longest = {"line": [0.1] * 9, "channel": "x" * 1000}
        stop = time.monotonic() + WAIT
        slowest = 0.0
        with contextlib.suppress(OSError):
            while time.monotonic() < stop:
                program.send(*[longest] * 100)
                began = time.monotonic()
                watch.source.answer({"text": "x" * 50_000})
                slowest = max(slowest, time.monotonic() - began)
        assert time.monotonic() < stop
        assert slowest < 5
        assert (
            watch.next(ScanEnded).reason
            == "the client does not read its answers and was cut off"
        )
        assert isinstance(watch.next(), Lost)
        program.close()


def test_answers_that_nobody_takes_are_never_waited_for():
    stuck = threading.Event()
    client = Client(lambda: b"", lambda data: stuck.wait(WAIT), lambda patience: None)

    def send():
        for number in range(push_module.WAITING + 9):
            client.send({"line": number})

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(WAIT / 2)
    assert not sending.is_alive()
    assert client.gone.is_set()
    assert "does not read" in client.reason
    stuck.set()


def test_a_line_is_too_long_from_the_first_byte_on_that_is():
    pieces = [b"x" * LONGEST + b"\n" + b"x" * (LONGEST + 1) + b"\nend", b""]
    client = Client(lambda: pieces.pop(0), len, lambda patience: None)
    assert [each and len(each) for each in client.requests()] == [LONGEST, None, 3]
    client.part()


def test_who_is_hung_up_on_gets_the_reason_though_it_still_sends():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"reason")
        hanging_up = threading.Thread(target=push_module._hang_up, args=(ours, WAIT))
        hanging_up.start()
        theirs.sendall(b"x" * LONGEST)
        theirs.shutdown(socket.SHUT_WR)
        assert theirs.recv(100) == b"reason"
        hanging_up.join(WAIT)
        assert not hanging_up.is_alive()


def test_random_bytes_end_nothing():
    rng = np.random.default_rng(0)
    with watching() as watch:
        for _ in range(5):
            program = Program(watch)
            with contextlib.suppress(OSError):
                program.send(rng.bytes(3000))
            program.close()
        program = Program(watch)
        program.send(line())
        assert program.answer()["line"] == 0
        program.close()


@pytest.mark.parametrize(
    "address",
    [
        "push://0.0.0.0:4000",
        "push://192.168.1.5:4000",
        "push://stm-pc:4000",
        "push://[::]:1",
    ],
)
def test_nothing_listens_beyond_this_computer(address):
    with pytest.raises(UsageError, match="is not this computer alone"):
        PushSource(address)


@pytest.mark.parametrize(
    "address",
    [
        "push://",
        "push://127.0.0.1",
        "push://127.0.0.1:x",
        "push://127.0.0.1:99999",
        "tcp://127.0.0.1:1",
        "push://127.0.0.1:1/x",
    ],
)
def test_what_is_no_address_is_one_line(address):
    with pytest.raises(UsageError, match="is not an address. Give push://127.0.0.1:PORT"):
        PushSource(address)


def test_a_port_that_is_taken_is_one_line_and_a_closed_source_gives_it_back():
    with watching("push://localhost:0") as watch:
        address = watch.source.name
        other = PushSource(address)
        with pytest.raises(UsageError, match="the port cannot be had"):
            next(other.events())
        other.close()
    end = time.monotonic() + WAIT
    while True:
        try:
            with watching(address):
                break
        except queue.Empty:
            assert time.monotonic() < end


@pytest.fixture
def pipes():
    """Descriptors: (our end of stdin, stdin, our end of stdout, stdout)."""
    stdin, ours_in = os.pipe()
    ours_out, stdout = os.pipe()
    ends = [ours_in, stdin, ours_out, stdout]
    yield ends
    for each in ends:
        with contextlib.suppress(OSError):
            os.close(each)


def test_standard_input_is_answered_on_standard_output_and_ends_the_watching(pipes):
    ours_in, stdin, ours_out, stdout = pipes
    with watching("-", stdin=stdin, stdout=stdout) as watch:
        too_long = b"[" + b"1," * LONGEST + b"]"
        for request in (b'{"scan": {"lines": 3}}', json.dumps(line()).encode(), too_long):
            text = request + b"\n"
            while text:
                text = text[os.write(ours_in, text) :]
        os.write(ours_in, json.dumps(line()).encode())  # without an end of the line
        os.close(ours_in)
        assert watch.next(ScanEnded).reason == "the client left"
        watch.thread.join(WAIT)
        assert not watch.thread.is_alive()
        answers = os.read(ours_out, 1 << 16).splitlines()
        assert [json.loads(each).get("line") for each in answers] == [0, None, 1]
        assert json.loads(answers[1]) == {"error": "A request has at most 1 MiB."}


def test_where_nobody_reads_the_answers_the_watching_goes_on(pipes):
    ours_in, stdin, ours_out, stdout = pipes
    os.close(ours_out)
    with watching("-", stdin=stdin, stdout=stdout) as watch:
        for number in range(3):
            os.write(ours_in, json.dumps(line()).encode() + b"\n")
            assert watch.next(Line).number == number
        os.close(ours_in)
        watch.thread.join(WAIT)
        assert not watch.thread.is_alive()


def test_an_idle_source_ticks():
    source = PushSource("push://127.0.0.1:0")
    events = source.events()
    assert isinstance(next(events), Connected)
    assert isinstance(next(events), Tick)
    source.close()
    assert list(events) == []
