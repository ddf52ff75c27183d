"""When an alarm is raised and when it is cleared."""

import pytest
from helpers import ONCE

from stm_keras.errors import UsageError
from stm_keras.live.alarms import Alarms

pytestmark = ONCE
CLASSES = ("fine", "poor", "worse")


def line(number, poor, verdict=None, since=None, **changed):
    """Make up the record of a line: `poor` is the probability of that class."""
    name = "poor" if poor > 0.5 else "fine"
    shares = {"fine": 1 - poor, "poor": poor, "worse": 0.0}
    now = {"verdict": verdict or name, "class": name, "probabilities": shares}
    if since is not None:
        changed["change_line"] = since
        changed["since_change"] = {"line": since, **now}
        now = {"verdict": "fine", "class": "fine", "probabilities": {"fine": 1.0}}
    record = {"event": "line", "scan": 1, "line": number, "direction": "forward", **now}
    return {"change_line": None, "since_change": None, "lost": False, **record, **changed}


def scan(number=1, **fields):
    return {"event": "scan", "id": number, **fields}


def told(alarms, records):
    """Push records and return rule, and line or scan, of what was told."""
    found = [each for record in records for each in alarms.push(record)]
    return [(event, fields.get("rule"), fields.get("line")) for event, fields in found]


def bad_tip(**settings):
    return Alarms(bad=["poor"], **settings)


def lines(*probabilities, **changed):
    return [line(number, poor, **changed) for number, poor in enumerate(probabilities)]


@pytest.mark.smoke
def test_a_bad_tip_is_told_after_lines_in_a_row_and_cleared_when_it_is_good():
    alarms = bad_tip()
    alarms.push(scan(7))
    assert told(alarms, lines(0.9, 0.9, 0.5, 0.7, 0.7)) == []
    ((event, fields),) = alarms.push(line(5, 0.75))
    assert event == "alarm"
    assert fields == {"rule": "bad tip", "class": "poor", "p": 0.75, "scan": 7, "line": 5}
    assert told(alarms, lines(0.9, 0.41, 0.4, 0.9, 0.9, 0.9)) == []  # still the same turn
    ((event, fields),) = alarms.push(line(12, 0.25))
    assert event == "clear"
    assert fields == {"rule": "bad tip", "class": "fine", "p": 0.75, "scan": 7, "line": 12}
    assert told(alarms, lines(0.1, 0.9)) == []


def test_probabilities_of_bad_classes_add_up_and_the_likeliest_is_named():
    alarms = Alarms(bad=["worse", "poor"], lines=1)
    record = line(0, 0.5)
    record |= {"verdict": "worse", "class": "worse"}
    record["probabilities"] = {"fine": 0.25, "poor": 0.25, "worse": 0.5}
    ((_, fields),) = alarms.push(record)
    assert (fields["class"], fields["p"]) == ("worse", 0.75)


def test_settings_decide():
    assert told(bad_tip(lines=1), lines(0.7)) == [("alarm", "bad tip", 0)]
    assert told(bad_tip(lines=1, alarm_at=0.8), lines(0.79)) == []
    alarms = bad_tip(lines=1, release_at=0.2)
    assert told(alarms, lines(0.9, 0.3, 0.1)) == [
        ("alarm", "bad tip", 0),
        ("clear", "bad tip", 2),
    ]
    assert told(Alarms(bad=()), lines(1, 1, 1, 1)) == []


def test_the_tip_of_now_decides_not_the_scan():
    alarms = bad_tip()
    records = [line(number, 0.9, since=20) for number in range(22, 26)]
    assert told(alarms, records) == [("alarm", "tip change", 20), ("alarm", "bad tip", 24)]


@pytest.mark.parametrize("verdict", ["unsure", "unknown size", "not judged"])
def test_a_verdict_that_is_not_a_class_raises_no_bad_tip_and_clears_none(verdict):
    alarms = bad_tip()
    unclear = lines(*[0.9] * 5, verdict=verdict)
    assert told(alarms, [*lines(0.9, 0.9), *unclear, *lines(0.9, 0.9)]) == []
    assert told(alarms, lines(0.9)) == [("alarm", "bad tip", 0)]
    assert told(alarms, lines(0.1, 0.1, verdict=verdict)) == []
    assert told(alarms, lines(0.1)) == [("clear", "bad tip", 0)]


@pytest.mark.parametrize(
    "record",
    [
        line(1, 1.0, lost=True),
        line(1, 0.0, lost=True),
        line(1, 0.0, verdict=None)
        | {"verdict": None, "class": None, "probabilities": None},
        line(1, 0.0, direction="backward"),
        {"event": "note", "text": "a"},
    ],
)
def test_a_line_without_an_answer_neither_raises_nor_breaks_a_row(record):
    alarms = bad_tip()
    assert told(alarms, [*lines(0.9, 0.9), *[record] * 5]) == []
    assert told(alarms, lines(0.9, 0.9)) == [("alarm", "bad tip", 0)]
    assert told(alarms, [record] * 5) == []


def test_in_a_scan_there_is_one_alarm_of_a_rule_at_most():
    alarms = bad_tip(lines=1)
    assert told(alarms, [scan(1), *lines(0.9, 0.1, 0.9, 0.1, 0.9)]) == [
        ("alarm", "bad tip", 0),
        ("clear", "bad tip", 1),
    ]
    assert told(alarms, [scan(2), *lines(0.9, 0.1)]) == [
        ("alarm", "bad tip", 0),
        ("clear", "bad tip", 1),
    ]


def test_a_bad_tip_stays_bad_in_the_next_scan_but_lines_in_a_row_are_of_one():
    alarms = bad_tip()
    assert told(alarms, [scan(1), *lines(0.9, 0.9, 0.9)]) == [("alarm", "bad tip", 2)]
    assert told(alarms, [{"event": "end"}, scan(2), *lines(0.9, 0.9, 0.9, 0.9)]) == []
    assert told(alarms, [scan(3), *lines(0.1)]) == [("clear", "bad tip", 0)]
    assert told(alarms, [*lines(0.9, 0.9), scan(4), *lines(0.9, 0.9)]) == []


def test_each_new_change_line_is_told_once_and_one_in_a_scan():
    alarms = bad_tip()
    first = [line(number, 0.1, since=12) for number in range(15, 20)]
    second = [line(number, 0.1, since=40) for number in range(45, 50)]
    assert told(alarms, [scan(1), *first, *second]) == [("alarm", "tip change", 12)]
    assert told(alarms, [scan(2), *second]) == [("alarm", "tip change", 40)]
    lost = line(15, 0.1, since=12) | {"lost": True, "verdict": None, "probabilities": None}
    assert told(alarms, [scan(3), lost]) == [("alarm", "tip change", 12)]


def test_an_unknown_surface_is_told_and_cleared_after_lines_in_a_row():
    alarms, odd = bad_tip(), {"verdict": "unknown surface"}
    assert told(alarms, lines(0.1, 0.1, **odd) + lines(0.1) + lines(0.1, 0.1, **odd)) == []
    ((event, fields),) = alarms.push(line(6, 0.1, **odd))
    assert (event, fields["rule"], fields["class"]) == ("alarm", "unknown surface", None)
    assert told(alarms, lines(0.1, 0.1) + lines(0.1, **odd) + lines(0.1, 0.1)) == []
    ((event, fields),) = alarms.push(line(12, 0.1))
    assert (event, fields["rule"], fields["class"]) == ("clear", "unknown surface", "fine")


def test_a_lost_connection_is_told_at_once_and_cleared_with_the_class():
    alarms, lost, found = bad_tip(), {"event": "lost"}, {"event": "found"}
    alarms.push(scan(5))
    alarms.push(line(0, 0.1))
    assert told(alarms, [found]) == []
    assert told(alarms, [lost, lost]) == [("alarm", "connection lost", None)]
    ((event, fields),) = alarms.push(found)
    assert (event, fields["class"], fields["scan"]) == ("clear", "fine", 5)
    assert told(alarms, [lost, found]) == []  # once in a scan
    between = [{"event": "end"}, lost, found, lost, found]
    assert [event for event, *_ in told(alarms, between)] == ["alarm", "clear"] * 2


def test_a_scan_that_was_over_before_raises_and_clears_nothing():
    alarms = bad_tip(lines=1)
    changed = [line(9, 0.9, since=4)]
    assert told(alarms, [scan(1, quiet=True), *lines(0.9), *changed]) == []
    assert told(alarms, [scan(2), *lines(0.9)]) == [("alarm", "bad tip", 0)]
    assert told(alarms, [scan(3, quiet=True), *lines(0.1)]) == []


def test_after_some_alarms_that_nobody_answers_one_note_and_no_more():
    alarms = bad_tip(lines=1, quiet_after=2)
    records = [each for number in range(5) for each in (scan(number), *lines(0.9, 0.1))]
    found = told(alarms, records)
    assert found == [("alarm", "bad tip", 0), ("clear", "bad tip", 1)] * 2 + [
        ("note", None, None)
    ]
    alarms.push({"event": "label"})
    assert told(alarms, records[:3]) == found[:2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alarm_at": 0}, "`alarm_at` is a probability above 0. Received: 0."),
        ({"alarm_at": 1.1}, "`alarm_at` is"),
        ({"release_at": 0.8}, "between 0 and `alarm_at`, 0.7. Received: 0.8."),
        ({"lines": 0}, "`lines` must be 1 or more. Received: 0."),
        ({"quiet_after": 0}, "`quiet_after` must be 1 or more"),
        ({"classes": CLASSES[:1]}, "no class 'poor'. Choose of: fine."),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        bad_tip(**settings)
