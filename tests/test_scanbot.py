"""The hook for Scanbot, driven by Scanbot's own survey: it breaks nothing, and shapes rarely."""

import contextlib
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scanbot_host
from helpers import ONCE, REPOSITORY
from scan_files import sxm
from test_acting_examples import first

from stm_keras import load_onnx, verdict_of
from stm_keras.inference.find_model import shipped_path
from stm_keras.readers import read_scan
from stm_keras.simulate import simulate, simulate_unknown

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("onnxruntime")
fastapi = pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
STEP = shipped_path().with_suffix(".onnx")
NM = 1e-9
REAL = pytest.param(
    scanbot_host.survey_real,
    marks=pytest.mark.skipif(
        not scanbot_host.REAL, reason="Scanbot 4.5.1 is not here, see tests/scanbot_host.py"
    ),
    id="scanbot",
)


@pytest.fixture(params=[pytest.param(scanbot_host.survey_twin, id="twin"), REAL])
def survey(request):
    """Run a survey with a hook; return whether the tip is shaped, and the warnings."""

    def run(hook, scans):
        said = []
        shaped = request.param(hook, scans, said.append)
        return shaped, [text for text in said if "Warning" in text or "Error" in text]

    return run


@pytest.fixture(scope="module")
def watch():
    """What the page of a watch serves to other programs."""
    from served import Served

    from stm_keras.web.classify import add_routes

    app = fastapi.FastAPI()
    add_routes(app, load_onnx(STEP))
    with Served(app) as served:
        yield served


@pytest.fixture
def hook(monkeypatch, watch):
    """The Scanbot hook, imported as Scanbot does; `seen` is what it returned."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples"))
    import hk_classifier

    monkeypatch.setattr(hk_classifier, "PORT", watch.port)
    seen, run = [], hk_classifier.run

    def seeing(*given):
        seen.append(run(*given))
        return seen[-1]

    monkeypatch.setattr(hk_classifier, "run", seeing)
    hk_classifier.seen = seen
    yield hk_classifier
    del sys.modules["hk_classifier"]


@pytest.fixture(scope="module")
def lines():
    """Lines in the order of acquisition: of a bad tip, of a good one, and of 7x7."""
    known = {"unsure": False, "unknown_surface": False}
    ours = simulate(40, seed=1)
    strange = simulate_unknown(20, seed=1, kinds=["Si(111)-7x7"])
    return {
        "bad": first(
            ours.images[ours.labels == 3], **known, **{"class": "generic defects"}
        ),
        "good": first(
            ours.images[ours.labels == 0], **known, **{"class": "individual atoms"}
        ),
        "foreign": first(strange.images, unknown_surface=True),
    }


@pytest.fixture
def saved(tmp_path):
    """Write a scan as Nanonis does, upwards; return its path and what FrameDataGrab gives."""

    def save(lines, nm=10.0, name="scan.sxm", whole=True):
        heights = np.asarray(lines, float)[::-1] * 1e-12
        content = sxm({"Z": ("m", heights, None)}, slow="up", size=(nm * NM, nm * NM))
        path = tmp_path / name
        path.write_bytes(content if whole else content[:100])
        return str(path), heights

    return save


def check_record(record):
    """See that Scanbot's classifier can go on with a record."""
    assert type(record["nan"]) is bool
    assert type(record["tipChanges"]) is int
    assert type(record["tipShape"]) is int


def test_the_tip_is_shaped_after_three_bad_scans_in_a_row(survey, hook, saved, lines):
    shaped, warnings = survey(hook, [saved(lines["bad"])] * 9)
    assert shaped
    assert [each["tipShape"] for each in hook.seen] == [0, 0, 1]
    assert [each["verdict"] for each in hook.seen] == ["generic defects"] * 3
    assert not warnings


def test_a_good_scan_between_bad_ones_breaks_the_row(survey, hook, saved, lines):
    scans = [saved(lines[name], name=f"{name}.sxm") for name in ("bad", "bad", "good")]
    shaped, _ = survey(hook, [*scans, *scans, *scans])
    assert not shaped
    assert len(hook.seen) == 9


def not_to_be_acted_on(saved, lines):
    """Return scans of which none says that the tip is bad, by what is wrong."""
    bad = lines["bad"]
    return {
        "blank": saved(0 * bad, name="blank.sxm"),
        "foreign": saved(lines["foreign"], name="foreign.sxm"),
        "too wide": saved(bad, nm=2000, name="wide.sxm"),
        "unreadable": saved(bad, name="cut.sxm", whole=False),
        "missing": ("nowhere.sxm", bad),
        "no data": (saved(0 * bad)[0], None),
    }


@pytest.mark.parametrize(
    "what", ["blank", "foreign", "too wide", "unreadable", "missing", "no data"]
)
def test_nothing_is_done_about_what_is_not_judged_and_that_is_told(
    what, hook, saved, lines, capsys
):
    path, data = not_to_be_acted_on(saved, lines)[what]
    history = []
    for _ in range(6):
        history.append(hook.run(data, path, history))
        check_record(history[-1])
    assert {each["tipShape"] for each in history} == {0}
    assert {each["bad"] for each in history} == {False}
    assert {each["nan"] for each in history} == {True}  # Scanbot does not count them either
    assert all(each["message"] for each in history)
    assert capsys.readouterr().out.count(f"stm-keras: {path}: ") == 6


VERDICT = {  # such as the tip would be shaped for
    "verdict": "generic defects",
    "class": "generic defects",
    "change_lines": [],
    "unknown_surface": False,
    "unknown_size": False,
}
ANSWERS = {  # of what is no watch, or has no verdict: status and body
    "an error": (500, json.dumps(VERDICT)),
    "too many ask": (503, '{"error": "4 scans are waiting."}'),
    "a list": (200, "[]"),
    "half a verdict": (200, '{"verdict": "generic defects", "class": "generic defects"}'),
    "no class": (200, json.dumps({**VERDICT, "class": None})),
    "unsure": (200, json.dumps({**VERDICT, "verdict": "unsure"})),
    "who cannot tell the surface": (200, json.dumps({**VERDICT, "unknown_surface": None})),
    "a page": (200, "<html>"),
    "silence": None,
}


@pytest.fixture
def other(hook, monkeypatch):
    """Return a function that puts something else in the place of the watch."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        monkeypatch.setattr(hook, "PORT", listener.getsockname()[1])
        monkeypatch.setattr(hook, "SECONDS", 0.2)

        def serve(answer):
            pool.submit(_answer_all, listener, answer)

        yield serve
        listener.shutdown(socket.SHUT_RDWR)


def _answer_all(listener, answer):
    held = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            held.append(connection)
            if answer is not None:
                connection.recv(1 << 20)
                head = f"HTTP/1.1 {answer[0]} x\r\nContent-Length: {len(answer[1])}\r\n\r\n"
                connection.sendall((head + answer[1]).encode())
    for each in held:
        each.close()


@pytest.mark.parametrize("what", ANSWERS)
def test_nothing_is_done_where_the_watch_has_no_verdict(what, hook, other, saved, lines):
    other(ANSWERS[what])
    path, data = saved(lines["bad"])
    history = []
    for _ in range(4):
        history.append(hook.run(data, path, history))
        check_record(history[-1])
    assert {each["tipShape"] for each in history} == {0}
    assert {each["bad"] for each in history} == {False}
    assert all(each["message"] for each in history)


def test_what_the_others_say_would_be_acted_on_if_a_watch_said_it(
    hook, other, saved, lines
):
    other((200, json.dumps(VERDICT)))
    path, data = saved(lines["bad"])
    history = []
    for _ in range(3):
        history.append(hook.run(data, path, history))
    assert [each["tipShape"] for each in history] == [0, 0, 1]


def test_nothing_is_done_where_there_is_no_watch(hook, saved, lines, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(hook, "PORT", free.getsockname()[1])
    path, data = saved(lines["bad"])
    record = hook.run(data, path, [])
    assert (record["bad"], record["nan"]) == (False, True)
    assert "ConnectionRefusedError" in record["message"]


def test_a_survey_goes_on_over_scans_that_are_not_judged(survey, hook, saved, lines):
    scans = [*not_to_be_acted_on(saved, lines).values()][:5]
    scans = [(path, np.asarray(data)) for path, data in [*scans, *scans[:4]]]
    shaped, warnings = survey(hook, scans)
    assert not shaped
    assert not warnings
    assert len(hook.seen) == 9


def test_there_is_a_greatest_number_of_actions(survey, hook, saved, lines):
    scans = [saved(lines["bad"])] * 9
    shaped = [survey(hook, scans)[0] for _ in range(hook.MOST_ACTIONS + 2)]
    assert shaped == [True] * hook.MOST_ACTIONS + [False] * 2
    assert "look at it" in hook.seen[-1]["message"]


def test_scanbots_own_classifier_goes_on_where_the_hook_ends(
    survey, hook, saved, lines, monkeypatch
):
    ours, calls = hook.run, []

    def breaks(*given):
        calls.append(given)
        if len(calls) > 2:
            raise RuntimeError("made up")
        return ours(*given)

    monkeypatch.setattr(hook, "run", breaks)
    scans = [saved(lines["good"]), ("nowhere.sxm", lines["bad"])]
    shaped, warnings = survey(hook, [*scans, *[saved(lines["bad"])] * 7])
    assert shaped  # five bad ones in a row, as Scanbot counts
    assert any("made up" in text or "failed" in text for text in warnings)
    assert len(calls) == 7


def test_a_watch_that_has_a_token_is_told_it(hook, watch, saved, lines, monkeypatch):
    from served import Served

    from stm_keras.web.guard import Guard

    path, data = saved(lines["good"])
    with Served(Guard(watch.app, 0, "sixteen-letters-or-more")) as guarded:
        monkeypatch.setattr(hook, "PORT", guarded.port)
        assert "403" in hook.run(data, path, [])["message"]
        monkeypatch.setattr(hook, "TOKEN", "sixteen-letters-or-more")
        assert hook.run(data, path, [])["verdict"] == "individual atoms"


def test_an_up_scan_is_judged_from_its_first_line_on(hook, saved, lines):
    both = np.concatenate([lines["good"][:64], lines["bad"][:64]])
    path, data = saved(both)
    record = hook.run(data, path, [])
    told = verdict_of(load_onnx(STEP), read_scan(path))
    assert record["verdict"] == told["verdict"]
    assert record["tipChanges"] == len(told["change_lines"])
    down = verdict_of(load_onnx(STEP), both, size=(10 * NM, 10 * NM))
    assert told["probabilities"] == pytest.approx(down["probabilities"], abs=1e-3)
    upside_down = verdict_of(load_onnx(STEP), both[::-1], size=(10 * NM, 10 * NM))
    assert told["probabilities"] != pytest.approx(upside_down["probabilities"], abs=1e-2)


def test_a_scan_that_was_stopped_is_of_no_use_to_scanbots_classifier(hook, saved, lines):
    path, data = saved(lines["good"])
    data[:40] = np.nan
    assert hook.run(data, path, [])["nan"] is True
    assert hook.run(saved(lines["good"])[1], path, [])["nan"] is False
