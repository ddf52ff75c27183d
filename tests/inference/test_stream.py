"""What a stream says and when, whoever computes the network: here a few lines of numpy."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.data.preprocess import (
    resample_pixels,
    resample_scan,
    scale_lines,
    standardise_lines,
)
from stm_keras.data.resample import LineResampler, fit_heights, lines_of
from stm_keras.errors import InputError, MismatchError, UsageError
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.stream import LineStream
from stm_keras.inference.verdict import (
    final_verdict,
    sigmoid,
    softmax,
    temperature,
    threshold,
    too_few,
)

pytestmark = ONCE  # no backend changes what is tested here

FACTS = {"classes": ["a", "b", "c"], "pixels": 8, "max_lines": 6, "input": "scaled"}


class Sums(Predictor):
    """Answers with the sums so far of three pixels, and two of the line."""

    every_line = True

    def __init__(self, metadata):
        self.metadata = metadata

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        raise NotImplementedError

    def start_scan(self):
        return np.zeros(8, np.float32)

    def step(self, line, cache):
        cache = cache + line[0, 0]
        return {
            "state": cache[None, :3],
            "change": line[0, :, 3:4],
            "unknown": cache[None, :1],
        }, cache


def stream(lines=None, size=None, **facts):
    return LineStream(Sums({**FACTS, **facts}), lines=lines, size=size)


def scan(lines=6, pixels=8, seed=0):
    return np.random.default_rng(seed).normal(size=(lines, pixels))


@pytest.mark.smoke
def test_lines_are_prepared_as_those_of_whole_scans():
    heights = scan()
    heights[2] = 0
    told = stream()
    for line, verdict in enumerate(map(told.push, heights)):
        assert verdict.line == line
        if line == 2:
            assert verdict.verdict is verdict.name is verdict.probabilities is None
            continue
        state = scale_lines(heights)[: line + 1].sum(0)[:3]
        np.testing.assert_allclose(verdict.probabilities, softmax(state), atol=1e-6)
        assert verdict.verdict == verdict.name == "abc"[int(state.argmax())]
        assert verdict.confidence == max(verdict.probabilities)
    told = stream(input="standardised")
    last = [told.push(line) for line in heights][-1]
    expected = softmax(standardise_lines(heights).sum(0)[:3])
    np.testing.assert_allclose(last.probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("pixels", [5, 12, 512])
def test_lines_of_any_length_are_resampled(pixels):
    heights = scan(pixels=pixels)
    one, two = stream(6, size=(8, 6)), stream(6)  # as many lines, whatever the pixels
    for line in heights:
        assert one.push(line) == two.push(resample_pixels(line, 8, "float64"))


def test_two_pixels_are_a_straight_line_and_tell_nothing():
    told = stream()
    assert {told.push(line).verdict for line in scan(pixels=2)} == {None}


def test_the_unit_does_not_matter():
    heights = scan()
    one, two = stream(), stream()
    for line in heights:
        np.testing.assert_allclose(
            one.push(line * 1e-12 + 3e-9).probabilities,
            two.push(line).probabilities,
            atol=1e-5,
        )


def test_a_stream_that_is_reset_has_forgotten():
    told, heights = stream(change={"threshold": 0.5}), scan(9)
    first = [told.push(line) for line in heights]
    told.reset()
    assert [told.push(line) for line in heights] == first


def test_finer_lines_are_filtered_as_a_whole_scan_and_judged_when_the_last_is_there():
    heights = scan(18)
    coarse = resample_scan(heights, 6, 8)
    fine, plain = stream(18, size=(8, 6)), stream()
    verdicts = [fine.push(line) for line in heights]
    expected = [plain.push(line) for line in coarse]
    assert [verdict.line for verdict in verdicts] == list(range(18))
    # a triangle of 3 lines to each side of line 1, 4, 7 ... ends with the third after it
    made = [3, 6, 9, 12, 15, 17]
    for start, end, verdict in zip(made, [*made[1:], 18], expected, strict=True):
        for held in verdicts[start:end]:
            np.testing.assert_allclose(held.probabilities, verdict.probabilities, atol=1e-6)
    alone = stream().push(heights[0])  # a first word comes with the first line
    assert verdicts[0].probabilities == alone.probabilities


def test_lines_may_be_read_into_the_same_place_one_after_the_other():
    heights, place = scan(18), np.empty(8)
    one, two = stream(18, size=(8, 6)), stream(18, size=(8, 6))
    for line in heights:
        place[:] = line
        assert one.push(place) == two.push(line.copy())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("order", "<>")
def test_lines_may_be_in_float16(order):
    told, plain = stream(), stream()
    for line in scan().astype(f"{order}f2"):
        verdict, expected = told.push(line), plain.push(line.astype(np.float64))
        np.testing.assert_allclose(verdict.probabilities, expected.probabilities, atol=1e-6)


@pytest.mark.parametrize("lost", [0.0, np.nan, 7.0])
def test_lost_lines_of_a_file_are_left_out_of_what_is_fitted(lost):
    heights = scan(6)
    heights[[0, 3]] = lost  # 7 throughout is a line without a signal, too
    fitted = fit_heights(heights, FACTS)
    kept = fit_heights(heights[[1, 2, 4, 5]], FACTS, 6)
    np.testing.assert_allclose(fitted.heights, kept.heights)
    assert fitted.bounds.tolist() == [1, 2, 4, 5, 6]


def test_lines_that_were_lost_do_not_count_beside_their_neighbours():
    heights = scan(12) + 50
    heights[[0, 3, 4, 11]] = 0
    one, two = stream(12, size=(8, 6)), stream(12, size=(8, 6))
    said = [one.push(line) for line in heights]
    kept = np.flatnonzero(heights.any(1))
    expected = [two.push(heights[line]) for line in kept]
    assert [each.probabilities for each in said if each.probabilities] == [
        each.probabilities for each in expected
    ]
    assert [each.line for each in said if each.verdict] == kept.tolist()


def test_the_first_line_of_a_scan_may_be_lost():
    lost, heights = np.zeros(8), scan()
    told, clean = stream(6), stream(6)
    first = told.push(lost)
    assert first.line == 0
    assert first.verdict is first.name is first.probabilities is first.change is None
    for number, line in enumerate(heights, 1):
        verdict, expected = told.push(line), clean.push(line)
        assert verdict.line == number
        assert verdict.probabilities == expected.probabilities


@pytest.mark.parametrize("lines", [None, 3, 6])
def test_lines_go_on_where_their_number_is_not_known(lines):
    told, plain = stream(lines), stream()
    verdicts = [told.push(line) for line in scan(10)]
    expected = [plain.push(line) for line in scan(10)]
    assert [verdict.line for verdict in verdicts] == list(range(10))
    for number, verdict in enumerate(verdicts):
        last = number if lines is None else min(number, lines - 1)
        assert verdict.probabilities == expected[last].probabilities
    assert len({verdict.probabilities for verdict in expected}) == 10


def test_without_thresholds_nothing_is_flagged():
    verdict = stream().push(scan()[0])
    assert (
        verdict.unsure is verdict.change is verdict.unknown is verdict.change_line is None
    )
    assert 0 < verdict.change_probability < 1
    assert 0 < verdict.unknown_probability < 1


def test_unsure_is_a_confidence_below_the_threshold_of_that_line():
    told = stream(unsure={"lines": [1, 2], "thresholds": [1.01, 0.0]})
    assert [told.push(line).unsure for line in scan(3)] == [True, False, False]
    assert stream(unsure={"threshold": 0.0}).push(scan()[0]).unsure is False


def test_unknown_is_a_probability_above_the_threshold():
    line = scan()[0]
    probability = stream().push(line).unknown_probability
    assert stream(unknown={"threshold": probability - 0.01}).push(line).unknown is True
    assert stream(unknown={"threshold": probability + 0.01}).push(line).unknown is False


def test_a_threshold_is_not_beyond_itself():
    line = scan()[0]
    said = stream().push(line)
    told = stream(unsure={"threshold": said.confidence}).push(line)
    assert told.unsure is False
    told = stream(unknown={"threshold": said.unknown_probability}).push(line)
    assert told.unknown is False


def test_as_many_lines_as_the_model_needs_are_enough():
    told = stream(min_lines=3)
    assert [told.push(line).verdict is None for line in scan(5)] == [True, True] + [
        False
    ] * 3
    assert [too_few(lines, {"min_lines": 3}) is None for lines in (0, 2, 3)] == [
        False,
        False,
        True,
    ]
    assert (
        too_few(2, {"min_lines": 3})
        == "2 of the 3 lines that the model needs were recorded"
    )


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        ((False, False, False), "dimers"),
        ((True, False, False), "unsure"),
        ((True, True, False), "unknown surface"),
        ((False, True, True), "unknown size"),
        ((True, True, True), "unknown size"),
        ((None, None, None), "dimers"),
    ],
)
def test_of_several_doubts_the_gravest_is_told(held, verdict):
    assert final_verdict("dimers", *held) == verdict
    assert final_verdict(None, *held) == "not judged"


def change_scan(lines, where):
    """Heights whose fourth pixel stands out in some lines, which `step` calls a change."""
    heights = np.tile([1.0, -1, 1, -1.2, 1, -1, 1, -1], (lines, 1))
    heights[where, 3] = 4
    return heights


@pytest.mark.smoke
def test_a_change_is_told_when_it_is_certain_with_its_line():
    told = stream(change={"threshold": 0.7, "delay": 2})
    verdicts = [told.push(line) for line in change_scan(12, [4])]
    assert [verdict.line for verdict in verdicts if verdict.change] == [6]
    assert [verdict.change_line for verdict in verdicts] == [None] * 6 + [4] * 6


def test_a_change_near_the_end_is_told_with_the_last_line_where_that_is_known():
    told = stream(6, change={"threshold": 0.7, "delay": 3})
    verdicts = [told.push(line) for line in change_scan(6, [4])]
    assert [verdict.change for verdict in verdicts] == [False] * 5 + [True]
    assert verdicts[-1].change_line == 4


def test_the_line_of_a_change_is_one_of_the_scan_not_of_the_model():
    told = stream(18, size=(8, 6), change={"threshold": 0.7, "delay": 1})
    verdicts = [told.push(line) for line in change_scan(18, [9, 10, 11])]
    assert verdicts[-1].change_line == 9
    assert [verdict.line for verdict in verdicts if verdict.change] == [15]


def test_where_lines_do_not_divide_a_change_begins_with_the_line_that_its_line_begins_in():
    """Lines 0 to 5 of the model are 1 2/3 lines of the scan each, from 0, 1.67, 3.33 ..."""
    begins = [0, 1, 3, 5, 6, 8]
    facts = {**FACTS, "change": {"threshold": 0.55, "delay": 0, "refractory": 0}}
    settings = facts["change"]
    for line, begin in list(enumerate(begins))[1:]:
        told = stream(10, size=(8, 6), change=settings)
        changes = {
            told.push(row).change_line for row in change_scan(10, [round(5 * line / 3)])
        }
        assert begin in changes, (line, changes)
    fitted = fit_heights(scan(10), facts, 10, (8, 6))
    assert fitted.bounds.tolist() == [*begins, 10]
    assert lines_of(fitted.bounds, tuple(range(7))) == (*begins, 10)


@pytest.mark.parametrize("lines", [7, 9, 10, 11, 13, 17])
def test_lines_that_do_not_divide_are_filtered_as_a_whole_scan(lines):
    heights = scan(lines)
    frame = LineResampler(FACTS, 8, lines, aspect=6 / lines)
    made = [row for line in heights for row in frame.push(line)]
    np.testing.assert_allclose(made, resample_scan(heights, 6, 8), atol=1e-6)


def test_a_line_between_lines_is_made_when_the_last_that_it_needs_is_there():
    told = stream(10, size=(8, 6))
    verdicts = [told.push(row).probabilities for row in scan(10)]
    new = [line for line in range(1, 10) if verdicts[line] != verdicts[line - 1]]
    # triangles end before lines 2, 3.67, 5.33, 7, 8.67, and the last with the scan
    assert new == [1, 3, 5, 6, 8, 9]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (np.zeros((2, 8)), MismatchError, r"shape \(pixels,\).*Received: shape \(2, 8\)"),
        (3.0, MismatchError, r"Received: shape \(\)"),
        ([1.0], MismatchError, r"at least 2 pixels. Received: shape \(1,\)"),
        ([0.0, np.nan], InputError, "NaN or infinity. Push 0"),
        ([0.0, np.inf, 1.0], InputError, "NaN or infinity"),
        ([0.0, 1e200], InputError, r"heights of up to 1\.0e\+200. Use another unit"),
        (["a", "b"], InputError, "real numbers. Received: <U1"),
        ([1j, 2], InputError, "real numbers. Received: complex128"),
    ],
)
def test_a_bad_line_is_refused_and_leaves_no_trace(line, error, message):
    told, clean, heights = stream(), stream(), scan()
    told.push(heights[0])
    clean.push(heights[0])
    with pytest.raises(error, match=message):
        told.push(line)
    assert told.push(heights[1]) == clean.push(heights[1])


@pytest.mark.parametrize("lines", [0, -1, 2.5, "many"])
def test_a_number_of_lines_that_is_none_is_refused(lines):
    with pytest.raises(UsageError, match=r"`lines` must be a number of lines, or None"):
        stream(lines)


def test_temperature_and_thresholds_lie_between_those_known():
    facts = {"temperature": {"lines": [1, 4], "values": [3.0, 1.0]}}
    np.testing.assert_allclose(temperature(facts, np.array([1, 2, 4, 9])), [3, 2, 1, 1])
    assert temperature({}, 5) == 1
    facts = {
        "unsure": {"lines": [1, 4], "thresholds": [0.2, 0.6]},
        "change": {"threshold": 0.3},
    }
    assert threshold(facts, "unsure", 2) == pytest.approx(0.4)
    assert threshold(facts, "change", 2) == 0.3
    assert threshold(facts, "unknown", 2) is None
    np.testing.assert_allclose(sigmoid([0.0, 1000.0, -1000.0]), [0.5, 1, 0])
    tempered = stream(temperature={"lines": [1], "values": [100.0]}).push(scan()[0])
    np.testing.assert_allclose(tempered.probabilities, 1 / 3, atol=0.02)
