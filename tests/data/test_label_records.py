"""Records of raters: which count, what they say together, and what names a scan."""

import json

import numpy as np
import pytest

from stm_keras.data.label_records import (
    latest_records,
    marks_set,
    merge_ratings,
    read_records,
)
from stm_keras.errors import InputError
from stm_keras.scan import scan_hash

CLASSES = ("rows", "dimers", "tip change")


def line(scan="x", rater="anna", t="2026-11-29T10:00:00+01:00", marks=("rows",), **more):
    record = {"schema": 1, "t": t, "rater": rater, "scan": scan, "path": "a.sxm"}
    record |= {"index": 0, "marks": list(marks), "segments": [], "unsure": False}
    record |= {"seconds": 2, "model_shown": False}
    return json.dumps({**record, **more})


def segments(*starts):
    return [{"from": start, "marks": []} for start in starts]


def write(folder, **raters):
    for rater, lines in raters.items():
        (folder / f"{rater}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_the_latest_record_of_a_rater_counts_wherever_it_stands(tmp_path):
    late = line(t="2026-11-29T11:30:00+02:00", marks=["dimers"])  # 9:30 in UTC
    write(tmp_path, anna=[late, line(t="2026-11-29T10:00:00+01:00"), line("y")])
    records, skipped = read_records(tmp_path)
    assert skipped == 0
    latest = latest_records(records)
    assert [each.marks for each in latest["x"]] == [["dimers"]]
    assert latest["x"][0].place == f"{tmp_path / 'anna.jsonl'}: line 1"
    assert latest.keys() == {"x", "y"}


def test_not_sure_without_a_mark_is_no_vote(tmp_path):
    unsure = [line(unsure=True, marks=[]), line("y", unsure=True), line("z", marks=[])]
    write(tmp_path, anna=unsure)
    assert latest_records(read_records(tmp_path)[0]).keys() == {"y", "z"}


@pytest.mark.parametrize(
    "bad",
    [
        '{"schema":1,"t":"2026-',
        "[]",
        line(schema=2),
        line(t="yesterday"),
        line(t=5),
        line(marks=[1]),
        line(segments=[{"from": -1, "marks": []}]),
        line(rater=None),
        "x" * (1 << 20),
    ],
)
def test_what_is_no_record_is_skipped_and_counted(tmp_path, bad):
    write(tmp_path, anna=[line("x"), bad, "", line("y")])
    records, skipped = read_records(tmp_path)
    assert [each.scan for each in records] == ["x", "y"]
    assert skipped == 1
    assert records[1].place.endswith("line 4")


def test_a_folder_without_records_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no records of labels \(<rater>\.jsonl\)"):
        read_records(tmp_path)
    with pytest.raises(InputError, match=r"a\.jsonl: does not exist\. Give records"):
        read_records(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("changes", "line_of_all"),
    [
        ([-1], -1),
        ([7], 7),
        ([7, -1], -1),  # no majority
        ([7, -1, 20], 13),
        ([7, 9, 50], 9),
        ([], -1),
    ],
)
def test_a_tip_change_is_the_median_where_most_raters_marked_one(changes, line_of_all):
    votes = [np.array([1.0, 0.0])] * max(len(changes), 1)
    assert merge_ratings(votes, changes)[1] == line_of_all


def test_votes_are_shares_of_raters_who_set_a_mark(tmp_path):
    write(
        tmp_path,
        anna=[line(marks=["Rows", "tip_change"], segments=segments(0, 57, 90))],
        ben=[line(rater="ben", marks=["dimers"], segments=segments(0))],
        eva=[line(rater="eva", marks=["rows"])],
    )
    (ratings,) = latest_records(read_records(tmp_path)[0]).values()
    assert [each.change_line for each in ratings] == [57, -1, -1]
    votes, change_line = merge_ratings(
        [each.votes(CLASSES) for each in ratings], [57, -1, -1]
    )
    np.testing.assert_allclose(votes, [2 / 3, 1 / 3, 1 / 3])
    assert change_line == -1


def test_what_a_rater_could_not_choose_is_not_said(tmp_path):
    write(
        tmp_path,
        anna=[line(marks=["rows"], choices=["Dimers", "rows"])],
        ben=[line(rater="ben", marks=["tip change"])],  # an old record, of unknown choices
    )
    records, _ = read_records(tmp_path)
    (ratings,) = latest_records(records).values()
    votes = [each.votes([*CLASSES, "else"]) for each in ratings]
    np.testing.assert_array_equal(votes, [[1, 0, np.nan, np.nan], [0, 0, 1, 0]])
    merged, _ = merge_ratings(votes, [-1, -1])
    assert merged.tolist() == [0.5, 0, 1, 0]
    assert merge_ratings(votes[:1], [-1])[0].tolist() == [1, 0, 0, 0]


def test_marks_are_in_the_order_in_which_they_were_offered(tmp_path):
    offered = ["dimers", "atoms", "rows"]
    write(tmp_path, anna=[line(choices=offered), line("y", marks=["dimers"])])
    assert list(marks_set(read_records(tmp_path)[0])) == ["dimers", "rows"]


def test_a_scan_is_known_by_its_heights_alone():
    lines = np.arange(12.0).reshape(3, 4)
    assert scan_hash(lines) == scan_hash(lines.astype("f4")) == scan_hash(lines[:, ::1])
    assert len(scan_hash(lines)) == 64
    gap = np.where(lines == 5, np.nan, lines)
    assert scan_hash(gap) == scan_hash(np.where(lines == 5, -np.nan, lines))
    zero = np.where(lines == 0, -0.0, lines)
    assert scan_hash(zero) == scan_hash(lines)
    others = (gap, lines[::-1], lines.reshape(4, 3), lines * 2)
    assert len({scan_hash(each) for each in (lines, *others)}) == 5
