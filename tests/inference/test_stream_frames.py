"""One scan, one answer by Keras as well, whatever the frame of the scan."""

import numpy as np
import pytest
from frames import frame

from stm_keras.data.resample import fit_heights
from stm_keras.inference.model_file import load_predictor
from stm_keras.inference.shipped import shipped_path
from stm_keras.inference.stream import LineStream
from stm_keras.runtime.judge import scan_verdicts
from stm_keras.runtime.onnx_model import OnnxPredictor


@pytest.fixture(scope="module")
def keras_stream():
    return LineStream(load_predictor(shipped_path("h_si100_small")))


def test_keras_says_the_same_and_one_stream_serves_scans_of_any_size(keras_stream):
    keras = load_predictor(shipped_path("h_si100_small"))
    onnx = OnnxPredictor.load(shipped_path("h_si100_small").with_suffix(".onnx"))
    step = keras_stream._step
    for name in ("48x48", "4:1", "tall", "300x300, aborted after 101 lines"):
        heights, lines, pixels, size = frame(name, lost=(3, 4))
        keras_stream.reset(lines=lines, pixels=pixels, size=size)
        last = [keras_stream.push(line) for line in heights][-1]
        fitted = fit_heights(heights, onnx.facts, lines, size)
        images = fitted.heights[None]
        for model, close in ((keras, 5e-5), (onnx, 2e-3)):  # the file is of half precision
            (verdict,) = scan_verdicts(model, images, [size], [fitted.planned])
            assert verdict.verdict == last.verdict
            expected = last.probabilities
            np.testing.assert_allclose(verdict.probabilities, expected, atol=close)
            found = model.probabilities(images)[0]  # calibrated as a scan of its lines
            np.testing.assert_allclose(found, expected, atol=close)
    assert keras_stream._step is step  # nothing was compiled anew
