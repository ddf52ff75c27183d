"""Raters beside raters, and a model beside them: small made-up votes with known answers."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.errors import DatasetError
from stm_keras.evaluation.human import (
    RatedScans,
    compare_raters,
    deal_ticks,
    score_human,
)

pytestmark = ONCE  # no backend changes what is tested here

A, B, C = np.eye(3)
BOTH = (A + B) / 2  # of two raters one says A, the other B


def rated(votes, raters=2, session=None):
    raters = np.broadcast_to(raters, len(votes)).copy()
    session = np.arange(len(votes)) if session is None else np.array(session)
    return RatedScans(np.array(votes, float), raters, session)


def rows(scans):
    compared = compare_raters(scans)
    pairs = zip(compared.scan, compared.given, compared.said, compared.weight, strict=True)
    return sorted((int(s), int(g), int(t), round(float(w), 4)) for s, g, t, w in pairs)


def test_ticks_are_dealt_out_in_every_way_but_for_raters_without_any():
    ways = deal_ticks(2, [1, 2, 0])
    assert sorted(ways.astype(int).tolist()) == [
        [[0, 1, 0], [1, 1, 0]],
        [[1, 1, 0], [0, 1, 0]],
    ]
    assert len(deal_ticks(2, [1, 1])) == 2  # and not the two in which one rater ticks both
    assert deal_ticks(2, [0, 0]).shape == (1, 2, 2)  # there is no other way
    assert len(deal_ticks(8, [4] * 6)) == 0  # 70 ** 6 ways


def test_two_raters_are_each_compared_with_the_other():
    assert rows(rated([A, BOTH])) == [(0, 0, 0, 2), (1, 0, 1, 1), (1, 1, 0, 1)]


def test_who_ticks_more_than_one_class_or_rates_alone_is_not_compared():
    assert rows(rated([A + B, A, C], [2, 1, 2])) == [(2, 2, 2, 2)]


def test_readings_of_votes_count_alike():
    # A and B by one rater each, C by one: of six ways none leaves both with one class
    assert rows(rated([(A + B + C) / 2])) == []
    # asymmetries, dimers and rows by one each: both name one class in one way of three
    six = np.zeros((1, 6))
    six[0, [1, 2, 3]] = 0.5
    assert rows(rated(six)) == [(0, 1, 2, 0.3333), (0, 2, 1, 0.3333)]


def test_raters_who_tick_other_boxes_of_a_class_agree():
    six = np.zeros((1, 6))
    six[0, [1, 2]] = 0.5
    assert rows(rated(six)) == [(0, 1, 1, 2)]


def test_a_third_rater_is_compared_with_what_two_gave():
    # two say A, one says B: only to the latter do the others give a class
    assert rows(rated([(2 * A + B) / 3], 3)) == [(0, 0, 1, 1)]


def test_pairs_of_raters_are_scored_both_ways():
    scores = score_human(*both(rated([A, A, A, BOTH, B, C])))["pairs"]
    assert scores["n"] == scores["certain"] == 6
    assert scores["human"]["accuracy"][0] == pytest.approx(10 / 12)
    # A was said 7 times, and met with A in 6; B 3 times, and met with B in 2; C with C
    expected = np.mean([6 / 7, 2 / 3, 1])
    assert scores["human"]["balanced_accuracy"][0] == pytest.approx(expected)


def test_a_decided_rater_meets_classes_and_raters_as_common_as_in_the_test():
    votes = [A, A, A, BOTH, (2 * A + B) / 3, B, A, A, A]
    raters = [2, 2, 2, 2, 3, 3, 1, 1, 3]
    scores = score_human(*both(rated(votes, raters)))["mixed"]["human"]
    # A given by one other: met in 6 of 7; by two: in 3 of 4. Among the labels A is of one rater
    # twice, of several 5 times (the scan of two As and a B is one of these)
    recall = (2 * 6 / 7 + 5 * 3 / 4) / 7
    other = 1.0  # B is given by two others alone in what counts here, and met
    assert scores["accuracy"][0] == pytest.approx((7 * recall + other) / 8)
    assert scores["balanced_accuracy"][0] == pytest.approx((recall + other) / 2)


def test_a_model_is_scored_on_the_rows_of_the_raters_and_the_difference_has_its_sign():
    votes = [A, B, BOTH, BOTH] * 6
    scans = rated(votes, 2, np.repeat(np.arange(6), 4))
    better = np.tile([0, 1, 0, 1], 6)
    worse = np.tile([0, 0, 2, 2], 6)
    pairs = {
        name: score_human(*both(scans), answers, resamples=50)["pairs"]
        for name, answers in (("better", better), ("worse", worse))
    }
    assert pairs["better"]["human"]["accuracy"] == [0.5, 0.5, 0.5]
    # right on A and on B, and on half of each that they do not agree on
    assert pairs["better"]["model"]["accuracy"] == [0.75, 0.75, 0.75]
    assert pairs["better"]["difference"]["accuracy"] == [0.25, 0.25, 0.25]
    assert pairs["worse"]["difference"]["accuracy"] == [-0.25, -0.25, -0.25]


def test_scans_that_a_model_was_not_asked_about_count_for_nobody():
    scans = rated([A, B, BOTH, BOTH], 2, [0, 0, 1, 1])
    scores = score_human(*both(scans), np.array([0, 1, -1, -1]))["pairs"]
    assert scores["n"] == 2
    assert scores["human"]["accuracy"][0] == 1


def test_one_session_has_no_interval():
    scores = score_human(*both(rated([A, B, C], 2, [0, 0, 0])))
    assert scores["pairs"]["human"]["accuracy"] is None


def test_votes_that_are_no_shares_of_the_raters_or_of_one_each_are_refused():
    with pytest.raises(DatasetError, match="^1 scans have `votes` that are not shares"):
        rated([A, BOTH], [2, 3])
    with pytest.raises(DatasetError, match="No scan has two raters"):
        rated([A, B], 1)


def both(scans):
    return scans, compare_raters(scans)
