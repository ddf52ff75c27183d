"""Connections that are taken, lost and found, and a reader that is slow or leaves."""

import threading
import time

import numpy as np
import pytest
from helpers import ONCE
from live.controller import Controller
from live.watched import Watched, check_lines, hurry, scan, watching

from stm_keras.errors import UsageError
from stm_keras.live import nanonis, nanonis_client
from stm_keras.live.events import Connected, Found, Line, Lost, Tick
from stm_keras.live.nanonis import PORTS, NanonisSource, parse_url

pytestmark = ONCE


def test_addresses_name_a_host_and_the_first_port():
    assert parse_url("nanonis://stm-pc") == ("stm-pc", PORTS) == ("stm-pc", (6503, 6504))
    assert parse_url("nanonis://stm-pc:6501/") == ("stm-pc", (6503, 6504))
    assert parse_url("nanonis://10.0.0.7:7001") == ("10.0.0.7", (7003, 7004))
    assert parse_url("nanonis://[fe80::1%eth0]:6501") == ("fe80::1%eth0", (6503, 6504))
    assert parse_url("nanonis://[::1]") == ("::1", (6503, 6504))
    assert NanonisSource("::1").name == "nanonis://[::1]"


@pytest.mark.parametrize(
    "url",
    [
        "nanonis://",
        "nanonis://:6501",
        "nanonis://a:b",
        "nanonis://a/b",
        "nanonis://::1",
        "a",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="Write nanonis://HOST"):
        parse_url(url)


def test_ports_that_cannot_be_are_refused():
    for ports in ((6503, 6503), (0, 1), (6503, 70000), (6503,), (1, 2, 3)):
        with pytest.raises(UsageError, match="Two different ports"):
            NanonisSource("stm-pc", ports)
    with pytest.raises(UsageError, match="Two different ports"):
        parse_url("nanonis://a:65535")
    for every in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="`every` must be 0 s or more"):
            NanonisSource("stm-pc", every=every)


@pytest.mark.parametrize("which", [0, 1])
def test_a_port_that_is_taken_is_named_at_the_start(monkeypatch, which):
    monkeypatch.setattr(nanonis_client, "PATIENCE", 0.3)
    with Controller() as controller:
        port = controller.ports[2 + which]
        other = nanonis_client.Client("127.0.0.1", port)
        other.ask("Scan.StatusGet")
        watched = Watched(NanonisSource("127.0.0.1", controller.ports[2:]))
        watched.thread.join(10)
        other.close()
        assert watched.events == []
        assert f"Port {port} of 127.0.0.1 accepts connections" in str(watched.error)
        assert "--ports" in str(watched.error)


def test_the_first_event_says_who_is_there_or_an_error_comes():
    with Controller() as controller:
        ports = controller.ports[2:]
        source = NanonisSource("127.0.0.1", ports)
        events = source.events()
        assert isinstance(next(events), Connected)
        assert isinstance(next(events), Tick)
        source.close()
        source.close()
        assert list(events) == []
    with pytest.raises(nanonis.NanonisError, match="Nothing listens"):
        next(NanonisSource("127.0.0.1", ports).events())


def test_closing_ends_both_threads_at_once():
    before = threading.active_count()
    with Controller() as controller:
        serving = threading.active_count()
        with watching(controller) as watched:
            controller.wait(lambda: controller.waiting == 1)
            begun = time.monotonic()
            watched.source.close()
            assert time.monotonic() - begun < 0.5
            assert not any(thread.is_alive() for thread in watched.source._threads)
        assert all(thread.daemon for thread in watched.source._threads)
        assert threading.active_count() == serving
    assert threading.active_count() <= before + 4  # those that listen end by themselves


def test_one_outage_is_one_loss_and_no_line_of_it(monkeypatch):
    hurry(monkeypatch)
    forward, backward = scan(1, 9), scan(2, 9)
    with Controller(9, rest="stale") as controller, watching(controller) as watched:
        controller.start(forward, backward)
        controller.step(4)
        watched.until(lambda: len(watched.lines("backward")) == 2)
        controller.cut(out=True)
        watched.until(lambda: watched.of(Lost))
        controller.step(6, heard=False)
        time.sleep(0.2)  # several tries fail
        controller.out = False
        watched.until(lambda: watched.of(Found))
        back = time.time()
        controller.step(8)
        watched.until_ended()
        check_lines(watched.lines(), forward)
        check_lines(watched.lines("backward"), backward)
        assert len(watched.of(Lost)) == len(watched.of(Found)) == 1
        assert len(watched.scans()) == 1
        assert all(line.t_end >= back - 0.5 for line in watched.lines()[2:])
        assert "closed the connection" in watched.of(Lost)[0].reason


def test_a_scan_that_began_in_an_outage_is_another_one(monkeypatch):
    hurry(monkeypatch)
    with Controller(9, rest="stale") as controller, watching(controller) as watched:
        controller.start(scan(1, 9))
        controller.step(6)
        watched.until(lambda: len(watched.lines("backward")) == 3)
        controller.cut(out=True)
        watched.until(lambda: watched.of(Lost))
        controller.start(scan(2, 9))
        controller.step(8, heard=False)
        controller.out = False
        watched.until(lambda: watched.of(Found))
        controller.step(10)
        watched.until_ended(2)
        first, second = watched.scans()
        assert (len(first[1]), first[3]) == (3, "restarted")
        check_lines(first[1], scan(1, 9))
        check_lines(second[1], scan(2, 9))
        assert len(second[1]) == 9


def test_a_scan_that_ended_in_an_outage_is_completed(monkeypatch):
    hurry(monkeypatch)
    forward = scan(1, 9)
    with Controller(9) as controller, watching(controller) as watched:
        controller.start(forward)
        controller.step(6)
        watched.until(lambda: len(watched.lines("backward")) == 3)
        controller.cut(out=True)
        watched.until(lambda: watched.of(Lost))
        controller.step(12, heard=False)
        controller.stop()
        controller.out = False
        watched.until_ended()
        check_lines(watched.lines(), forward)
        assert watched.scans()[0][3] == "complete"


@pytest.mark.parametrize("port", [2, 3])
def test_either_connection_alone_can_be_lost(monkeypatch, port):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(4)
        watched.until(lambda: len(watched.lines()) == 2)
        controller.cut(port)
        watched.until(lambda: watched.of(Found))
        controller.step(8)
        watched.until_ended()
        check_lines(watched.lines(), scan(1))
        assert len(watched.of(Lost)) == 1


def test_the_time_between_grabs_holds_across_connections(monkeypatch):
    hurry(monkeypatch)
    with Controller(40) as controller, watching(controller, every=0.15) as watched:
        controller.start(scan(1, 40))
        for _ in range(8):
            controller.run(3, 0.03, halves=False)
            controller.cut(2)
        controller.run(16, 0.03, halves=False)
        controller.stop()
        watched.until_ended()
        check_lines(watched.lines(), scan(1, 40))
        assert len(watched.of(Lost)) >= 4  # and `watching` checks the times


def test_tries_to_connect_come_later_and_later(monkeypatch):
    pauses = []
    with Controller() as controller, watching(controller) as watched:
        wait = watched.source._stop.wait
        monkeypatch.setattr(
            watched.source._stop, "wait", lambda s=None: pauses.append(s) or wait(0.002)
        )
        controller.close()
        watched.until(lambda: pauses.count(30.0) >= 6 and pauses.count(16.0) == 2)
        assert len(watched.of(Lost)) == 1
    assert [pauses.count(seconds) for seconds in nanonis.PAUSES[:-1]] == [2] * 6
    assert nanonis.PAUSES == (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


@pytest.mark.parametrize("port", [2, 3])
def test_an_exchange_cut_at_every_byte_costs_no_line(monkeypatch, port):
    hurry(monkeypatch)
    forward = scan(1, 30, 5)
    cuts = iter(range(0, 300, 7))

    def cut(index, name, answer):
        count = next(cuts, None) if index == port and len(answer) > 40 else None
        if count is None or count >= len(answer):
            return answer
        controller.connections[index].sendall(answer[:count])
        raise OSError

    with Controller(30, 5, line_time=0.01) as controller, watching(controller) as watched:
        controller.start(forward)
        controller.mangle = cut
        controller.run(30, 0.04, halves=False)
        controller.mangle = None
        watched.until(lambda: len(watched.of(Lost)) == len(watched.of(Found)) > 0)
        controller.stop()
        watched.until_ended()
        check_lines(watched.lines(), forward)
        assert len(watched.lines()) == 30


@pytest.mark.parametrize(
    "name", ["Scan.FrameDataGrab", "Scan.StatusGet", "Scan.WaitEndOfLine"]
)
@pytest.mark.parametrize("fault", ["echo", "size", "stray", "silence"])
def test_a_damaged_answer_costs_a_connection_and_no_line(monkeypatch, name, fault):
    hurry(monkeypatch)
    monkeypatch.setattr(nanonis_client, "PATIENCE", 0.3)
    faults = {
        "echo": lambda answer: b"Scan.Other".ljust(32, b"\0") + answer[32:],
        "size": lambda answer: answer[:32] + b"\x7f\xff\xff\xff" + answer[36:],
        "stray": lambda answer: answer + answer[:50],
        "silence": lambda answer: b"",
    }
    left = [1]

    def damage(index, asked, answer):
        if asked != name or not left[0]:
            return answer
        left[0] -= 1
        return faults[fault](answer)

    with Controller(line_time=0.02) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(2)
        watched.until(lambda: len(watched.lines("backward")) == 1)
        controller.mangle = damage
        controller.step(2)
        watched.until(lambda: watched.of(Found))
        assert left == [0]
        controller.step(8)
        watched.until_ended()
        check_lines(watched.lines(), scan(1))
        assert len(watched.lines()) == 6


def test_delays_cost_no_line(monkeypatch):
    hurry(monkeypatch)
    with Controller(10) as controller, watching(controller) as watched:
        controller.mangle = lambda port, name, answer: time.sleep(0.02) or answer
        controller.piece = 100
        controller.start(scan(1, 10))
        controller.run(10, 0.05)
        controller.stop()
        watched.until_ended()
        check_lines(watched.lines(), scan(1, 10))


def test_a_slow_reader_loses_no_line_and_little_waits(monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setattr(nanonis, "MOST_WAITING", 8)
    with Controller(60) as controller, watching(controller) as watched:
        controller.start(scan(1, 60))
        controller.step(4)
        watched.until(lambda: len(watched.lines()) == 2)
        watched.hold.clear()
        controller.run(50, 0.004, halves=False)
        assert watched.source._events.qsize() <= 8
        watched.hold.set()
        controller.step(16)
        controller.stop()
        watched.until_ended()
        check_lines(watched.lines(), scan(1, 60))
        assert len(watched.lines()) == len(watched.lines("backward")) == 60


def test_an_error_that_nobody_thought_of_reaches_the_main_thread(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    with Controller() as controller:
        monkeypatch.setattr(nanonis.Follower, "follow", broken)
        watched = Watched(NanonisSource("127.0.0.1", controller.ports[2:]))
        watched.thread.join(10)
        assert isinstance(watched.error, ZeroDivisionError)


def test_a_week_of_lines_leaves_memory_as_it_was(monkeypatch):
    import tracemalloc

    hurry(monkeypatch)
    lines, scans = 500, 21  # both ways 21,000 lines, in some seconds
    heights = [scan(seed, lines, 16) for seed in range(2)]
    with Controller(lines, 16, rest="stale") as controller, watching(controller) as watched:
        used = []
        for turn in range(scans):
            controller.start(heights[turn % 2], up=turn % 3 == 1)
            for _ in range(19):
                controller.step(50, heard=False)
                controller.step(2)
            controller.step(12)
            controller.stop()
            watched.until_ended(1)
            first, *_ = watched.scans()
            check_lines(first[1], heights[turn % 2], turn % 3 == 1)
            assert len(first[1]) == len(first[2]) == lines
            watched.events.clear()
            controller.log.clear()
            if turn == 5:
                tracemalloc.start()
            if turn >= 6:
                used.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert max(used) - min(used) < 300_000
    assert np.isfinite(used).all()


def test_ticks_come_when_nothing_happens():
    with Controller() as controller:
        source = NanonisSource("127.0.0.1", controller.ports[2:])
        times = []
        for event in source.events():
            times.append(time.monotonic())
            assert not isinstance(event, Line)
            if len(times) == 4:
                source.close()
    assert max(np.diff(times)) < 1.0


@pytest.mark.parametrize("timed_out", [0, 1])
def test_a_wait_that_is_answered_at_once_is_not_repeated_in_a_tight_loop(
    monkeypatch, timed_out
):
    hurry(monkeypatch)
    monkeypatch.setattr(nanonis, "REST", 0.1)
    with Controller(at_once=timed_out) as controller, watching(controller) as watched:
        controller.wait(lambda: controller.names().count("Scan.WaitEndOfLine") >= 5)
        waits = [each.at for each in controller.log if each.name == "Scan.WaitEndOfLine"]
        assert np.diff(waits)[1:].min() > 0.09  # the first tells something, perhaps
        controller.start(scan(1))
        controller.step(12)
        watched.until_ended()
        check_lines(watched.lines(), scan(1))
