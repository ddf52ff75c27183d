"""The verdict with the scans before, from scan to scan: when it holds, and why it does not."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.inference import scan_chain
from stm_keras.inference.context import Context
from stm_keras.inference.scan_chain import PAUSE, Circumstances, ScanChain
from stm_keras.inference.verdict import ScanContext

pytestmark = ONCE  # no backend changes what is tested here

STAYS = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
MODEL = SimpleNamespace(classes=("a", "b", "c"), metadata={})
SURE, NEXT = (0.1, 0.8, 0.1), (0.4, 0.35, 0.25)  # of the scan before, and of first lines


def chain(**metadata):
    """A chain after one scan, begun at 100 s and ended at 200 s, of the second class."""
    model = SimpleNamespace(classes=MODEL.classes, metadata=metadata)
    made = ScanChain(Context(STAYS, frequency=1, strength=1, fade_lines=32), model)
    made.begin(Circumstances(100.0, bias=-1.5, setpoint=1e-10, place="day"))
    made.end(SURE, changed=False, ended=200.0)
    return made


def after(made, began=210.0, bias=-1.5, setpoint=1e-10, place="day"):
    """Begin with the next scan and judge its first line."""
    made.begin(Circumstances(began, bias, setpoint, place))
    return made.judge(NEXT, 1)


def test_the_scan_before_decides_what_the_first_lines_leave_open():
    told = after(chain())
    assert (told.verdict, told.name, told.scans, told.absent) == ("b", "b", 1, None)
    expected = np.array(NEXT) * (0.8 * STAYS[1] + 0.1 * STAYS[0] + 0.1 * STAYS[2])
    assert told.probabilities == pytest.approx(expected / expected.sum())
    assert told.confidence == max(told.probabilities)


def test_the_first_scan_has_none_before_it():
    made = ScanChain(Context(STAYS), MODEL)
    told = after(made)
    assert told == ScanContext(absent=scan_chain.FIRST)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"began": 200 + PAUSE + 1}, scan_chain.PAUSED),
        ({"began": 90.0}, scan_chain.NOT_AFTER),
        ({"began": None}, scan_chain.NO_TIME),
        ({"bias": 1.5}, "another bias than in the scan before"),
        ({"bias": -2.0}, "another bias than in the scan before"),
        ({"setpoint": 2e-10}, "another setpoint than in the scan before"),
        ({"place": "other"}, scan_chain.ELSEWHERE),
    ],
)
def test_where_the_tip_may_be_another_the_scans_before_are_dropped(changes, reason):
    made = chain()
    told = after(made, **changes)
    assert told.absent == reason
    assert told.probabilities is None
    made.end(SURE, changed=False)
    if changes.get("began", 1) is None:
        assert after(made).absent == scan_chain.FIRST
    else:
        told = after(made, **{**changes, "began": changes.get("began", 210.0) + 50})
        assert (told.verdict, told.scans) == ("b", 1)  # a new chain began


@pytest.mark.parametrize(
    "changes", [{"began": 200 + PAUSE}, {"bias": -1.45}, {"setpoint": None}, {"bias": None}]
)
def test_small_steps_and_what_nobody_says_change_nothing(changes):
    assert after(chain(), **changes).verdict == "b"


NM = 1e-9


def lines_at(*heights):
    """Lines at heights in nm, of a surface with steps; a fifth of each was not recorded."""
    lines = NM * (np.array(heights)[:, None] + np.tile([0, 0.136, -0.1, 0.136], 5))
    lines[:, :4] = np.nan
    return lines


def seen(*heights):
    """A chain after one scan whose lines lay at these heights in nm."""
    made = ScanChain(Context(STAYS, frequency=1, strength=1, fade_lines=32), MODEL)
    made.begin(Circumstances(100.0))
    for line in lines_at(*heights):
        made.see(line)
    made.end(SURE, changed=False, ended=200.0)
    made.begin(Circumstances(210.0))
    return made


@pytest.mark.parametrize("first", [-70, -10.5, -45, -80.5])
def test_a_scan_that_begins_near_either_end_of_the_last_is_of_the_same_tip(first):
    made = seen(-20, -40, -60, -71, -72, -73)  # which sloped from -20 to -71 nm
    made.see(lines_at(first)[0])
    assert made.judge(NEXT, 1).verdict == "b"


@pytest.mark.parametrize(("first", "jump"), [(-9, 11), (30, 50), (-82, 11), (-512, 441)])
def test_a_jump_of_height_drops_the_scans_before(first, jump):
    made = seen(-20, -40, -60, -71, -72, -73)
    made.see(lines_at(first)[0])
    made.see(lines_at(-20)[0])  # as the scan before; too late
    reason = f"the height jumped by {jump} nm after the scan before"
    assert made.judge(NEXT, 2) == ScanContext(absent=reason)
    made.end(SURE, changed=False, ended=300.0)
    assert after(made, began=310.0, bias=None, setpoint=None, place="").verdict == "b"


def test_only_the_first_line_may_lie_elsewhere_than_the_scan_before():
    made = seen(0, 0)
    for line in lines_at(0, 5, 60):  # within the scan that is a tip change, or none
        made.see(line)
    assert made.judge(NEXT, 3).verdict == "b"


def test_a_line_that_was_hardly_recorded_has_no_height():
    made = seen(0, 0)
    torn = lines_at(100)[0]
    torn[:12] = np.nan
    made.see(torn)
    assert made.judge(NEXT, 1).verdict == "b"
    made.see(lines_at(100)[0])
    assert made.judge(NEXT, 1).absent.startswith("the height jumped by 100 nm")


def test_heights_are_compared_with_those_of_the_scan_just_before():
    made = seen(0, 0)
    made.see(lines_at(8)[0])
    made.end(SURE, changed=False, ended=300.0)
    made.begin(Circumstances(310.0))
    made.see(lines_at(16)[0])  # they crept
    assert made.judge(NEXT, 1).scans == 2
    made.end(SURE, changed=False, ended=400.0)
    made.begin(Circumstances(410.0))  # of this one no height is known
    made.end(SURE, changed=False, ended=500.0)
    made.begin(Circumstances(510.0))
    made.see(lines_at(200)[0])
    assert made.judge(NEXT, 1).scans == 4


def test_a_called_change_drops_the_scans_before_at_once_and_for_the_next_scan():
    made = chain()
    made.begin(Circumstances(210.0, place="day"))
    assert made.judge(NEXT, 9, changed=True).absent == scan_chain.CHANGED_NOW
    made.end(SURE, changed=True)
    assert after(made, began=300.0).absent == scan_chain.CHANGED
    made.end(SURE, changed=False)
    assert after(made, began=400.0).verdict == "b"


def test_it_fades_with_the_lines_and_then_says_nothing():
    made = chain()
    made.begin(Circumstances(210.0, place="day"))
    shares = [made.judge(NEXT, lines).probabilities[1] for lines in (1, 4, 16)]
    assert shares == sorted(shares, reverse=True)
    told = made.judge(NEXT, 32)
    assert told.absent == scan_chain.FADED
    assert (
        made.judge(NEXT, 32, changed=True)
        == ScanChain(Context(STAYS), MODEL).judge(NEXT, 64)
        == told
    )


def early(known=True, min_lines=2, **metadata):
    """A chain of a model that alone needs 8 lines; the scan just before was judged or not."""
    model = SimpleNamespace(classes=MODEL.classes, metadata={"min_lines": 8, **metadata})
    made = ScanChain(Context(STAYS, fade_lines=32, min_lines=min_lines), model)
    for began, shares in ((100.0, SURE), (200.0, SURE if known else None)):
        made.begin(Circumstances(began))
        made.end(shares, changed=False)
    made.begin(Circumstances(300.0))
    return made


def test_with_the_scans_before_a_scan_is_judged_after_fewer_lines_than_alone():
    assert early().judge(NEXT, 1) == ScanContext(scans=2)
    assert early().judge(NEXT, 2).verdict == "b"
    assert early(min_lines=16).judge(NEXT, 8).verdict == "b"  # no later than alone


def test_without_a_word_of_the_model_it_needs_as_many_lines_as_alone():
    assert early(min_lines=None).judge(NEXT, 7) == ScanContext(scans=2)
    assert early(min_lines=None).judge(NEXT, 8).verdict == "b"


def test_after_a_scan_that_was_not_judged_nobody_knows_the_surface_of_the_first_lines():
    assert early(known=False).judge(NEXT, 7) == ScanContext(scans=1)
    assert early(known=False).judge(NEXT, 8).verdict == "b"


def test_before_the_first_verdict_on_the_scan_there_is_none_with_the_others():
    made = chain()
    made.begin(Circumstances(210.0, place="day"))
    assert made.judge(None, None) == ScanContext(scans=1)


def test_a_scan_that_was_not_judged_is_passed_over():
    made = chain()
    first = after(made)
    made.end(None, changed=False, ended=250.0)
    told = after(made, began=260.0)
    assert told == first


def test_a_threshold_holds_as_for_the_scan_alone():
    told = after(chain(unsure={"threshold": 0.9}))
    assert (told.verdict, told.name) == ("unsure", "b")


def test_on_an_unknown_surface_there_is_none():
    made = chain()
    made.begin(Circumstances(210.0, place="day"))
    assert made.judge(NEXT, 1, unknown=True).absent == scan_chain.UNKNOWN


def test_the_record_is_ready_for_json():
    told = after(chain()).record(digits=3)
    assert list(told) == [
        *("verdict", "class", "probabilities", "confidence", "scans", "absent")
    ]
    assert list(told["probabilities"]) == ["a", "b", "c"]
    assert told["confidence"] == round(told["confidence"], 3)
    assert ScanContext(absent="why").record() == {
        **dict.fromkeys(told, None),
        "scans": 0,
        "absent": "why",
    }


def test_a_person_reads_it_beside_the_verdict():
    assert after(chain()).remarks == ("with the scans before: b (68%)",)
    assert after(chain(unsure={"threshold": 0.9})).remarks == (
        "with the scans before: unsure",
    )
    assert ScanContext(absent="why").remarks == ()


def test_a_report_says_it_as_the_page_of_a_watching_does():
    assert after(chain()).words == "With the scan before: b 0.68."
    assert ScanContext(absent="why").words == "Not judged with the scans before: why."
    assert ScanContext(absent=scan_chain.FADED).words is None
    assert ScanContext(scans=3).words is None
