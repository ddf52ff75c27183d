"""What the scans before bring, measured on sessions that a model had not seen."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.benchmark_records import ScansBefore
from stm_keras.errors import MismatchError
from stm_keras.inference import evaluate_context
from stm_keras.inference.context import STRENGTH, Context
from stm_keras.inference.evaluate_context import (
    ALONE,
    GRID,
    JudgedSessions,
    choose_numbers,
    judge_sessions,
    score_context,
)
from stm_keras.inference.verdict import ScanVerdict
from stm_keras.records import check_record

pytestmark = ONCE  # no backend changes what is tested here

CLASSES = 3
STAYS = np.full((CLASSES, CLASSES), 0.1) + 0.7 * np.eye(CLASSES)
SURE = np.full((CLASSES, CLASSES), 0.05) + 0.85 * np.eye(CLASSES)


def sessions(scans=90, seed=0, told=0.1, **changes):
    """Scans whose class stays in blocks of six, in sessions of 18: first lines hardly tell it.

    `told` is how much surer of the true class the answer after one line is.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(scans // 6) % CLASSES, 6)
    first = rng.dirichlet(np.full(CLASSES, 4), scans) + told * np.eye(CLASSES)[labels]
    first /= first.sum(1, keepdims=True)
    before = np.arange(scans) - 1
    before[::18] = -1
    whole = SURE[labels]
    fields = {
        "labels": labels,
        "sessions": np.arange(scans) // 18,
        "before": before,
        "whole": whole,
        "by_lines": {1: first, ALONE: first, 64: whole},
        "changed": np.zeros(scans, bool),
        "transitions": STAYS,
    }
    return JudgedSessions(**{**fields, **changes})


def test_each_scan_is_expected_by_all_before_it_in_its_run():
    part, context = sessions(18), Context(STAYS)
    told = part.expected(context)
    assert np.isnan(told[0]).all()
    assert told[1] == pytest.approx(context.expect(None, part.whole[0]))
    assert told[2] == pytest.approx(context.expect(told[1], part.whole[1]))


def test_the_order_of_the_scans_in_memory_says_nothing():
    part, context = sessions(36), Context(STAYS)
    order = np.random.default_rng(1).permutation(36)
    place = np.append(np.argsort(order), -1)
    mixed = replace(
        part,
        whole=part.whole[order],
        changed=part.changed[order],
        before=place[part.before[order]],
    )
    assert np.allclose(
        mixed.expected(context), part.expected(context)[order], equal_nan=True
    )


def test_after_a_called_change_nothing_is_expected_of_the_next_scan():
    part = sessions(18, changed=np.arange(18) == 4)
    told = part.expected(context := Context(STAYS))
    assert np.flatnonzero(np.isnan(told[:, 0])).tolist() == [0, 5]
    assert told[6] == pytest.approx(context.expect(None, part.whole[5]))


def test_a_scan_that_was_not_judged_is_passed_over():
    part = sessions(18)
    part.whole[3] = np.nan
    told = part.expected(Context(STAYS))
    assert (told[4] == told[3]).all()


def test_scans_without_any_before_are_judged_alone():
    part = sessions(36)
    told = part.with_context(Context(STAYS, strength=1))
    same = (told[1] == part.by_lines[1]).all(1)
    assert np.flatnonzero(same).tolist() == [0, 18]
    assert (told[64] == part.by_lines[64]).all()  # after many lines all are


def test_what_was_before_is_believed_as_far_as_it_helps():
    part = sessions()
    others = np.random.default_rng(3).permutation(part.whole)  # which say nothing
    helps, misleads = choose_numbers([part]), choose_numbers([replace(part, whole=others)])
    assert helps["strength"] > 0.5 > misleads["strength"] == min(GRID["strength"])


def test_numbers_that_make_verdicts_too_sure_are_not_chosen(monkeypatch):
    def sureness(labels, shares):  # in the place of the calibration error
        return shares.max(1).mean()

    monkeypatch.setattr(evaluate_context, "expected_calibration_error", sureness)
    parts, found = [sessions(seed=seed) for seed in range(3)], []
    for most in (1.0, 0.55):
        monkeypatch.setattr(evaluate_context, "MOST_ERROR", most)
        context = Context(STAYS, **choose_numbers(parts))
        told = [each.with_context(context)[n] for each in parts for n in (1, ALONE)]
        found.append(sureness(None, np.concatenate(told)))
    assert found[1] <= 0.55 < found[0]


def test_gain_and_price_are_scored_side_by_side():
    told = score_context([sessions(seed=seed) for seed in (0, 1)])
    assert (told["scans"], told["before"], told["dropped"]) == (180, 170, 0)
    assert (told["chosen"], len(told["numbers"])) == (True, 2)
    first, _, last = told["lines"]
    assert (first["lines"], last["lines"]) == (1, 64)
    assert first["gain"]["auroc"][1] > 0.1
    assert first["context"]["auroc"][0] > first["alone"]["auroc"][0]
    assert first["changed"]["scans"] == 20
    assert first["same"]["scans"] == 150
    assert first["changed"]["gain"][0] < 0 < first["same"]["gain"][0]
    # in these sessions the lines alone tell no more after 8 than after 1
    assert told["early"] == [{"lines": 1, "gain": first["gain"]}]
    assert last["gain"]["auroc"] == [0, 0, 0]
    check_record(ScansBefore, {**told, "folds": [0, 1]}, "results.json")


def test_scans_of_several_classes_are_judged_but_not_scored():
    part = sessions(36)
    part.labels[[1, 5]] = -1
    told = score_context([part])
    assert (told["scans"], told["before"]) == (34, 32)
    assert told["lines"][0]["changed"]["scans"] == 3  # of 4, one followed such a scan
    assert told["chosen"] is False
    assert told["numbers"][0]["strength"] == STRENGTH


def test_numbers_are_chosen_on_the_other_folds(monkeypatch):
    parts, seen = [sessions(18, seed) for seed in range(3)], []
    chosen = {"frequency": 0.5, "strength": 0.5, "fade_lines": 32}
    monkeypatch.setattr(
        evaluate_context, "choose_numbers", lambda own: seen.append(own) or chosen
    )
    score_context(parts)
    assert [[id(each) for each in own] for own in seen] == [
        [id(parts[k]) for k in others] for others in ((1, 2), (0, 2), (0, 1))
    ]


class Model:
    """Answers the class that the first height of a scan is, and calls a change in a 9."""

    def by_lines(self, images, lines):
        return {n: np.eye(4)[images[:, 0, 0] % 4] for n in lines}


def verdicts(model, images, progress, states):
    return [
        ScanVerdict(
            tuple("abcd"),
            None if value == 8 else tuple(np.eye(4)[value % 4]),
            lines=128,
            unknown_surface=bool(value == 7),
            change_lines=(3,) if value == 9 else (),
        )
        for value in images[:, 0, 0]
    ]


def test_all_scans_of_the_test_sessions_are_judged(monkeypatch):
    monkeypatch.setattr(evaluate_context, "scan_verdicts", verdicts)
    heights = np.array([0, 1, 9, 3, 0, 8, 2, 7], "u1")
    dataset = made_up_dataset(
        8, images=np.tile(heights[:, None, None], (1, 128, 2)), run=np.ones(8), sessions=2
    )
    part = judge_sessions(Model(), dataset, np.array([4, 6]), np.eye(4))
    assert part.labels.tolist() == [0, -1, 2, -1]  # the scans 4 to 7
    assert part.before.tolist() == [-1, 0, 1, 2]
    assert np.isnan(part.whole[[1, 3]]).all()  # not judged, and of an unknown surface
    assert part.whole[2].tolist() == [0, 0, 1, 0]
    assert part.by_lines[1][3].tolist() == [0, 0, 0, 1]
    assert not part.changed.any()
    assert judge_sessions(Model(), dataset, np.array([0]), np.eye(4)).changed[2]


def test_without_runs_nothing_can_be_measured():
    with pytest.raises(MismatchError, match="Give `session` and `run` of each scan"):
        judge_sessions(Model(), made_up_dataset(8), np.array([4]), np.eye(4))
