"""The server of the page against programs that ask too much of it."""

import socket

import pytest
from helpers import ONCE
from web.watching import PATIENCE, Watching, until

pytest.importorskip("nicegui")
pytest.importorskip("onnxruntime")
pytestmark = ONCE

from stm_keras.web.server import MOST_CONNECTIONS  # noqa: E402


@pytest.fixture(scope="module")
def watching(tmp_path_factory):
    with Watching(tmp_path_factory.mktemp("watched"), "simulated") as watching:
        yield watching


def connect(watching):
    return socket.create_connection(("127.0.0.1", watching.port), PATIENCE)


def answer(connection, question=b""):
    """Return what comes until the server hangs up; nothing where it does so without a word."""
    try:
        connection.sendall(question)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except ConnectionError:
        return b""


def test_a_header_without_end_is_refused(watching):
    with connect(watching) as connection:
        said = answer(connection, b"GET / HTTP/1.1\r\nX: " + b"a" * (200 << 10))
        assert said[:13] in (b"", b"HTTP/1.1 400 ")


def test_more_connections_than_a_few_hundred_are_hung_up_on(watching):
    before = until(watching.state)["last_line"]
    many = [connect(watching) for _ in range(MOST_CONNECTIONS + 1)]
    assert answer(many[-1]) == b""
    for connection in many:
        connection.close()
    until(lambda: watching.state()["last_line"] != before)
