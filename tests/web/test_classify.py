"""Scans that other programs hold are judged by HTTP as `predict` judges their files, or not."""

import asyncio
import contextlib
import http.client
import io
import json
import struct
import threading
import time

import numpy as np
import pytest
from helpers import ONCE, stm
from scan_files import sxm

pytest.importorskip("nicegui")
pytest.importorskip("httpx")
pytest.importorskip("onnxruntime")

import fastapi
from served import Served
from starlette.testclient import TestClient
from web.watching import Watching

from stm_keras import __version__, load_onnx, verdict_of
from stm_keras.errors import NotFiniteError
from stm_keras.inference.find_model import shipped_path
from stm_keras.readers import read_scan
from stm_keras.simulate import simulate
from stm_keras.web import classify

pytestmark = ONCE  # no backend changes what is tested here

STEP = shipped_path().with_suffix(".onnx")
NM = 1e-9
WAIT = 20  # s, of which a machine that is busy needs few


@pytest.fixture(scope="module")
def model():
    return load_onnx(STEP)


@pytest.fixture(scope="module")
def scan():
    """Return heights in m, `(96, 112)` float32: of two tips, so that up is not down."""
    ours = simulate(8, seed=1)
    good, bad = (ours.images[ours.labels == label][0] for label in (0, 3))
    return (np.concatenate([good[:48], bad[:48]])[:, :112] * 1e-12).astype("<f4")


@pytest.fixture
def app(model):
    app = fastapi.FastAPI()
    classify.add_routes(app, model, lambda: "h_si100.onnx")
    return app


@pytest.fixture
def client(app):
    with TestClient(app) as client:
        yield client


def npy(heights):
    """Write an NPY file, byte for byte as `npy_f32` of rusty-tip's `src/frame.rs` does."""
    rows, columns = heights.shape
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    return head + heights.astype("<f4").tobytes()


def meta(heights, up=True, size=(9 * NM, 7 * NM), name="Z (m)", **changes):
    """Return what rusty-tip's `Frame` tells of itself."""
    geometry = size and {
        "center": {"x": 1e-8, "y": -2e-9},
        "width_m": size[0],
        "height_m": size[1],
        "angle_deg": 30.0,
    }
    told = {"channel_name": name, "rows": len(heights), "cols": heights.shape[1]}
    return {**told, "direction_up": up, "geometry": geometry, **changes}


def ask(client, heights, told=None, body=None):
    told = meta(heights) if told is None else told
    text = told if isinstance(told, str) else json.dumps(told)
    body = npy(heights) if body is None else body
    headers = {"X-Payload-Meta": text, "Content-Type": "application/x-npy"}
    return client.post("/classify", content=body, headers=headers)


def test_the_model_says_who_it_is(client):
    assert client.get("/info").json() == {"name": "h_si100.onnx", "version": __version__}


def test_rusty_tips_npy_is_what_numpy_reads_and_writes(scan):
    np.testing.assert_array_equal(np.load(io.BytesIO(npy(scan))), scan)
    written = io.BytesIO()
    np.save(written, scan)
    assert written.getvalue()[10:] == npy(scan)[10:]


@pytest.mark.parametrize("up", [True, False])
def test_the_verdict_is_that_of_predict_on_the_file(up, scan, client, tmp_path):
    heights = scan.copy()
    heights[: 20 if up else 12] = np.nan  # rows that an up scan did not reach, or was cut
    heights[40, 5:9] = np.nan
    slow, size = "up" if up else "down", (9 * NM, 7 * NM)
    path = tmp_path / "scan.sxm"
    path.write_bytes(sxm({"Z": ("m", heights, None)}, slow=slow, size=size))
    done = stm("predict", path, "--json", "--model", STEP)
    theirs = json.loads(done.stdout)
    ours = ask(client, heights, meta(heights, up)).json()
    assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)
    same = ("verdict", "class", "change_lines", "unsure", "unknown_surface", "unknown_size")
    assert [ours[key] for key in (*same, "lines")] == [
        theirs[key] for key in (*same, "lines")
    ]
    other_way = ask(client, heights, meta(heights, not up)).json()
    assert other_way["probabilities"] != pytest.approx(ours["probabilities"], abs=1e-2)


def test_a_size_is_believed_where_it_is_told(scan, client):
    wide = ask(client, scan, meta(scan, size=(2e-6, 2e-6))).json()
    assert wide["verdict"] == "unknown size"
    unknown = ask(client, scan, meta(scan, size=None)).json()
    assert unknown["unknown_size"] is None
    assert unknown["class"] is not None


def test_a_unit_is_read_from_the_name_of_the_channel(scan, client):
    heights = scan * 1e9
    nano = ask(client, heights, meta(heights, name="Z (nm)")).json()
    ours = ask(client, scan).json()
    assert nano["probabilities"] == pytest.approx(ours["probabilities"], abs=1e-4)
    assert ask(client, scan, meta(scan, name="Z")).status_code == 200
    refused = ask(client, scan, meta(scan, name="OC M1 Freq. Shift (Hz)"))
    assert refused.status_code == 422
    assert "neither heights nor a tunnelling current" in refused.json()["error"]
    absurd = ask(client, heights, meta(heights, name="Z (m)"))
    assert absurd.status_code == 400
    assert "in another unit than it says" in absurd.json()["error"]


def test_what_cannot_be_judged_is_an_error_and_no_verdict(scan, client):
    blank = ask(client, 0 * scan)
    nothing = ask(client, np.full_like(scan, np.nan))
    begun = ask(client, scan[:5], meta(scan[:5]))
    empty = ask(client, scan[:0], meta(scan[:0]))
    answers = (blank, begun, nothing, empty)
    assert [each.status_code for each in answers] == [422, 422, 400, 400]
    assert [list(each.json()) for each in answers] == [["error"]] * 4
    assert "no line shows more than a straight slope" in blank.json()["error"]


def wrong_metas(scan):
    """Return what is wrong with the header, and words of the reason."""
    text = json.dumps(meta(scan))
    return {
        "{": "is not JSON",
        "[1]": "is a JSON object",
        '{"a": NaN}': "is not JSON",
        "[" * 5000: "is not JSON",
        text.replace("96", "95"): "are the shape of the body. Received: 95 and 112",
        text.replace("96", '"96"'): "are the shape of the body",
        text.replace("true", '"up"'): "`direction_up` of X-Payload-Meta is true or false",
        text.replace('"direction_up": true, ', ""): "`direction_up` of X-Payload-Meta",
        text.replace('"Z (m)"', "3"): "`channel_name` of X-Payload-Meta is a text",
        text.replace('"width_m": 9', '"width_m": -9'): "`width_m` and `height_m`, in m",
        text.replace('"height_m"', '"height"'): "`width_m` and `height_m`, in m",
        text + " " * 9000: "has at most 8 KiB",
    }


@pytest.mark.parametrize("number", range(12))
def test_a_header_that_is_not_what_it_must_be_is_refused(number, scan, client):
    told, words = list(wrong_metas(scan).items())[number]
    answer = ask(client, scan, told)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_scan_of_which_nothing_is_told_is_refused(scan, client):
    answer = client.post("/classify", content=npy(scan))
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "The header X-Payload-Meta is missing: JSON that tells of the scan."
    )


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def wrong_bodies(scan):
    """Return bodies that are no scan, by what is wrong."""
    good = npy(scan)
    return {
        "nothing": b"",
        "a text": b"hello",
        "objects": saved(np.array([{}, {}]), allow_pickle=True),
        "float64": saved(scan.astype("<f8")),
        "big endian": saved(scan.astype(">f4")),
        "columns first": saved(np.asfortranarray(scan)),
        "one axis": saved(scan[0]),
        "three axes": saved(scan[None]),
        "one byte less": good[:-1],
        "one byte more": good + b"\x00",
        "half a header": good[:60],
        "another length": good[:8] + b"\x00\x01" + good[10:],
        "version 2": good[:6] + b"\x02" + good[7:],
        "a huge shape": good.replace(b"(96, 112)", b"(999999, 999999)"),
        "a negative row": good.replace(b"(96, 112)", b"(-6, 112)"),
    }


@pytest.mark.parametrize("what", wrong_bodies(np.zeros((96, 112), "<f4")))
def test_a_body_that_is_no_scan_is_refused(what, scan, client, monkeypatch):
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("NumPy reads it"))
    answer = ask(client, scan, body=wrong_bodies(scan)[what])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("The body is an .npy file of version 1.0")


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(
    scan, client, monkeypatch
):
    monkeypatch.setattr(classify, "MOST_BODY", len(npy(scan)) - 1)
    assert ask(client, scan).status_code == 413

    def pieces():
        yield npy(scan)

    assert ask(client, scan, body=pieces()).status_code == 413
    monkeypatch.setattr(classify, "MOST_BODY", len(npy(scan)))
    assert ask(client, scan, body=pieces()).status_code == 200


def test_a_body_that_says_that_it_is_too_long_is_not_read(served):
    with connect(served.port) as connection:
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Length", str(classify.MOST_BODY + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    "error", [NotFiniteError("The network gives NaN."), ValueError("x\ny")]
)
def test_a_model_that_fails_is_an_error_of_one_line(error, scan, client, monkeypatch):
    def fails(*_):
        raise error

    monkeypatch.setattr(classify, "verdict_of", fails)
    answer = ask(client, scan)
    assert answer.status_code == 500
    assert "\n" not in answer.json()["error"]


@pytest.fixture
def served(app):
    with Served(app) as server:
        yield server


def connect(port, seconds=WAIT):
    """Return a connection that is closed at the end of a block."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    return contextlib.closing(connection)


def post(connection, heights):
    """Ask as rusty-tip does, with its headers; return status and answer."""
    headers = {
        "User-Agent": "ureq/3.1.2",
        "Accept": "*/*",
        "Content-Type": "application/x-npy",
        "X-Payload-Meta": json.dumps(meta(heights), separators=(",", ":")),
    }
    connection.request("POST", "/classify", npy(heights), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_program_asks_over_one_connection_again_and_again(served, scan, model):
    with connect(served.port) as connection:
        connection.request("GET", "/info")
        told = json.loads(connection.getresponse().read())
        assert all(isinstance(told[key], str) for key in ("name", "version"))
        asked = [post(connection, scan) for _ in range(3)]
        assert [status for status, _ in asked] == [200] * 3
        assert post(connection, 0 * scan)[0] == 422
        assert post(connection, scan) == asked[0]


def test_scans_are_judged_one_at_a_time_and_the_page_goes_on(
    app, served, scan, monkeypatch
):
    at_once, most, go = 0, 0, threading.Event()

    def slow(*_):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert go.wait(WAIT)
        at_once -= 1
        return {"class": "rows"}

    monkeypatch.setattr(classify, "verdict_of", slow)
    told = []

    def ask_once():
        with connect(served.port) as connection:
            told.append(post(connection, scan))

    asking = [threading.Thread(target=ask_once) for _ in range(classify.MOST_WAITING + 1)]
    for each in asking:
        each.start()
    end = time.monotonic() + WAIT
    while not told:  # one is too many
        assert time.monotonic() < end
        time.sleep(0.001)
    with connect(served.port) as connection:
        connection.request("GET", "/info")  # is answered meanwhile
        assert connection.getresponse().status == 200
    go.set()
    for each in asking:
        each.join(WAIT)
    assert most == 1
    assert [status for status, _ in told] == [503] + [200] * classify.MOST_WAITING
    assert "are waiting" in told[0][1]["error"]


def test_a_client_that_leaves_while_it_sends_harms_nobody(served, scan):
    body = npy(scan)
    with connect(served.port) as connection:
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("X-Payload-Meta", json.dumps(meta(scan)))
        connection.endheaders(body[:100])
    with connect(served.port) as connection:
        assert post(connection, scan)[0] == 200


def asked_without(app, receive):
    """Return the status of a request whose body comes as an ASGI server would tell it."""
    sent = []

    async def keep(message):
        sent.append(message)

    headers = [(b"x-payload-meta", b"{}")]
    scope = {"type": "http", "method": "POST", "path": "/classify", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http"}
    asyncio.run(asyncio.wait_for(app(scope, receive, keep), WAIT))
    return sent[0]["status"]


def test_a_body_that_does_not_come_is_given_up(app, monkeypatch):
    monkeypatch.setattr(classify, "SLOWEST", 0.05)

    async def never():
        await asyncio.Event().wait()

    assert asked_without(app, never) == 408


def test_a_body_that_breaks_off_is_no_error_of_ours(app):
    async def gone():
        return {"type": "http.disconnect"}

    assert asked_without(app, gone) == 400


def test_the_stream_of_the_watch_may_use_the_model_meanwhile(served, scan, model):
    heights = scan.astype(float)
    expected, told, end = verdict_of(model, heights), [], threading.Event()

    def watch():
        while not end.is_set():
            told.append(verdict_of(model, heights))

    thread = threading.Thread(target=watch)
    thread.start()
    with connect(served.port) as connection:
        answers = [post(connection, scan) for _ in range(5)]
    end.set()
    thread.join(WAIT)
    assert told.count(expected) == len(told)
    assert all(each == answers[0] for each in answers)


def test_a_read_scan_and_a_sent_one_are_the_same(scan, tmp_path):
    path = tmp_path / "scan.sxm"
    path.write_bytes(sxm({"Z": ("m", scan, None)}, slow="up", size=(9 * NM, 7 * NM)))
    ours = classify.scan_of(json.dumps(meta(scan)), npy(scan))
    theirs = read_scan(path)
    np.testing.assert_array_equal(ours.lines(), theirs.lines())
    for name in ("channel", "unit", "slow"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.size == pytest.approx(theirs.size)


def test_a_running_watch_judges_scans_and_only_for_this_computer(scan, model, tmp_path):
    with Watching(tmp_path, "push://127.0.0.1:0") as watching:
        with connect(watching.port) as connection:
            status, told = post(connection, scan)
            assert status == 200
            assert told["verdict"] == verdict_of(model, theirs_of(scan))["verdict"]
            connection.request("GET", "/info")
            named = json.loads(connection.getresponse().read())
            assert named == {"name": "h_si100.onnx", "version": __version__}
        for header, value in ("Origin", "http://evil.example"), ("Host", "evil.example"):
            with connect(watching.port) as connection:
                headers = {"X-Payload-Meta": json.dumps(meta(scan)), header: value}
                connection.request("POST", "/classify", npy(scan), headers)
                assert connection.getresponse().status == 403


def theirs_of(scan):
    return classify.scan_of(json.dumps(meta(scan)), npy(scan))
