import numpy as np
import pytest

from stm_keras.errors import MismatchError
from stm_keras.evaluation.calibration import (
    expected_calibration_error,
    fit_confidence,
    fit_temperature,
    reliability,
)
from stm_keras.inference.verdict import calibrated, softmax


def draw(scans, seed, temperature=1.0):
    """Labels that follow the softmax of the logits at a temperature."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(scans, 4))
    probabilities = softmax(logits, temperature)
    labels = (probabilities.cumsum(1) > random.random((scans, 1))).argmax(1)
    return labels, logits


def test_reliability_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.5, 0.5]])
    confidence, right, count = reliability([0, 1, 1, 0], probabilities, bins=4)
    np.testing.assert_array_equal(count, [0, 1, 1, 2])
    np.testing.assert_allclose(confidence, [np.nan, 0.5, 0.7, 0.85])
    np.testing.assert_allclose(right, [np.nan, 1, 1, 0.5])


@pytest.mark.smoke
def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.5, 0.5]])
    error = expected_calibration_error([0, 1, 1, 0], probabilities, bins=4)
    assert error == pytest.approx((0.5 + 0.3 + 2 * 0.35) / 4)


def test_calibration_error_is_the_average_of_the_diagram():
    labels, logits = draw(500, 0)
    probabilities = softmax(logits, 0.5)
    confidence, right, count = reliability(labels, probabilities, bins=7)
    expected = np.nansum(count * abs(confidence - right)) / 500
    assert expected_calibration_error(labels, probabilities, 7) == pytest.approx(expected)


def test_sure_and_always_right_is_calibrated():
    assert expected_calibration_error([0, 1, 2], np.eye(3)) == 0
    assert expected_calibration_error([1, 2, 0], np.eye(3)) == 1


def test_no_scans_give_nan():
    assert np.isnan(expected_calibration_error([], np.zeros((0, 3))))
    assert reliability([], np.zeros((0, 3)), 5)[2].sum() == 0


@pytest.mark.smoke
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    labels, logits = draw(4000, 1, temperature)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.06)


def test_temperature_gives_the_least_loss():
    labels, logits = draw(300, 2, 2.0)

    def loss(temperature):
        probabilities = softmax(logits, temperature)
        return -np.log(probabilities[np.arange(300), labels]).mean()

    best = fit_temperature(labels, logits)
    assert loss(best) < min(loss(best * 0.99), loss(best * 1.01))


def test_temperature_mends_the_calibration():
    labels, logits = draw(3000, 3, 2.5)
    before = expected_calibration_error(labels, softmax(logits, 1))
    mended = softmax(logits, fit_temperature(labels, logits))
    assert expected_calibration_error(labels, mended) < before / 4


def test_temperature_is_1_when_labels_tell_nothing():
    assert fit_temperature([0, 1, 2], 9 * np.eye(3)) == 1
    assert fit_temperature([0, 1, 2], np.zeros((3, 3))) == 1


def test_temperature_is_bounded():
    labels = np.array([0, 1, 2, 0])
    against = -5 * np.eye(3)[labels]
    assert fit_temperature(labels, against) == 20
    labels, logits = draw(400, 4)
    assert fit_temperature(labels, logits / 1000) == 0.05


def test_huge_logits_do_not_overflow():
    labels, logits = draw(50, 5)
    assert 0.05 <= fit_temperature(labels, logits * 1e6) <= 20
    assert np.isfinite(softmax(logits * 1e6, 0.05)).all()


def test_a_temperature_keeps_the_verdict_and_the_shape():
    logits = np.random.default_rng(0).normal(size=(2, 5, 3))
    probabilities = softmax(logits, 4)
    assert probabilities.shape == (2, 5, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1)
    np.testing.assert_array_equal(probabilities.argmax(-1), logits.argmax(-1))


def test_messages():
    with pytest.raises(MismatchError, match="Received: -3 to 5. Take the softmax"):
        expected_calibration_error([0, 1], np.array([[5.0, 1], [0, -3]]))
    with pytest.raises(MismatchError, match="not a number for 1 of 2 scans"):
        reliability([0, 1], np.array([[np.nan, 1], [0, 1]]))
    with pytest.raises(MismatchError, match="`labels` are empty"):
        fit_temperature([], np.zeros((0, 3)))


def two_faced(count=4000, seed=0):
    """Make up verdicts too sure where they are sure and too modest where they are not."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.3, 0.99, count)
    told = 1 / (1 + np.exp(-1.8 * np.log(true / (1 - true)) + 0.3))
    told = np.clip(told, 0.26, 0.999)
    labels = np.where(rng.random(count) < true, 0, rng.integers(1, 4, count))
    shares = np.repeat((1 - told)[:, None] / 3, 4, axis=1)
    shares[:, 0] = told
    return labels, shares


@pytest.mark.smoke
def test_confidence_is_bent_to_what_was_right():
    labels, shares = two_faced()
    slope, shift = fit_confidence(labels, shares)
    assert slope == pytest.approx(1 / 1.8, abs=0.1)
    facts = {"confidence": {"lines": [1], "slopes": [slope], "shifts": [shift]}}
    fresh, told = two_faced(seed=1)
    before = expected_calibration_error(fresh, told)
    bent = calibrated(np.log(told), facts, 1)
    assert expected_calibration_error(fresh, bent) < 0.02 < 0.05 < before
    np.testing.assert_allclose(bent.sum(1), 1)


def test_without_errors_or_scans_confidence_stays_as_it_is():
    assert fit_confidence(np.zeros(0, int), np.zeros((0, 4))) == (1.0, 0.0)
    shares = np.full((50, 4), 0.01)
    shares[:, 2] = 0.97
    slope, shift = fit_confidence(np.full(50, 2), shares)
    assert 0 < shift < 5
    assert slope > 0


def test_where_nothing_was_wrong_the_confidence_is_drawn_towards_itself():
    shares = np.full((50, 4), 0.01)
    shares[:, 2] = 0.97
    slope, shift = fit_confidence(np.full(50, 2), shares)
    logit = np.log(0.97 / 0.03)
    missed = 1 / (1 + np.exp(slope * logit + shift))
    # at the least loss each scan pulls as hard as the prior of 0.002 nats, squared
    assert missed == pytest.approx(2 * 0.002 * shift, rel=0.05)
    assert slope - 1 == pytest.approx(logit * shift, rel=0.05)
    assert 0.97 < 1 - missed < 0.9995, "50 scans do not show that it is always right"


def test_the_likeliest_class_stays_the_likeliest():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(7, 11, 4)) * 3
    for slope, shift in ((0.2, -3), (5, -3), (1, 0), (0.5, 4)):
        facts = {
            "temperature": {"lines": [1, 11], "values": [1.5, 1.0]},
            "confidence": {"lines": [1], "slopes": [slope], "shifts": [shift]},
        }
        shares = calibrated(logits, facts, np.arange(1, 12))
        kept = shares.astype("f4").argmax(-1)  # as predictions are stored
        assert (kept == logits.argmax(-1)).all()
        np.testing.assert_allclose(shares.sum(-1), 1)
        assert shares.min() >= 0
    np.testing.assert_allclose(calibrated(logits[:, 0], {}, 1)[2], softmax(logits[2, 0]))
