"""Bytes of requests and answers: golden exchanges, both kinds of errors, limits."""

import dataclasses
import struct

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.live.nanonis_client import Client
from stm_keras.live.nanonis_codec import (
    COMMANDS,
    MAX_BODY,
    Command,
    DamagedError,
    RefusedError,
    decode_body,
    decode_header,
    encode_request,
)

pytestmark = ONCE
GET, SET = (bytes.fromhex(f"466F6C4D652E5859506F73{word}74") for word in ("4765", "5365"))
XY_GET = Command("I", (("d", "d"),))  # as the document prints them; neither is ever sent
XY_SET = Command("ddI")
FINE = bytes(8)
WAIT = COMMANDS["Scan.WaitEndOfLine"]


def decode(name, body):
    return decode_body(name, COMMANDS[name], body)


def error(words):
    data = words.encode()
    return struct.pack(">Ii", 1, len(data)) + data


def test_golden_requests_are_encoded_to_the_byte():
    head = GET + bytes(18) + bytes.fromhex("0000000400010000")
    assert encode_request("FolMe.XYPosGet", "I", 1) == head + bytes.fromhex("00000001")
    head = SET + bytes(18) + bytes.fromhex("0000001400010000")
    body = bytes.fromhex("3E45798EE2308C3A3E501B2B29A4692B00000001")
    assert encode_request("FolMe.XYPosSet", "ddI", 1e-8, 1.5e-8, 1) == head + body


def test_golden_answers_are_decoded_to_the_byte():
    head = GET + bytes(18) + bytes.fromhex("0000001800000000")
    assert decode_header(head, "FolMe.XYPosGet") == 24
    body = bytes.fromhex("3E35798EE2308C3ABE35798EE2308C3A0000000000000000")
    assert decode_body("FolMe.XYPosGet", XY_GET, body) == (5e-9, -5e-9)
    head = SET + bytes(18) + bytes.fromhex("0000000800000000")
    assert decode_header(head, "FolMe.XYPosSet") == 8
    assert decode_body("FolMe.XYPosSet", XY_SET, FINE) == ()


def test_the_commands_read_and_cannot_be_added_to():
    assert {name.rpartition(".")[2][:4] for name in COMMANDS} == {"Wait", "Fram"} | {
        "Stat", "Buff", "Spee", "Prop", "Name", "InSl", "Get", "Setp", "ZPos", "OnOf",
        "Vers", "Sess",
    }  # fmt: skip
    assert not [
        name for name in COMMANDS if name.endswith(("Set", "Action", "Start", "Pulse"))
    ]
    assert frozenset(COMMANDS) == Client.ALLOWED
    assert len(COMMANDS) == 17
    with pytest.raises(TypeError):
        COMMANDS["Scan.Action"] = XY_SET
    with pytest.raises(dataclasses.FrozenInstanceError):
        WAIT.takes = "I"


@pytest.mark.parametrize("style", ["alone", "zeros"])
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_both_kinds_of_errors_are_refusals(name, style):
    zeros = {"f": 4, "I": 4, "i": 4, "H": 2, "text": 4, "texts": 8, "ints": 4, "frame": 8}
    values = bytes(sum(zeros[kind] for kind in COMMANDS[name].returns[0]))
    if COMMANDS[name].more:
        values = b""  # what follows is not known, and so not where the error is
    body = (values if style == "zeros" else b"") + error("no\x1b[2J such\nthing é")
    with pytest.raises(RefusedError) as caught:
        decode(name, body)
    assert str(caught.value) == f"Nanonis refuses {name}: no\\x1b[2J such\\nthing é"


def test_a_wait_that_timed_out_is_no_error_of_so_many_letters():
    for line in (14, 6, 0, -1):
        body = struct.pack(">IiHi", 1, line, 0, 1) + FINE
        assert decode("Scan.WaitEndOfLine", body) == (1, line, 0, 1)
    with pytest.raises(RefusedError, match="fourteen lette"):
        decode("Scan.WaitEndOfLine", error("fourteen lette"))


def test_line_numbers_have_a_sign():
    assert decode("Scan.WaitEndOfLine", struct.pack(">IiHi", 0, -1, 3, 1) + FINE)[1] == -1


@pytest.mark.parametrize("releases", [(13742, 13000), (10862,), ()])
def test_versions_of_old_releases_are_shorter(releases):
    words = struct.pack(">i7si2s", 7, b"Nanonis", 2, b"5e")
    body = words + struct.pack(f">{len(releases)}I", *releases) + FINE
    assert decode("Util.VersionGet", body) == ("Nanonis", "5e", *releases)


def test_properties_are_read_as_far_as_all_releases_agree():
    body = struct.pack(">IIIi4si", 1, 0, 2, 4, b"scan", 0)
    for rest in (b"", FINE, bytes(23)):
        assert decode("Scan.PropsGet", body + rest) == (1, 0, 2, "scan", "")
    with pytest.raises(RefusedError, match="busy"):
        decode("Scan.PropsGet", error("busy"))


def test_texts_are_utf_8_or_latin_1():
    for data in ("Höhe".encode(), "Höhe".encode("latin-1")):
        body = struct.pack(">i", len(data)) + data + FINE
        assert decode("Util.SessionPathGet", body) == ("Höhe",)


@pytest.mark.parametrize("total", [0, 11, 19])
def test_arrays_of_texts_and_numbers(total):
    body = struct.pack(">iii1si2s", total, 2, 1, b"Z", 2, b"Zx") + struct.pack(
        ">iii", 2, 5, 30
    )
    assert decode("Signals.InSlotsGet", body + FINE) == (["Z", "Zx"], [5, 30])


def frame_body(rows, columns, data, up=1):
    return struct.pack(">i5sii", 5, b"Z (m)", rows, columns) + data + struct.pack(">I", up)


def test_frames_are_rectangular_and_keep_nan():
    data = np.arange(6, dtype=">f4").reshape(2, 3)
    data[1, 2] = np.nan
    name, frame, up = decode("Scan.FrameDataGrab", frame_body(2, 3, data.tobytes()) + FINE)
    assert (name, frame.shape, frame.dtype, up) == ("Z (m)", (2, 3), np.float32, 1)
    np.testing.assert_array_equal(frame, data)
    assert decode("Scan.FrameDataGrab", frame_body(0, 0, b"") + FINE)[1].shape == (0, 0)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(2, 2), (1 << 30, 1 << 30), (-1, 6), (-2, -3), (2**31 - 1, 1), (1, 7), (3, 3)],
)
def test_a_frame_that_its_answer_does_not_hold_is_refused(rows, columns):
    with pytest.raises(DamagedError, match="do not fit"):
        decode("Scan.FrameDataGrab", frame_body(rows, columns, bytes(24)) + FINE)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Scan.StatusGet", b""),
        ("Scan.StatusGet", bytes(4)),
        ("Scan.StatusGet", bytes(13)),
        ("Scan.StatusGet", struct.pack(">Ii", 0, 9) + b"nine"),
        ("Scan.BufferGet", struct.pack(">i", 1 << 30) + FINE),
        ("Scan.BufferGet", struct.pack(">i", -1) + FINE),
        ("Signals.NamesGet", struct.pack(">iii", 4, 1 << 30, 1) + FINE),
        ("Signals.NamesGet", struct.pack(">iii", 4, 1, -5) + FINE),
        ("Util.SessionPathGet", struct.pack(">i", 1 << 30) + FINE),
    ],
)
def test_an_answer_of_another_length_is_damaged(name, body):
    with pytest.raises(DamagedError, match=f"The answer to {name} has {len(body)} bytes"):
        decode(name, body)


def test_headers_have_the_name_that_was_asked_and_a_possible_size():
    head = struct.Struct(">32siI")
    for size in (0, MAX_BODY):
        assert decode_header(head.pack(b"Bias.Get", size, 0), "Bias.Get") == size
    for size in (-1, MAX_BODY + 1, -(1 << 31)):
        with pytest.raises(DamagedError, match=f"Bias.Get says that it has {size} bytes"):
            decode_header(head.pack(b"Bias.Get", size, 0), "Bias.Get")
    for name in (b"Bias.Set", b"bias.get", b"Bias.Ge", b"Bias.Get\0x", b"\xff\x1b"):
        with pytest.raises(DamagedError, match="The answer to Bias.Get is named"):
            decode_header(head.pack(name, 4, 0), "Bias.Get")
