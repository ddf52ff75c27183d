"""One scan, one answer: from a file, line by line, and from each kind of predictor."""

import numpy as np
import pytest
from frames import FRAMES, frame, write
from scan_files import sxm

from stm_keras.data.resample import fit_heights, fit_scan_lines
from stm_keras.errors import MismatchError, UsageError
from stm_keras.inference.find_files import InputFile
from stm_keras.inference.find_model import shipped_path
from stm_keras.inference.judge import scan_verdicts, verdict_of
from stm_keras.inference.model_file import load_predictor
from stm_keras.inference.onnx_model import OnnxPredictor, OnnxStream
from stm_keras.inference.predict_files import predict_files
from stm_keras.inference.predictor import Predictor, unpack_outputs
from stm_keras.inference.stream import LineStream
from stm_keras.readers import read_scan


@pytest.fixture(scope="module")
def onnx():
    return OnnxPredictor.load(shipped_path("h_si100_small").with_suffix(".onnx"))


class Restless(Predictor):
    """Computes with numpy alone, and calls a tip change in many lines."""

    every_line = True
    metadata = {
        "classes": ["a", "b", "c"],
        "pixels": 128,
        "max_lines": 128,
        "input": "scaled",
        "temperature": {"lines": [1, 128], "values": [3.0, 1.0]},
        "unsure": {"lines": [1, 128], "thresholds": [0.4, 0.5]},
        "change": {"threshold": 0.9, "delay": 2, "refractory": 4},
    }

    def start_scan(self):
        return np.zeros(3)

    def step(self, line, cache):
        line = line[0, 0]
        cache = cache + [line[3], line[40], abs(line[70])]
        change = 9 * np.sin(40 * line[5])
        return {"state": cache[None], "change": np.array([[change]])}, cache

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        from stm_keras.data.preprocess import pack_lines, scale_lines

        packed, seen = pack_lines(images)
        state, change = np.zeros((*seen.shape, 3)), np.zeros((*seen.shape, 1))
        for number, lines in enumerate(scale_lines(packed)):
            cache = self.start_scan()
            for row, line in enumerate(lines):
                out, cache = self.step(line[None, None], cache)
                state[number, row], change[number, row] = out["state"], out["change"]
        return unpack_outputs({"state": state, "change": change}, seen)

    def live(self, **about):
        return LineStream(self, **about)


@pytest.mark.parametrize("lost", [(), (0, 1, 7, 8, 9, 20, 33)], ids=["whole", "lost lines"])
@pytest.mark.parametrize("name", FRAMES)
def test_the_last_live_verdict_is_that_of_the_scan(name, lost):
    model = Restless()
    heights, lines, pixels, size = frame(name, lost)
    stream = model.live(lines=lines, pixels=pixels, size=size)
    live = [stream.push(line) for line in heights]
    last = [verdict for verdict in live if verdict.verdict is not None][-1]
    fitted = fit_heights(heights, model.metadata, lines, size)
    (whole,) = scan_verdicts(model, fitted.heights[None], [size], [fitted.planned])
    np.testing.assert_allclose(last.probabilities, whole.probabilities, atol=1e-6)
    assert (last.verdict, last.unsure) == (whole.verdict, whole.unsure)
    changes = [int(fitted.bounds[line]) for line in whole.change_lines]
    assert [last.change_line] == (changes[-1:] or [None])
    told = [verdict.change_line for verdict in live if verdict.change]
    assert set(told) <= set(changes)
    if len(heights) > 30:
        assert told  # else it says little


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore:.*is higher than wide")
@pytest.mark.parametrize("slow", ["down", "up"])
@pytest.mark.parametrize("name", FRAMES)
def test_a_file_a_stream_and_an_exported_model_agree(tmp_path, onnx, name, slow):
    path = write(tmp_path / "scan.sxm", name, slow, lost=(5, 6))
    (judged,) = predict_files(onnx_scans(), [InputFile(path)], every_line=True)
    record, live = judged.record(), judged.line_verdicts
    _, lines, pixels, size = frame(name)
    recorded = read_scan(path).lines()  # rounded, as the file holds them
    stream = OnnxStream(onnx, lines=lines, pixels=pixels, size=size)
    pushed = [stream.push(line) for line in recorded]
    one = verdict_of(onnx, read_scan(path))
    assert record["lines"] == one["lines"]
    assert record["verdict"] == one["verdict"]
    if record["verdict"] == "not judged":  # three lines are fewer than the model needs
        assert live[-1].verdict is pushed[-1].verdict is None
        assert "lines that the model needs" in one["error"]
        return
    for last in (live[-1], pushed[-1]):
        assert last.name == record["class"] == one["class"]
        assert last.verdict == record["verdict"] == one["verdict"]
        shares = list(record["probabilities"].values())
        np.testing.assert_allclose(last.probabilities, shares, atol=2e-5)
        assert [last.change_line] == (record["change_lines"][-1:] or [None])
    np.testing.assert_allclose(list(one["probabilities"].values()), shares, atol=2e-6)
    assert record["change_lines"] == one["change_lines"]


def onnx_scans():
    return load_predictor(shipped_path("h_si100_small").with_suffix(".onnx"))


def test_a_lost_line_has_no_verdict_and_changes_nothing():
    heights, lost = frame("150x150")[0], np.zeros(150)
    one, two = Restless().live(lines=150), Restless().live(lines=150)
    verdict = one.push(lost)
    assert verdict.line == 0
    assert verdict.verdict is verdict.name is verdict.confidence is None
    assert verdict.probabilities is verdict.change is verdict.unsure is None
    for number, line in enumerate(heights):
        said, expected = one.push(line), two.push(line)
        assert (said.probabilities, said.verdict) == (
            expected.probabilities,
            expected.verdict,
        )
        if number % 3 == 0:
            flat = [lost, lost + 3.2, np.linspace(1, 5, 150)][number // 3 % 3]
            verdict = one.push(flat)
            assert verdict.verdict is verdict.probabilities is verdict.change is None


def test_a_stream_takes_a_scan_of_unknown_length_as_square():
    heights = frame("300x300")[0]
    known, unknown = Restless().live(lines=300), Restless().live()
    pairs = [(known.push(line), unknown.push(line)) for line in heights]
    for one, other in pairs[:-1]:
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-9)
    goes_on = [unknown.push(line) for line in heights]
    assert goes_on[-1].line == 599
    assert goes_on[-1].probabilities != pairs[-1][1].probabilities


def test_a_stream_follows_the_size_of_the_frame():
    heights = frame("4:1")[0]
    flat = Restless().live(lines=128, pixels=512, size=(40e-9, 10e-9))
    square = Restless().live(lines=128, pixels=512, size=(40e-9, 40e-9))
    for line in heights:
        a, b = flat.push(line), square.push(line)
    assert flat._taken == 32
    assert square._taken == 128
    assert a.probabilities != b.probabilities


@pytest.mark.parametrize("length", [2, 5, 16, 128, 511])
def test_the_first_line_with_a_signal_has_a_verdict(length):
    stream = Restless().live(lines=1024, pixels=length)
    line = np.random.default_rng(0).normal(size=length) if length > 2 else [0.0, 1.0]
    verdict = stream.push(line)
    assert (verdict.verdict is None) == (length == 2)  # two points are a straight line


def test_too_few_lines_are_not_judged():
    facts = {**Restless.metadata, "min_lines": 8}
    model = Restless()
    model.metadata = facts
    heights = frame("48x48")[0]
    stream = model.live(lines=48)
    said = [stream.push(line).verdict for line in heights]
    assert said[:2] == [None, None]  # 48 lines become 128
    assert None not in said[3:]
    short = verdict_of(model, np.vstack([heights[:2], np.zeros((46, 48))]))
    assert short["verdict"] == "not judged"
    assert short["class"] is short["probabilities"] is short["confidence"] is None
    assert short["lines"] == 2
    assert "4 of the 8 lines that the model needs" in short["error"]
    assert verdict_of(model, heights)["error"] is None


def test_a_size_that_was_not_trained_on_is_a_verdict(onnx):
    heights, lines, pixels, _ = frame("48x48")
    for size, verdict in (((8e-9, 8e-9), None), ((2e-7, 2e-7), "unknown size")):
        told = verdict_of(onnx, heights, size)
        stream = OnnxStream(onnx, lines, pixels, size)
        last = [stream.push(line) for line in heights][-1]
        assert told["unknown_size"] is last.unknown_size is bool(verdict)
        assert (told["verdict"] == "unknown size") == bool(verdict)
        assert last.verdict == told["verdict"]
        assert told["class"] == last.name  # stays what the network says
    assert verdict_of(onnx, heights)["unknown_size"] is None


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"lines": 0}, "`lines` must be a number of lines, or None. Received: lines=0"),
        (
            {"pixels": 2.5},
            "`pixels` must be a number of pixels, or None. Received: pixels=2.5",
        ),
        ({"pixels": True}, "`pixels` must be"),
        ({"size": 1e-8}, "`size` is the width and height"),
        (
            {"size": (1e-8, -1e-8)},
            r"two positive numbers. Received: size=\(1e-08, -1e-08\)",
        ),
        ({"size": (1e-8, np.nan)}, "two positive numbers"),
    ],
)
def test_what_is_no_frame_is_refused_and_the_stream_stays_as_it_was(about, message):
    with pytest.raises(UsageError, match=message):
        Restless().live(**about)
    stream = Restless().live(lines=48, pixels=48)
    first = stream.push(frame("48x48")[0][0])
    with pytest.raises(UsageError, match=message):
        stream.reset(**about)
    assert (stream.lines, stream.pixels, stream.size) == (48, 48, None)
    assert stream.push(frame("48x48")[0][1]).line == first.line + 1


def test_a_line_of_another_length_than_announced_is_refused():
    stream = Restless().live(pixels=48)
    with pytest.raises(
        MismatchError, match="Lines of 48 pixels were announced. Received: a"
    ):
        stream.push(np.arange(49.0) ** 2)


def test_a_complete_scan_is_resampled_as_ever():
    from stm_keras.data.preprocess import resample_scan

    for lines, pixels in ((48, 48), (150, 150), (512, 512), (64, 256)):
        heights = np.random.default_rng(0).normal(size=(lines, pixels))
        fitted = fit_heights(heights, Restless.metadata)
        expected = resample_scan(heights - np.median(heights), fitted.planned, 128)
        given = fitted.heights[: fitted.planned] * fitted.scale
        np.testing.assert_allclose(given, expected, atol=4e-6)
        assert not fitted.heights[fitted.planned :].any()


def test_bounds_are_lines_of_the_file(tmp_path):
    path = write(tmp_path / "scan.sxm", "300x300", lost=(0, 10, 11))
    fitted = fit_scan_lines(read_scan(path), Restless.metadata)
    assert fitted.bounds[0] == 1
    assert fitted.bounds[-1] == 300
    assert (np.diff(fitted.bounds) > 0).all()
    assert not {10, 11} & set(fitted.bounds.tolist())


@pytest.mark.filterwarnings(
    "ignore:.*(neither heights nor a tunnelling|there is no topography|hardly a frame)"
)
def test_what_a_file_is_refused_for_is_not_judged_as_a_scan_either(tmp_path, onnx):
    heights, path = frame("48x48")[0] * 1e-12, tmp_path / "scan.sxm"
    path.write_bytes(sxm({"Phase": ("deg", heights, None)}))
    (judged,) = predict_files(onnx, [InputFile(path)])
    told = verdict_of(onnx, read_scan(path))
    assert judged.outcome == told["verdict"] == "not judged"
    assert told["class"] is None
    assert "Phase forward down is in deg, neither heights nor" in told["error"]
    assert told["error"] in str(judged.error)
    (named,) = predict_files(onnx, [InputFile(path)], "Phase")
    assert named.outcome == verdict_of(onnx, read_scan(path, "Phase"))["verdict"]
    assert named.error is None
    path.write_bytes(sxm({"Z": ("m", heights[:9], None)}))
    told = verdict_of(onnx, read_scan(path))
    assert told["verdict"] == "not judged"
    assert told["error"] == "9 lines of 48 pixels are not the frame of a scan"
