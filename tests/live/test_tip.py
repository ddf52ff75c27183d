"""The two verdicts after every line: on the scan, and on the tip of now."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE

from stm_keras import load_onnx, shipped_path, verdict_of
from stm_keras.inference.stream import LineStream
from stm_keras.live.events import Frame
from stm_keras.live.tip import TipStream, whole_line
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.generate import simulate

pytest.importorskip("onnxruntime")
pytestmark = ONCE

CUT = 60
FRAME = Frame(pixels=128, lines=128)


@pytest.fixture(scope="module")
def model():
    return load_onnx(shipped_path("h_si100_small").with_suffix(".onnx"))


@pytest.fixture(scope="module")
def scans():
    """Complete scans without a tip change: individual atoms, and generic defects."""
    found = simulate(64, 5, SimulationConfig(p_tip_change=0))
    good = (found.lines == 128) & (found.change_line < 0)
    return [found.images[np.flatnonzero(good & (found.labels == c))[0]] for c in (0, 3)]


@pytest.fixture(scope="module")
def splice(scans):
    return np.concatenate([scans[0][:CUT], scans[1][CUT:]]).astype(float)


def judge(model, lines, frame=FRAME):
    stream = TipStream(model)
    stream.begin(frame)
    return [stream.push(line) for line in lines]


def test_the_verdict_on_the_scan_is_that_of_a_line_stream(model, splice):
    plain = LineStream(model, lines=128, pixels=128)
    for told, line in zip(judge(model, splice), splice, strict=True):
        expected = plain.push(line)
        assert told.scan.verdict == expected.verdict
        assert told.scan.change_line == expected.change_line
        if expected.probabilities:
            np.testing.assert_allclose(
                told.scan.probabilities, expected.probabilities, atol=1e-6
            )


def test_the_tip_of_now_is_judged_by_the_lines_since_the_change_alone(model, splice):
    told = judge(model, splice)
    (called,) = [number for number, each in enumerate(told) if each.changed]
    change = told[called].scan.change_line
    assert abs(change - CUT) <= 4
    assert all(each.since_change is None for each in told[:called])
    plain = LineStream(model, lines=128 - change, pixels=128, min_lines=1)
    expected = [plain.push(line) for line in splice[change:]]
    for number in range(called, 128):
        since = told[number].since_change
        assert since.line == change
        np.testing.assert_allclose(
            since.probabilities, expected[number - change].probabilities, atol=1e-6
        )


def test_the_new_tip_is_named_long_before_the_scan_as_a_whole_is(model, splice):
    told = judge(model, splice)
    tip = [each.tip.name for each in told].index("generic defects")
    assert tip - CUT <= 10
    assert told[tip].scan.name == told[-1].scan.name == "individual atoms"


def test_a_change_says_how_probable_it_was(model, splice):
    (told,) = [each for each in judge(model, splice) if each.changed]
    assert told.change_probability > model.metadata["change"]["threshold"]


def test_the_last_live_verdict_is_that_of_the_file(model, splice):
    told = judge(model, splice)[-1].scan
    file = verdict_of(model, splice)
    assert told.verdict == file["verdict"]
    assert told.change_line == file["change_lines"][-1]
    shares = list(file["probabilities"].values())
    np.testing.assert_allclose(told.probabilities, shares, atol=1e-5)


@pytest.mark.parametrize(("lines", "pixels"), [(48, 48), (150, 150), (64, 256), (300, 128)])
def test_it_is_that_of_the_file_for_other_numbers_of_lines_and_pixels(
    model, lines, pixels, splice
):
    rng = np.random.default_rng(1)
    rows, columns = (np.arange(n) * 128 // n for n in (lines, pixels))
    scan = splice[np.ix_(rows, columns)] + rng.normal(0, 0.1, (lines, pixels))
    size = (20e-9, 20e-9 * lines / pixels)
    told = judge(model, scan, Frame(pixels=pixels, lines=lines, size=size))[-1].scan
    file = verdict_of(model, scan, size)
    assert told.verdict == file["verdict"]
    shares = list(file["probabilities"].values())
    np.testing.assert_allclose(told.probabilities, shares, atol=1e-5)


def test_neither_unit_nor_level_matter(model, splice):
    expected = judge(model, splice)
    metres = judge(model, splice * 1e-12 + 5e-6)  # 5 micrometres above zero
    for told, other in zip(expected, metres, strict=True):
        assert told.tip.verdict == other.tip.verdict
        if told.tip.probabilities:
            np.testing.assert_allclose(
                told.tip.probabilities, other.tip.probabilities, atol=1e-4
            )


def test_a_line_keeps_its_picometres_without_its_level():
    wave = 1e-13 * np.sin(np.arange(8))
    line = whole_line(5e-6 + wave).astype(np.float32)
    np.testing.assert_allclose(np.diff(line), np.diff(wave), atol=1e-15)


def test_a_line_of_even_steps_is_lost_as_in_the_file(model, splice):
    scan = splice * 1e-12 + 1.3e-7
    scan[30:33] = 1.3e-7 + np.arange(128) * 2 // 3 * 4e-13
    told = judge(model, scan)
    assert [each.lost for each in told[29:34]] == [False, True, True, True, False]
    shares = list(verdict_of(model, scan)["probabilities"].values())
    np.testing.assert_allclose(told[-1].scan.probabilities, shares, atol=1e-5)


def test_gaps_of_less_than_half_a_line_are_bridged_and_others_lose_it(model, splice):
    gaps = splice.copy()
    gaps[20, 40:50] = np.nan
    assert not judge(model, gaps)[20].lost
    gaps[20, :70] = np.nan
    told = judge(model, gaps)
    assert told[20].lost
    assert told[20].scan.verdict is None
    without = judge(model, np.delete(splice, 20, axis=0), Frame(pixels=128))
    np.testing.assert_allclose(  # a lost line changes nothing
        told[40].scan.probabilities, without[39].scan.probabilities, atol=1e-6
    )


def test_a_lost_line_after_a_change_has_no_verdict_on_the_tip_and_changes_nothing(
    model, splice
):
    lost = np.insert(splice, 90, np.nan, axis=0)
    told = judge(model, lost, Frame(pixels=128))
    assert told[90].lost
    assert told[90].since_change is None
    whole = judge(model, splice, Frame(pixels=128))
    np.testing.assert_allclose(
        told[91].tip.probabilities, whole[90].tip.probabilities, atol=1e-6
    )


def test_an_unknown_surface_stays_one_after_a_change(model, splice):
    shrunk = dict(model.metadata)
    shrunk["unknown"] = {"threshold": -1.0}  # nothing is known
    strange = replace(model, metadata=shrunk)
    told = judge(strange, splice)[-1]
    assert told.tip.verdict == "unknown surface"
    assert told.since_change.verdict == "unknown surface"


def test_a_scan_that_begins_knows_nothing_of_the_one_before(model, splice, scans):
    stream = TipStream(model)
    stream.begin(FRAME)
    for line in splice:
        stream.push(line)
    stream.begin(FRAME)
    again = [stream.push(line) for line in scans[0]]
    fresh = judge(model, scans[0])
    assert [each.record(model.classes) for each in again] == [
        each.record(model.classes) for each in fresh
    ]


def test_a_scan_may_go_on_for_ever_in_little_memory(model, scans):
    stream = TipStream(model)
    stream.begin(Frame(pixels=128))
    for number in range(600):
        told = stream.push(scans[0][number % 128])
    assert told.scan.line == 599
    assert len(stream._lines) == 512
