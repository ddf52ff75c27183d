"""The page of `stm-keras label` in a browser: 200 pictures, every key, a program that ends."""

import numpy as np
import pytest
from labelling.test_labelling import write_scans
from web.browsing import BROWSER, chromium, opened, window
from web.watching import Serving, until

from stm_keras.data.label_records import read_records

pytest.importorskip("playwright")
pytest.importorskip("nicegui")
pytestmark = BROWSER
MOST_MS = 100  # from Enter to the next picture, in the median
COUNT = 200
SHOWN = "() => window.__stm?.shown.length"


@pytest.fixture(scope="module")
def started():
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(started):
    with window(started) as context:
        yield context


def start(folder, port=None):
    words = ("label", folder / "scans", "--rater", "Ada", "--classes", "sharp,blunt")
    return Serving(folder, *words, port=port)


def test_two_hundred_pictures_are_labelled_and_none_is_lost(browser, tmp_path):
    write_scans(tmp_path / "scans", COUNT, sessions=4)
    with start(tmp_path) as serving:
        page = opened(browser, serving.address, SHOWN)
        said = []
        for number in range(COUNT):
            key = "12"[number % 3 == 0]
            said.append({"1": "sharp", "2": "blunt"}[key])
            page.keyboard.press(key)
            page.keyboard.press("Enter")
            shown = f"() => window.__stm.shown.length === {number + 2}"
            page.wait_for_function(shown)
        times = page.evaluate(
            "() => window.__stm.shown.map((each) => each.at - each.asked)"
        )
    records, skipped = read_records(tmp_path / "labels")
    assert skipped == 0
    assert [record.marks for record in records] == [[mark] for mark in said]
    assert sum(record.again for record in records) == COUNT // 20
    assert np.median(times[1:]) <= MOST_MS


def test_keys_do_what_they_say(browser, tmp_path):
    write_scans(tmp_path / "scans", 4)
    with start(tmp_path) as serving:
        page = opened(browser, serving.address, SHOWN)
        page.keyboard.press("Enter")  # nothing is marked yet
        until(lambda: "Set a mark first" in page.inner_text(".error"))
        page.keyboard.press("1")
        page.keyboard.press("c")
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")  # says where another tip begins
        until(lambda: page.locator(".parts button").count() == 3)
        page.keyboard.press("2")
        page.keyboard.down("Enter")
        page.keyboard.down("Enter")  # held down: counts once
        page.keyboard.up("Enter")
        page.wait_for_function("() => window.__stm.shown.length === 2")
        page.keyboard.press("?")
        page.keyboard.press("Enter")
        page.wait_for_function("() => window.__stm.shown.length === 3")
        page.keyboard.press("Backspace")
        page.keyboard.press("Backspace")
        until(lambda: page.locator(".parts button").count() == 3)  # as it was said
        page.keyboard.press("Delete")
        page.keyboard.press("Enter")
        page.wait_for_function("() => window.__stm.shown.length === 6")  # a new one
        records = until(
            lambda: len(found := read_records(tmp_path / "labels")[0]) == 3 and found
        )
        first, second, corrected = records
        assert first.change_line == 2  # 10 up, as far as there are lines, and 1 down
        assert [part.marks for part in first.segments] == [["sharp"], ["blunt"]]
        assert (second.unsure, second.marks) == (True, [])
        assert corrected.scan == first.scan
        assert corrected.segments == []
        assert corrected.marks == ["sharp", "blunt"]
        page.keyboard.press("h")
        assert page.locator("dialog[open]").count() == 1
        page.keyboard.press("1")  # nothing is marked behind it
        page.keyboard.press("Escape")
        assert page.locator(".marks [aria-pressed=true]").count() == 0


def test_a_program_that_ended_is_said_and_what_was_not_saved_stays(browser, tmp_path):
    write_scans(tmp_path / "scans", 3)
    serving = start(tmp_path)
    page = opened(browser, serving.address, SHOWN)
    assert serving.end() == 0
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    until(lambda: "Not saved" in page.inner_text(".error"))
    assert page.locator(".marks [aria-pressed=true]").inner_text().split()[-1] == "blunt"
    with start(tmp_path, serving.port):
        page.wait_for_function(SHOWN)
        until(lambda: _saved(page, tmp_path))


def _saved(page, folder):
    page.keyboard.press("2") if not page.locator(
        ".marks [aria-pressed=true]"
    ).count() else None
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    return list((folder / "labels").glob("*.jsonl"))
