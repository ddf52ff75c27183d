"""The simulator as a microscope: what its tip does, how its scans look, and when."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.errors import UsageError
from stm_keras.live.events import DOWN, UP, Connected, Line, ScanBegan, ScanEnded, Tick
from stm_keras.live.simulated import ATOMS, GOOD, STORY, SimulatedSource, _states, _Surface
from stm_keras.simulate.tip import GENERIC

pytestmark = ONCE  # no backend changes what is tested here

PIXELS = 32


@pytest.fixture(scope="module")
def scans():
    """Six scans: (frame, truth, heights in the order of acquisition, rows)."""
    source = SimulatedSource(speed=0, scans=6, pixels=PIXELS)
    made = []
    for event in source.events():
        if isinstance(event, ScanBegan):
            made.append((event, source.truth[-1], [], []))
        if isinstance(event, Line):
            made[-1][2].append(event.heights)
            made[-1][3].append(event.row)
            last = event
        if isinstance(event, ScanEnded):
            assert event == ScanEnded("complete")
            assert last.number == PIXELS - 1
    assert len(source.truth) == 6
    return made


def test_the_tip_goes_on_from_scan_to_scan_and_is_told_to_tests_alone(scans):
    labels = [truth.line_labels for _, truth, _, _ in scans]
    assert [(each[0], each[-1]) for each in labels[:3]] == list(STORY)
    for before, after in zip(labels, labels[1:], strict=False):
        assert after[0] == before[-1] or before[-1] not in GOOD  # somebody pulsed it
    for began, truth, _, _ in scans:
        changes = np.flatnonzero(np.diff(truth.line_labels)) + 1
        assert changes.tolist() == (
            [] if truth.change_line is None else [truth.change_line]
        )
        assert truth.name == began.name
    assert 0.4 * PIXELS <= scans[0][1].change_line <= 0.6 * PIXELS


def test_frames_look_like_those_of_a_microscope(scans):
    slow = [began.frame.slow for began, *_ in scans]
    assert slow == [DOWN, UP] * 3
    for began, _, heights, rows in scans:
        frame = began.frame
        down = list(range(PIXELS))
        assert rows == (down if frame.slow == DOWN else down[::-1])
        assert (frame.lines, frame.pixels, frame.unit) == (PIXELS, PIXELS, "m")
        assert 3e-9 < frame.size[0] == frame.size[1] < 5e-9
        heights = np.array(heights)
        assert 1e-12 < np.diff(heights).std() < 1e-9
        assert abs(np.mean(heights)) > 1e-9  # far from 0
        slopes = np.polyfit(np.linspace(0, frame.size[0], PIXELS), heights.T, 1)[0]
        assert 1e-4 < abs(np.median(slopes)) < 0.1


def test_an_up_scan_is_the_same_from_below_and_a_change_leaves_time_to_see_both_tips():
    down, up = (_Surface(3, PIXELS, None) for _ in range(2))
    for _ in range(4):
        one, other = down.scan(0, ATOMS, GENERIC), up.scan(1, ATOMS, GENERIC)
        assert (one.frame.slow, other.frame.slow) == (DOWN, UP)
        np.testing.assert_array_equal(one.scan.heights, other.scan.heights[::-1])
        assert 0.4 * PIXELS <= one.truth.change_line <= 0.6 * PIXELS


def test_a_seed_names_its_scans():
    def heights(seed):
        events = SimulatedSource(speed=0, seed=seed, scans=1, pixels=PIXELS).events()
        return np.array([each.heights for each in events if isinstance(each, Line)])

    first = heights(0)
    np.testing.assert_array_equal(first, heights(None))
    assert not np.array_equal(first, heights(1))


def test_a_tip_is_good_most_of_the_time_and_always_comes_back():
    states = list(islice(_states(np.random.default_rng(0)), 2000))
    good = np.array([before in GOOD for before, _ in states])
    assert 0.6 < good.mean() < 0.9
    bad = np.diff(np.flatnonzero(good)).max()
    assert 2 < bad < 20
    assert any(after == GENERIC for before, after in states[3:] if before in GOOD)


def test_lines_are_paced_and_close_ends_it():
    now = [0.0]

    def wait(seconds):
        now[0] += seconds

    source = SimulatedSource(speed=20, pixels=PIXELS, clock=lambda: now[0], wait=wait)
    events = (each for each in source.events() if not isinstance(each, Tick))
    assert isinstance(next(events), Connected)
    assert next(events).frame.line_time == 0.05
    times = [now[0] for _ in islice(events, 5)]
    np.testing.assert_allclose(times, 0.05 * np.arange(1, 6))
    source.close()
    source.close()
    source.answer({})
    assert list(events) == []


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="`size` must be a whole number from 32 to 512"):
        SimulatedSource(pixels=16)
    with pytest.raises(UsageError, match="`speed`"):
        SimulatedSource(speed=-1)


def test_it_needs_no_keras():
    code = "import sys, stm_keras.live.simulated as s; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_shipped_model_sees_the_tip_change_in_the_first_scan():
    pytest.importorskip("onnxruntime")
    from stm_keras import OnnxPredictor, OnnxStream, shipped_path

    model = OnnxPredictor.load(shipped_path("h_si100").with_suffix(".onnx"))
    source = SimulatedSource(speed=0, scans=1)
    verdicts = []
    for event in source.events():
        if isinstance(event, ScanBegan):
            frame = event.frame
            stream = OnnxStream(model, frame.lines, frame.pixels, frame.size)
        if isinstance(event, Line):
            verdicts.append(stream.push(event.heights))
    change = source.truth[0].change_line
    assert verdicts[change - 1].verdict == "individual atoms"
    assert verdicts[-1].verdict == "generic defects"
    assert abs(verdicts[-1].change_line - change) <= 4
    assert next(each.line for each in verdicts if each.change) <= change + 10
