"""Half the size, the same verdicts."""

import zipfile

import numpy as np
from streaming import rough_scans, tiny_stream

from stm_keras.export.variants import halve
from stm_keras.inference.find_model import read_metadata
from stm_keras.inference.model_file import load_predictor, save_model


def test_a_halved_file_says_the_same_in_half_the_bytes(tmp_path):
    predictor, path = tiny_stream(trees=3), tmp_path / "model.keras"
    model = predictor.model
    large = np.full(model.get_layer("trees").scale.shape, 1e5, "float32")
    model.get_layer("trees").set_trees({"scale": large, "feature": np.zeros(7 * 3 * 12)})
    save_model(model, path, predictor.metadata)
    whole, facts = load_predictor(path), read_metadata(path)
    halve(path)
    half = load_predictor(path)
    assert read_metadata(path) == facts
    for one, two in zip(whole.model.weights, half.model.weights, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(half.model.get_layer("trees").scale, large)
    scans = rough_scans(3, 24)
    ours, theirs = (each.after_every_line(scans) for each in (whole, half))
    assert 0 < np.abs(ours - theirs).max() < 0.01


def test_weights_take_half_the_bytes(tmp_path):
    predictor, path = tiny_stream(pixels=64), tmp_path / "model.keras"
    save_model(predictor.model, path, predictor.metadata)

    def size():
        with zipfile.ZipFile(path) as archive:
            return archive.getinfo("model.weights.h5").file_size

    before = size()
    halve(path)
    assert size() < before
