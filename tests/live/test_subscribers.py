"""Programs that listen to a watch, and those that must not."""

import json
import socket
import time

import pytest
from helpers import ONCE

from stm_keras.errors import UsageError
from stm_keras.live import subscribers as subscribers_module
from stm_keras.live.records import encode
from stm_keras.live.subscribers import Subscribers

pytestmark = ONCE
RUN = {"seq": 1, "event": "run", "source": "simulated"}


def note(seq, text=""):
    return {"seq": seq, "event": "note", "text": text}


@pytest.fixture
def served():
    subscribers = Subscribers(0)
    yield subscribers
    subscribers.close()


def connect(served):
    """Connect a subscriber, and wait until it is known."""
    known = len(served._everybody)
    client = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    wait(lambda: len(served._everybody) > known)
    return client


def wait(check, seconds=20.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def read(client, count):
    """Read so many records."""
    with client.makefile("rb") as file:
        return [json.loads(file.readline()) for _ in range(count)]


def is_cut_off(client):
    """Tell whether the other side hung up and had sent nothing."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.smoke
def test_everybody_gets_the_run_and_what_comes_after_they_connected(served):
    served.send(note(0))
    served.send(RUN)
    served.send(note(2))
    with connect(served) as first:
        served.send(note(3, "é"))
        assert read(first, 2) == [RUN, note(3, "é")]
        with connect(served) as second:
            served.send(note(4))
            assert read(second, 2) == [RUN, note(4)]
            assert read(first, 1) == [note(4)]
        wait(lambda: served.send(note(5)) or len(served._everybody) == 1)
    assert served.cut_off == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nOrigin: http://evil\r\n\r\n",
        b"POST / HTTP",
        b"\x16\x03\x01",
        b"x",
    ],
)
def test_who_speaks_is_cut_off_before_it_is_told_anything(request_, served):
    served.send(RUN)
    with connect(served) as browser, connect(served) as friend:
        browser.sendall(request_)
        assert is_cut_off(browser)
        friend.sendall(b"\r\n \n")  # no harm
        assert read(friend, 1) == [RUN]
        browser_late = connect(served)
        assert read(browser_late, 1) == [RUN]
        browser_late.sendall(request_)
        assert is_cut_off(browser_late)
        browser_late.close()
    assert served.cut_off == 2


def test_who_only_listens_may_close_its_other_half(served):
    with connect(served) as client:
        client.shutdown(socket.SHUT_WR)
        served.send(note(1))
        assert read(client, 1) == [note(1)]
        served.send(note(2))
        assert read(client, 1) == [note(2)]


def test_who_does_not_read_is_cut_off_and_delays_nobody(served):
    record = note(1, "x" * 100_000)
    with connect(served) as slow, connect(served) as quick:
        slow.settimeout(20)
        with quick.makefile("rb") as file:
            sent = 0
            while not served.cut_off:
                began = time.monotonic()
                served.send(record)
                assert time.monotonic() - began < 1
                assert len(file.readline()) == len(encode(record))
                sent += 1
                assert sent < 1000
        wait(lambda: len(served._everybody) == 1)
        assert sum(map(len, iter(lambda: slow.recv(1 << 20), b""))) < sent * 100_000


def test_only_so_many_are_served(served, monkeypatch):
    monkeypatch.setattr(subscribers_module, "MOST", 2)
    with connect(served), connect(served):
        client = socket.create_connection(("127.0.0.1", served.port), timeout=20)
        assert is_cut_off(client)
        client.close()


def test_the_last_record_is_sent_before_it_hangs_up(served):
    with connect(served) as client:
        wait(lambda: not any(each.silent_until for each in served._everybody.values()))
        served.send(note(1))
        served.close()
        served.close()
        served.send(note(2))
        with client.makefile("rb") as file:
            assert file.read() == encode(note(1))


def test_it_listens_on_this_computer_only(served):
    assert served._listener.getsockname() == ("127.0.0.1", served.port)
    assert served.port > 0


def test_a_port_that_cannot_be_had_is_told_at_once(served):
    with pytest.raises(UsageError, match=f"{served.port}`: another program has this port"):
        Subscribers(served.port)
    with pytest.raises(UsageError, match="a port from 0 to 65535. Received: 65536"):
        Subscribers(65536)
