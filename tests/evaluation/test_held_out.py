import numpy as np
import pytest

from stm_keras.evaluation.calibration import min_lines, with_min_lines
from stm_keras.evaluation.held_out import Compared, score_compared, share_below


def compared():
    return Compared(
        below=np.array([[1.0, 0.5, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]]),
        known=np.array([30, 10]),
        alarms=np.array([0.0, 0.4]),
        found=np.array([1.0, 0.0, 0.0, 0.5]),
        source=np.array(["one", "many", "many", "many"]),
        kind=np.array(["hills", "hills", "steps", "steps"]),
    )


def test_ties_count_half():
    told = share_below(np.array([1.0, 2, 2, 3]), np.array([0.0, 2, 4]))
    assert told.tolist() == [0, 0.5, 1]


def test_each_source_weighs_alike_and_each_known_scan_too():
    told = score_compared(compared(), resamples=200)
    many = (30 * 0.5 + 10 * 0) / 40
    assert told["auroc"] == pytest.approx((1 + many) / 2)
    assert told["found"] == pytest.approx((1 + 1 / 6) / 2)
    assert told["false_alarms"] == pytest.approx(0.1)
    assert told["by_source"]["many"] == {
        "scans": 3,
        "sources": 1,
        "auroc": pytest.approx(many),
        "found": pytest.approx(1 / 6),
    }
    assert told["by_kind"]["hills"]["auroc"] == pytest.approx((1 + many) / 2)
    assert (told["scans"], told["sources"], told["sessions"]) == (4, 2, 2)
    low, high = told["intervals"]["found"]
    assert (low, high) == (pytest.approx(1 / 6), 1)  # of two sources one alone may be drawn


def test_a_source_alone_has_no_interval_of_its_scans():
    whole = compared()
    one = Compared(whole.below[:, 1:], whole.known, whole.alarms, whole.found[1:],
                   whole.source[1:], whole.kind[1:])  # fmt: skip
    low, high = score_compared(one)["intervals"]["found"]
    assert low == high


def states(*lows):
    rows = zip((1, 2, 4, 8, 16, 20), lows, strict=False)
    return [
        {
            "lines": lines,
            "balanced_accuracy": low + 0.1,
            "intervals": {"balanced_accuracy": [low, low + 0.2]},
        }
        for lines, low in rows
    ]


def surfaces(**shares):
    return {
        key[1:]: {"found": value, "intervals": {"found": [low, 1.0]}}
        for key, (value, low) in shares.items()
    }


def test_a_verdict_is_given_from_the_fewest_lines_that_tell_more_than_chance():
    found = min_lines(states(0.2, 0.25, 0.3, 0.4), 4)
    assert found["min_lines"] == 4
    assert found["min_lines_measured"]["1"] == {
        "balanced_accuracy": 0.3,
        "interval": [0.2, 0.4],
    }
    assert min_lines(states(0.3), 4)["min_lines"] == 1
    assert (
        min_lines(states(*[0.1] * 6), 4)["min_lines"] == 16
    )  # never more: 20 is not asked
    assert min_lines([], 4) == {}


def test_other_surfaces_must_be_told_as_well():
    good = states(*[0.4] * 5)
    told = surfaces(n1=(0.4, 0.3), n2=(0.5, 0.4), n4=(0.51, 0.4), n8=(0.9, 0.9))
    assert min_lines(good, 4, told)["min_lines"] == 4
    facts = {"classes": list("abcd"), "unknown": {"measured": told}}
    first = with_min_lines(facts, good)
    assert first["min_lines"] == 4
    later = {**first, "unknown": {"measured": surfaces(n1=(0.8, 0.7))}}
    assert with_min_lines(later)["min_lines"] == 1  # from what was measured before
