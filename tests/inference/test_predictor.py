"""Scans in, probabilities out, whatever the batch and the number of lines."""

import keras
import numpy as np
import pytest
from helpers import lattice_scans

from stm_keras.errors import MismatchError
from stm_keras.inference import keras_predictor as subject
from stm_keras.inference.keras_predictor import KerasPredictor, predict_logits
from stm_keras.inference.verdict import softmax, temperature
from stm_keras.models import sequential, vit

FACTS = {"classes": ["a", "b", "c"], "pixels": 16, "max_lines": 8}


@pytest.fixture(scope="module")
def tiny():
    """Predictor of a tiny untrained ViT with three classes."""
    model = vit(3, pixels=16, max_lines=8, layers=1, heads=2, dim=8, mlp_dim=12)
    return KerasPredictor(model, FACTS)


@pytest.fixture
def scans():
    return lattice_scans(np.arange(7) % 4, lines=8, pixels=16)


def test_probabilities_are_positive_and_sum_to_one(tiny, scans):
    found = tiny.probabilities(scans)
    assert found.shape == (7, 3)
    assert found.dtype == np.float64
    assert (found > 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)


def test_softmax_survives_large_logits_and_knows_temperature():
    np.testing.assert_allclose(softmax([[1000.0, 0.0]]), [[1, 0]])
    np.testing.assert_allclose(softmax([2.0, 0.0], 2.0), softmax([1.0, 0.0]))


def test_neither_batch_size_nor_chunk_changes_the_answer(tiny, scans, monkeypatch):
    whole = tiny.logits(scans)
    np.testing.assert_allclose(tiny.logits(scans, batch_size=3), whole, atol=1e-5)
    monkeypatch.setattr(subject, "CHUNK", 2)
    np.testing.assert_allclose(tiny.logits(scans), whole, atol=1e-5)


def test_only_what_is_compiled_gets_whole_batches(tiny, scans, monkeypatch):
    given, predict = [], subject.predict

    def note(model, inputs, batch_size):
        given.append(len(inputs))
        return predict(model, inputs, batch_size)

    monkeypatch.setattr(subject, "predict", note)
    tiny.logits(scans, batch_size=3)
    assert given == [7 if keras.config.backend() == "torch" else 9]


def test_lines_that_are_not_seen_do_not_matter(tiny, scans):
    begun = tiny.logits(scans, lines=3)
    np.testing.assert_allclose(tiny.logits(scans[:, :3]), begun, atol=1e-5)
    zeroed = np.where(np.arange(8)[:, None] < 3, scans, 0)
    np.testing.assert_allclose(tiny.logits(zeroed), begun, atol=1e-5)


def test_unit_offset_and_slope_of_heights_do_not_matter(tiny, scans):
    ramp = np.linspace(0, 5, 16)
    heights = (scans * 1e-12 + 3e-9 + ramp * 1e-12).astype("float64")
    np.testing.assert_allclose(tiny.logits(heights), tiny.logits(scans), atol=1e-4)


def test_indices_choose_and_order_scans(tiny, scans):
    chosen = predict_logits(tiny.model, scans, indices=np.array([5, 0, 5]))
    np.testing.assert_allclose(chosen, tiny.logits(scans)[[5, 0, 5]], atol=1e-5)


def test_no_scan_gives_no_logits(tiny, scans):
    assert tiny.logits(scans[:0]).shape == (0, 3)


def test_progress_counts_scans(tiny, scans, monkeypatch):
    monkeypatch.setattr(subject, "CHUNK", 4)
    told = []
    tiny.logits(scans, progress=lambda *counts: told.append(counts))
    assert told == [(4, 7), (7, 7)]


def test_scans_of_another_size_are_refused(tiny):
    with pytest.raises(
        MismatchError, match=r"^the model judges lines of 16 pixels.*8 lines x 9"
    ):
        tiny.logits(np.zeros((2, 8, 9)))
    with pytest.raises(
        MismatchError, match=r"^a\.h5: the model judges up to 8 lines.*9 lines"
    ):
        tiny.check_scans((2, 9, 16), "a.h5")


def test_other_classes_are_refused(tiny):
    tiny.check_classes(("a", "b", "c"))
    with pytest.raises(
        MismatchError, match="knows a, b, c. Received: scans labelled b, a, c"
    ):
        tiny.check_classes(("b", "a", "c"))


@pytest.fixture(scope="module")
def live():
    """Predictor of a tiny untrained network that answers after every line."""
    facts = {**FACTS, "input": "scaled", "temperature": {"lines": [1, 8], "values": [4, 1]}}
    return KerasPredictor(sequential(3, 16, 8, width=2, units=4), facts)


def test_every_line_is_answered_in_one_pass(live, scans):
    state, heads = live.after_every_line(scans), live.heads(scans)
    assert state.shape == (7, 8, 3)
    assert list(heads) == ["change", "unknown"]
    for values in heads.values():
        assert values.shape == (7, 8)
        assert ((values > 0) & (values < 1)).all()
    np.testing.assert_allclose(state.sum(2), 1, atol=1e-6)
    by_lines = live.by_lines(scans, [1, 3, 8])
    for lines, probabilities in by_lines.items():
        np.testing.assert_allclose(
            probabilities, live.probabilities(scans, lines), atol=1e-5
        )


def test_the_temperature_is_that_of_the_lines_seen(live, scans):
    assert temperature(live.metadata, np.array([1, 8, 100])).tolist() == [4, 1, 1]
    assert 1 < temperature(live.metadata, 3) < 4
    logits = live.logits(scans, lines=1)
    np.testing.assert_allclose(live.probabilities(scans, 1), softmax(logits, 4), atol=1e-6)


def test_the_last_word_is_that_after_the_last_recorded_line(live, scans):
    begun = np.where(np.arange(8)[:, None] < 3, scans, 0)
    np.testing.assert_allclose(live.logits(begun), live.logits(scans, lines=3), atol=1e-5)


def test_a_model_of_whole_scans_says_nothing_after_every_line(tiny, scans):
    with pytest.raises(MismatchError, match="judges whole scans, not every line"):
        tiny.after_every_line(scans)
