"""The scans before as context: a chain over scans, and a verdict of its own after few lines."""

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.inference.context import FEWEST_PAIRS, FREQUENCY, Context, fit_context

pytestmark = ONCE  # no backend changes what is tested here

STAYS = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.2, 0.2, 0.6]])
EVEN = np.full(3, 1 / 3)


def test_the_usual_shares_are_those_that_transitions_leave_as_they_are():
    usual = Context(STAYS).usual
    assert usual == pytest.approx([0.5, 0.3, 0.2])
    assert usual @ STAYS == pytest.approx(usual)


def test_the_weight_falls_with_the_logarithm_of_the_lines_to_nothing():
    context = Context(STAYS, strength=0.6, fade_lines=64)
    assert [context.weight(n) for n in (1, 8, 64, 128)] == pytest.approx([0.6, 0.3, 0, 0])


def test_what_is_expected_is_the_class_before_as_far_as_it_stays():
    context = Context(STAYS)
    sure = context.expect(None, np.array([0, 1, 0]))
    assert sure == pytest.approx(STAYS[1], abs=1e-4)
    assert context.expect(None, EVEN) == pytest.approx(context.usual)


def test_scans_of_one_class_make_the_chain_surer():
    context = Context(STAYS)
    sure = np.array([0.1, 0.8, 0.1])
    one = context.expect(None, sure)
    assert context.expect(one, sure)[1] > one[1]


def test_the_scans_before_decide_where_the_lines_say_nothing():
    context = Context(STAYS, frequency=1, strength=1, fade_lines=32)
    expected = np.array([0.2, 0.7, 0.1])
    told = context.combine(expected, EVEN, 1)
    assert told == pytest.approx(expected)
    assert 1 / 3 < context.combine(expected, EVEN, 4)[1] < told[1]
    assert context.combine(expected, EVEN, 32) == pytest.approx(EVEN)


def test_that_a_class_is_rare_counts_as_far_as_asked():
    context = Context(STAYS, frequency=0, strength=1)
    assert context.combine(context.usual, EVEN, 1) == pytest.approx(EVEN)
    context = Context(STAYS, frequency=1, strength=1)
    assert context.combine(context.usual, EVEN, 1) == pytest.approx(context.usual)


def test_many_scans_are_combined_as_each_alone():
    context = Context(STAYS)
    expected, alone = np.random.default_rng(0).dirichlet([1, 1, 1], (2, 5))
    told = context.combine(expected, alone, 3)
    assert told[2] == pytest.approx(context.combine(expected[2], alone[2], 3))
    assert told.sum(1) == pytest.approx(np.ones(5))


def test_a_class_that_was_ruled_out_before_can_come_back():
    context = Context(STAYS)
    expected = context.expect(None, np.array([1.0, 0, 0]))
    assert context.combine(expected, np.array([0.01, 0.01, 0.98]), 8).argmax() == 2


def test_a_model_file_without_context_has_none():
    assert Context.of({"classes": ["a", "b"]}) is None
    table = {"transitions": STAYS.tolist(), "frequency": 0.4, "strength": 1.1}
    context = Context.of({"context": {**table, "fade_lines": 40}})
    assert (context.frequency, context.strength, context.fade_lines) == (0.4, 1.1, 40)
    assert context.transitions.tolist() == STAYS.tolist()
    assert context.min_lines is None  # files from before say nothing of it
    context = Context.of({"context": {**table, "fade_lines": 40, "min_lines": 2}})
    assert context.min_lines == 2


def test_transitions_are_learnt_from_the_sessions_asked_for():
    count = 4 * FEWEST_PAIRS
    labels = np.repeat(np.arange(4), count // 4)  # 99 of 100 stay
    labels[: count // 4] = np.arange(count // 4) % 2  # of the first day none does
    days = np.repeat(list("abcd"), count // 4)
    dataset = made_up_dataset(
        count,
        labels=labels,
        voted=False,
        session=days,
        run=np.ones(count, int),
        name=None,
        images=np.ones((count, 128, 2), "u1"),
    )
    told = fit_context(dataset, np.array(["b", "c", "d"]))
    rows = np.array(told["transitions"])
    assert told["pairs"] == 3 * (FEWEST_PAIRS - 1)
    assert told["frequency"] == FREQUENCY
    assert rows.sum(1) == pytest.approx(np.ones(4), abs=1e-5)
    assert (rows > 0).all()
    assert rows[1, 1] > 0.9
    both = np.array(fit_context(dataset, np.array(["a", "b"]))["transitions"])
    assert both[1, 0] > 0.3


def test_few_scans_in_a_row_tell_nothing():
    count = FEWEST_PAIRS
    images = np.ones((count, 128, 2), "u1")
    dataset = made_up_dataset(count, sessions=1, images=images, run=np.ones(count))
    assert fit_context(dataset, np.array(["day 0"])) is None
    assert fit_context(made_up_dataset(8, images=images[:8]), np.array(["day 0"])) is None
