"""What docs/examples.md tells LabVIEW users to send is understood, and answered as they read."""

import json
import re
import socket

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY
from live.pushed import PushedTo, until

pytestmark = ONCE  # no backend changes what is tested here

PAGE = REPOSITORY / "docs" / "examples.md"


def texts():
    """Return what is written by TCP: dict of when to str."""
    page = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"^\| ([^|]+) \| TCP Write \| `(.+)` \|$", page, re.MULTILINE))


class Vi:
    """The VIs of LabVIEW, with its words for what they do."""

    def open(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=0.5)
        self.buffer = b""

    def write(self, text):
        self.connection.sendall(text.encode() + b"\r\n")

    def read(self, milliseconds=1000):
        """Read in mode CRLF: until CR LF came; None for a time-out, error 56."""
        self.connection.settimeout(milliseconds / 1000)
        while b"\r\n" not in self.buffer:
            try:
                self.buffer += self.connection.recv(1 << 20)
            except TimeoutError:
                return None
        text, _, self.buffer = self.buffer.partition(b"\r\n")
        return json.loads(text)

    def close(self):
        self.connection.close()


@pytest.fixture
def vi():
    vi = Vi()
    yield vi
    vi.close()


def test_the_page_says_what_to_send_when():
    assert list(texts()) == ["a scan begins", "a line is done", "the scan is over"]


def test_a_scan_is_sent_and_answered_as_labview_does_it(vi):
    sent = texts()
    with PushedTo() as watch:
        vi.open(watch.port)
        vi.write(sent["a scan begins"])
        assert vi.read(milliseconds=50) is None
        for row in (255, 254):
            vi.write(sent["a line is done"].replace("255", str(row)))
            answer = vi.read()
            assert (answer["row"], answer["verdict"]) == (row, "rows")
        vi.write(sent["a line is done"].replace("E-10,", "E-10;"))  # a German Windows
        assert list(vi.read()) == ["error"]
        vi.write(sent["the scan is over"])
        until(lambda: watch.scans()[0][2])
        vi.write(sent["a line is done"])  # the next scan
        assert vi.read()["row"] == 255
    frame, lines, reason = watch.scans()[0]
    assert (frame.lines, frame.size, frame.slow, reason) == (
        256,
        (2e-8, 2e-8),
        "up",
        "stopped",
    )
    np.testing.assert_array_equal(lines[0].heights, [1.2e-10, 1.3e-10, np.nan, 1.1e-10])


def test_who_ends_lines_with_a_line_feed_is_answered_so(vi):
    with PushedTo() as watch:
        vi.open(watch.port)
        vi.connection.sendall(texts()["a line is done"].encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            data += vi.connection.recv(1 << 16)
        assert not data.endswith(b"\r\n")
