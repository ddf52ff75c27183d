"""One connection: what it sends, what it takes, and how it says what is wrong."""

import socket
import struct
import threading
import time

import pytest
from helpers import ONCE
from live.controller import Controller

from stm_keras.live import nanonis_client
from stm_keras.live.nanonis_client import Client
from stm_keras.live.nanonis_codec import DamagedError, NanonisError, RefusedError

pytestmark = ONCE


def test_what_is_not_allowed_is_refused_before_a_byte_is_sent():
    told = []
    with Controller() as controller:
        client = Client("127.0.0.1", controller.ports[0], told.append)
        for name in ("Scan.Action", "Bias.Set", "Motor.StartMove", "scan.statusget", ""):
            with pytest.raises(PermissionError, match="may send"):
                client.ask(name)
        client.ask("Scan.StatusGet")
        client.close()
        assert controller.names() == ["Scan.StatusGet"]
        assert told == [f"{controller.ports[0]} Scan.StatusGet"]


def test_no_attribute_widens_what_is_allowed(monkeypatch):
    with Controller() as controller:
        client = Client("127.0.0.1", controller.ports[0])
        client.ALLOWED = {"Scan.Action"}
        with pytest.raises(PermissionError):
            client.ask("Scan.Action")
        monkeypatch.setattr(Client, "ALLOWED", frozenset({"Scan.Action"}))
        with pytest.raises(KeyError):  # nor is it known how
            client.ask("Scan.Action")
        client.close()
        assert controller.names() == []


def test_each_command_is_told_with_its_numbers():
    told = []
    with Controller() as controller:
        client = Client("127.0.0.1", controller.ports[3], told.append)
        client.ask("Scan.FrameDataGrab", 30, 1)
        client.close()
    assert told == [f"{controller.ports[3]} Scan.FrameDataGrab 30 1"]


def test_answers_may_come_byte_by_byte():
    with Controller(3, 5) as controller:
        controller.piece = 1
        client = Client("127.0.0.1", controller.ports[0])
        assert client.ask("Scan.FrameDataGrab", 30, 1)[1].shape == (3, 5)
        assert client.ask("Scan.BufferGet") == ([0, 30], 5, 3)
        client.close()


def test_an_error_leaves_the_connection_as_it_is():
    with Controller(slots_told=False) as controller:
        client = Client("127.0.0.1", controller.ports[0])
        with pytest.raises(RefusedError, match="Signals.InSlotsGet is not known"):
            client.ask("Signals.InSlotsGet")
        assert client.ask("Scan.StatusGet") == (0,)
        client.close()


def exchange_of(name, *arguments):
    """Return the length of an answer."""
    lengths = []
    with Controller(2, 5) as controller:
        controller.mangle = lambda port, name, answer: lengths.append(len(answer)) or answer
        client = Client("127.0.0.1", controller.ports[0])
        client.ask(name, *arguments)
        client.close()
    return lengths[0]


def test_a_connection_cut_at_every_byte_of_an_answer_is_lost():
    length = exchange_of("Scan.FrameDataGrab", 30, 1)
    assert length == 40 + 9 + 8 + 40 + 4 + 8
    left = []

    def cut(port, name, answer):
        if name != "Scan.FrameDataGrab":
            return answer
        controller.connections[port].sendall(answer[: left[0]])
        raise OSError

    with Controller(2, 5) as controller:
        controller.mangle = cut
        for count in range(length):
            left[:] = [count]
            client = Client("127.0.0.1", controller.ports[0])
            client.ask("Scan.StatusGet")
            with pytest.raises(NanonisError, match="closed the connection") as caught:
                client.ask("Scan.FrameDataGrab", 30, 1)
            assert not isinstance(caught.value, RefusedError)
            client.close()


def test_a_connection_cut_at_every_byte_of_a_request_is_lost():
    answer = struct.pack(">32siII", b"Scan.StatusGet", 12, 0, 1) + bytes(8)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve(taken):
        connection, _ = listener.accept()
        with connection:
            if taken:
                connection.recv(taken, socket.MSG_WAITALL)

    for taken in range(0, 41, 5):
        thread = threading.Thread(target=serve, args=(taken,))
        thread.start()
        client = Client("127.0.0.1", port)
        if taken < 40:
            with pytest.raises(
                NanonisError, match=r"without an answer: it is probably taken"
            ):
                client.ask("Scan.StatusGet")
        client.close()
        thread.join()
    listener.close()
    assert len(answer) == 52


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (struct.pack(">32siI", b"Bias.Get", 12, 0) + bytes(12), "is named 'Bias.Get'"),
        (struct.pack(">32siI", b"Scan.StatusGet", 1 << 30, 0), "1073741824 bytes"),
        (struct.pack(">32siI", b"Scan.StatusGet", -1, 0), "-1 bytes"),
        (struct.pack(">32siI", b"Scan.StatusGet", 3, 0) + bytes(3), "3 bytes"),
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "is named 'HTTP/1.1 400",
        ),
    ],
)
def test_what_is_no_answer_ends_the_connection(answer, message):
    with Controller() as controller:
        controller.mangle = lambda *_: answer
        client = Client("127.0.0.1", controller.ports[0])
        with pytest.raises(DamagedError, match=message):
            client.ask("Scan.StatusGet")
        client.close()


def test_bytes_that_nobody_asked_for_put_the_connection_out_of_step():
    with Controller() as controller:
        controller.mangle = lambda port, name, answer: answer * 2
        client = Client("127.0.0.1", controller.ports[0])
        client.ask("Scan.StatusGet")
        asked = len(controller.log)
        time.sleep(0.05)
        with pytest.raises(DamagedError, match="out of step"):
            client.ask("Scan.StatusGet")
        client.close()
        assert len(controller.log) == asked


def test_a_port_that_another_client_holds_is_named(monkeypatch):
    monkeypatch.setattr(nanonis_client, "PATIENCE", 0.2)
    with Controller() as controller:
        port = controller.ports[0]
        first = Client("127.0.0.1", port)
        first.ask("Scan.StatusGet")
        second = Client("127.0.0.1", port)  # is accepted, and never served
        with pytest.raises(NanonisError) as caught:
            second.ask("Scan.StatusGet")
        second.close()
        first.close()
    message = str(caught.value)
    assert f"Port {port} of 127.0.0.1 accepts connections, but does not answer" in message
    assert "taken by another client" in message
    assert "--ports" in message


def test_silence_after_answers_is_a_lost_connection(monkeypatch):
    monkeypatch.setattr(nanonis_client, "PATIENCE", 0.2)
    with Controller() as controller:
        client = Client("127.0.0.1", controller.ports[0])
        client.ask("Scan.StatusGet")
        controller.mangle = lambda *_: b""
        with pytest.raises(NanonisError, match="has not answered for 0 s"):
            client.ask("Scan.StatusGet")
        client.close()


def test_an_answer_that_trickles_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(nanonis_client, "LONGEST", 0.3)
    with Controller() as controller:

        def trickle(port, name, answer):
            connection = controller.connections[port]
            for byte in answer:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
            return b""

        controller.mangle = trickle
        client = Client("127.0.0.1", controller.ports[0])
        begun = time.monotonic()
        with pytest.raises(NanonisError):
            client.ask("Scan.StatusGet")
        assert time.monotonic() - begun < 1
        client.close()


def test_a_wait_may_take_longer_than_other_answers(monkeypatch):
    monkeypatch.setattr(nanonis_client, "PATIENCE", 0.2)
    with Controller() as controller:
        client = Client("127.0.0.1", controller.ports[0])
        assert client.ask("Scan.WaitEndOfLine", 500, wait=0.5)[0] == 1
        client.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "x\0y", "a..b"])
def test_a_host_that_does_not_exist_is_one_line(host):
    with pytest.raises(NanonisError, match="^No such host: '.*nanonis://") as caught:
        Client(host, 6503)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_port_where_nobody_listens_says_what_to_enable():
    with Controller() as controller:
        port = controller.ports[0]
    with pytest.raises(NanonisError, match=f"Nothing listens on port {port}") as caught:
        Client("127.0.0.1", port)
    assert "TCP programming interface" in str(caught.value)
    assert "--ports" in str(caught.value)


def test_all_addresses_of_a_name_are_tried(monkeypatch):
    with Controller() as controller:
        port = controller.ports[0]
        stream = (socket.SOCK_STREAM, 6, "")
        addresses = [  # as "localhost" is on Windows: IPv6 first, where nobody listens
            (socket.AF_INET6, *stream, ("::1", port, 0, 0)),
            (socket.AF_INET, *stream, ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        client = Client("stm-pc", port)
        assert client.ask("Scan.StatusGet") == (0,)
        client.close()


def test_another_thread_can_end_a_wait():
    with Controller() as controller:
        client = Client("127.0.0.1", controller.ports[0])
        threading.Timer(0.1, client.close).start()
        begun = time.monotonic()
        with pytest.raises(NanonisError):
            client.ask("Scan.WaitEndOfLine", 60_000, wait=60)
        assert time.monotonic() - begun < 5
        client.close()
