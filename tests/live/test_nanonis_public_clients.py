"""The tests' own controller speaks the protocol as two public clients understand it."""

import socket
import threading

import numpy as np
import pytest
from helpers import ONCE
from live.controller import SIGNALS, SLOTS, Controller
from live.watched import scan

pytestmark = ONCE
pytest.importorskip("nanonis_spm")
pytest.importorskip("nanonisTCP")


@pytest.fixture
def controller():
    with Controller(3, 5) as controller:
        controller.start(scan(1, 3, 5), scan(2, 3, 5), up=True)
        controller.step(6, heard=False)
        yield controller


@pytest.fixture
def spm(controller):
    from nanonis_spm import Nanonis

    with socket.create_connection(("127.0.0.1", controller.ports[0])) as connection:
        yield Nanonis(connection)


@pytest.fixture
def tcp(controller):
    from nanonisTCP import nanonisTCP

    client = nanonisTCP("127.0.0.1", controller.ports[1])
    yield client
    client.close_connection()


def values(answer):
    """Return the values of an answer of nanonis_spm that reports no error."""
    error, _, found = answer
    assert not error
    return found


def test_nanonis_spm_reads_frames(spm):
    for forward in (1, 0):
        size, name, rows, columns, data, up = values(spm.Scan_FrameDataGrab(30, forward))
        assert (size, name, rows, columns, up) == (5, "Z (m)", 3, 5, 1)
        np.testing.assert_array_equal(data, scan(2 - forward, 3, 5))


def test_nanonis_spm_reads_settings(spm):
    count, channels, pixels, lines = values(spm.Scan_BufferGet())
    assert (count, [each[0] for each in channels], pixels, lines) == (2, [0, 30], 5, 3)
    assert values(spm.Scan_StatusGet()) == [1]
    assert values(spm.Scan_FrameGet()) == pytest.approx([1e-9, -2e-9, 4e-8, 2e-8, 30])
    assert values(spm.Scan_SpeedGet())[2:4] == [0.25, 0.25]
    assert values(spm.Bias_Get()) == [-1.5]
    assert values(spm.ZCtrl_OnOffGet()) == [1]
    _, count, names = values(spm.Signals_NamesGet())
    assert (count, names) == (128, SIGNALS)


def test_nanonis_spm_reads_an_error(spm):
    error, *_ = spm.quickSend("Scan.Action", [0, 0], ["H", "I"], [])
    assert error == "Scan.Action is not known"


def test_nanonis_tcp_reads_frames(tcp):
    from nanonisTCP.Scan import Scan

    for forward in (1, 0):
        name, data, up = Scan(tcp).FrameDataGrab(30, forward)
        assert (name, data.shape, up) == ("Z (m)", (3, 5), "up")
        np.testing.assert_array_equal(data, scan(2 - forward, 3, 5))


def test_nanonis_tcp_reads_settings(tcp):
    from nanonisTCP.Bias import Bias
    from nanonisTCP.Scan import Scan
    from nanonisTCP.Signals import Signals

    assert Scan(tcp).BufferGet() == [2, [0, 30], 5, 3]
    assert Scan(tcp).StatusGet() is True
    assert Scan(tcp).FrameGet() == pytest.approx([1e-9, -2e-9, 4e-8, 2e-8, 30])
    assert Scan(tcp).SpeedGet()[2:4] == [0.25, 0.25]
    assert Scan(tcp).PropsGet()[:5] == [0, 0, 0, "scan", ""]
    assert Bias(tcp).Get() == -1.5
    assert Signals(tcp).NamesGet() == SIGNALS
    assert Signals(tcp).InSlotsGet() == [[SIGNALS[number] for number in SLOTS], SLOTS]


def test_nanonis_tcp_waits_for_lines(controller, tcp):
    from nanonisTCP.Scan import Scan

    controller.start(scan(1, 3, 5))
    thread = threading.Thread(target=controller.step, args=(2,))
    thread.start()
    assert Scan(tcp).WaitEndOfLine(5000) == [False, 1, "forward", 1]
    assert Scan(tcp).WaitEndOfLine(5000) == [False, 1, "backward", 1]
    thread.join()
    assert Scan(tcp).WaitEndOfLine(10)[0] is True


def test_nanonis_tcp_reads_an_error(tcp):
    from nanonisTCP.Scan import Scan

    with pytest.raises(Exception, match="is not known"):  # it drops the first letters
        Scan(tcp).Start()
