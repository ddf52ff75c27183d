"""Batches of scans: in order, with their errors, in the lines of their files."""

import time
import warnings

import h5py
import numpy as np
import pytest
from helpers import ONCE
from scan_files import sxm

from stm_keras.data.preprocess import recorded_lines
from stm_keras.errors import NotFiniteError, ScanError
from stm_keras.inference.find_files import InputFile, find_files
from stm_keras.inference.predict_files import add_scans_before, predict_files
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.scan_chain import (
    CHANGED,
    ELSEWHERE,
    FADED,
    FIRST,
    NO_TIME,
    PAUSED,
    UNKNOWN,
)
from stm_keras.inference.scan_result import KEYS

pytestmark = ONCE  # no backend changes what is tested here

STAYS = {
    "transitions": [[0.9, 0.1], [0.1, 0.9]],
    "frequency": 0.0,
    "strength": 1.0,
    "fade_lines": 10,
}
FACTS = {
    "classes": ["a", "b"],
    "pixels": 16,
    "max_lines": 12,
    "change": {"threshold": 0.5},
    "unsure": {"threshold": 0.9},
}


class Live(Predictor):
    """Says of each line what its first pixel is; a change at the model's line 6."""

    every_line = True
    metadata = FACTS

    def __init__(self, threaded=False):
        self.parallel = threaded

    def start_scan(self):
        return 0

    def step(self, line, cache):
        state = np.array([[line[0, 0, 0], 0.0]])
        change = 9.0 if cache == 6 else -9.0
        return {"state": state, "change": np.array([[change]])}, cache + 1

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        state = np.zeros((*images.shape[:2], 2))
        state[..., 0] = images[:, :, 0]
        change = np.full((*images.shape[:2], 1), -9.0)
        change[:, 6] = 9
        return {"state": state, "change": change, "recorded": recorded_lines(images)}


def heights(lines=24, pixels=32, seed=0):
    return np.random.default_rng(seed).normal(size=(lines, pixels)) * 1e-10


def write(path, slow="down", recorded=None, **shape):
    made = heights(**shape)
    if recorded is not None:
        made[recorded:] = np.nan
    made = made[::-1] if slow == "up" else made
    path.write_bytes(sxm({"Z": ("m", made, None)}, slow, size=(1e-8, 0.75e-8)))
    return path


def judged(*paths, threaded=False, **options):
    return list(predict_files(Live(threaded), map(InputFile, paths), **options))


@pytest.mark.parametrize("threaded", [False, True])
def test_order_is_kept_and_bad_files_are_among_the_others(tmp_path, threaded):
    paths = [write(tmp_path / f"{n}.sxm", seed=n) for n in range(9)]
    paths[4].write_bytes(paths[4].read_bytes()[:-1])
    found = judged(*paths, tmp_path / "none.sxm", threaded=threaded)
    assert [each.path for each in found] == [*paths, tmp_path / "none.sxm"]
    assert [each.error is None for each in found] == [True] * 4 + [False] + [True] * 4 + [
        False
    ]
    record = found[4].record()
    assert list(record) == list(KEYS)
    assert "is cut short" in record["error"]
    told = {"schema": 2, "path": str(paths[4]), "verdict": "not judged"}
    assert {key: record[key] for key in told} == told
    assert {record[key] for key in set(KEYS) - {*told, "error"}} == {None}
    alone = [each.record() for each in judged(*paths[5:], threaded=threaded)]
    assert [each.record() for each in found[5:9]] == alone


@pytest.mark.parametrize("threaded", [False, True])
def test_what_is_done_is_handed_out_while_the_list_pauses(tmp_path, threaded):
    path, seen = write(tmp_path / "a.sxm"), []

    def slowly():
        yield InputFile(path)
        for _ in range(1000):
            time.sleep(0.01)
            yield None
            if seen:
                return
        raise AssertionError("nothing came out")

    for each in predict_files(Live(threaded), slowly()):
        seen.append(each)
    assert len(seen) == 1


def test_lines_are_those_of_the_file(tmp_path):
    (whole,) = judged(write(tmp_path / "a.sxm"))
    assert (whole.lines, whole.change_lines) == (24, (12,))
    (begun,) = judged(write(tmp_path / "b.sxm", recorded=22))
    assert (begun.lines, begun.change_lines) == (22, (12,))
    (up,) = judged(write(tmp_path / "c.sxm", "up", recorded=22))
    assert (up.lines, up.change_lines) == (22, (12,))
    assert whole.scan_input.row_of(12) == 12
    assert up.scan_input.row_of(12) == 12  # the bottom edge of row 11
    assert [up.scan_input.row_of(line) for line in (0, 21, 22)] == [24, 3, 2]
    assert [begun.scan_input.row_of(line) for line in (0, 21, 22)] == [0, 21, 22]


def test_a_change_is_told_when_later_lines_have_made_it_certain(tmp_path):
    (begun,) = judged(write(tmp_path / "b.sxm", recorded=16), every_line=True)
    assert (begun.lines, begun.change_lines) == (16, ())
    assert begun.line_verdicts[-1].change_line is None


def test_live_verdicts_are_those_of_the_lines_as_they_came(tmp_path):
    (begun,) = judged(write(tmp_path / "a.sxm", recorded=16), every_line=True)
    assert [each.line for each in begun.line_verdicts] == list(range(16))
    record = begun.record()
    assert set(record) == {*KEYS, "unit", "every_line"}
    assert record["unit"] == "m"
    made = heights()[:16]
    steps = [line["offset_step"] for line in record["every_line"]]
    assert steps[0] is None
    np.testing.assert_allclose(steps[1:], np.diff(made.mean(1)), rtol=1e-4)
    ramp = np.arange(32) - 15.5
    slopes = [line["slope"] for line in record["every_line"]]
    np.testing.assert_allclose(slopes, made @ ramp / (ramp @ ramp) * 31, rtol=1e-3)
    (whole,) = judged(write(tmp_path / "b.sxm"), every_line=True)
    assert whole.line_verdicts[-1].change_line == 12  # of the file, though judged in pairs


def test_what_was_taken_out_of_a_lost_line_is_not_told(tmp_path):
    made = heights() + 3e-9
    made[7] = 0
    path = tmp_path / "a.sxm"
    path.write_bytes(sxm({"Z": ("m", made, None)}, size=(1e-8, 0.75e-8)))
    (found,) = judged(path, every_line=True)
    lines = found.record()["every_line"]
    assert [n for n, line in enumerate(lines) if line["slope"] is None] == [7]
    assert [n for n, line in enumerate(lines) if line["offset_step"] is None] == [0, 7, 8]


def test_a_dataset_ends_with_its_recorded_lines(tmp_path):
    images = heights(12, 16)[None] * 1e10 + np.zeros((3, 1, 1))
    images[1, 5:] = 0
    np.savez(tmp_path / "a.npz", images=images)
    found = judged(tmp_path / "a.npz", every_line=True)
    assert [each.index for each in found] == [0, 1, 2]
    assert [each.lines for each in found] == [12, 5, 12]
    assert [len(each.line_verdicts) for each in found] == [12, 5, 12]
    frame, aspect = found[1].scan_input.frame()
    assert frame.shape == (12, 16)
    assert aspect == 1
    assert np.isnan(frame[5:]).all()


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5"])
def test_a_scan_of_heights_that_cannot_be_is_not_judged_and_others_are(tmp_path, name):
    size = (24, 32) if name == "a.npy" else (12, 16)
    images = heights(*size)[None] * np.array([1, 1e210, 1, 1e10]).reshape(4, 1, 1)
    if name == "a.h5":
        with h5py.File(tmp_path / name, "w") as file:
            file["images"] = images
    elif name == "a.npy":
        np.save(tmp_path / name, images)
    else:
        np.savez(tmp_path / name, images=images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judged(tmp_path / name, write(tmp_path / "b.sxm"))
    assert [each.error is None for each in found] == [True, False, True, True, True]
    assert isinstance(found[1].error, ScanError)
    assert found[1].index == 1
    assert f"{name}: scan 1 is damaged" in found[1].reason


class Odd(Live):
    """Fails on a scan of odd values, as a network overflows."""

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        out = super().outputs(images, batch_size, progress, lines)
        out["state"][(np.abs(images) > 1).any((1, 2))] = np.nan
        return out


def mixed(tmp_path, *factors):
    for number, factor in enumerate(factors):
        made = heights(12, 16, seed=number)[None] * factor
        np.savez(tmp_path / f"{number}.npz", images=made)
    return [InputFile(tmp_path / f"{number}.npz") for number in range(len(factors))]


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("factors", [(1, 1e15, 1, 1), (1e15, 1e15, 1)])
def test_a_scan_that_a_network_fails_on_costs_no_other_scan(tmp_path, factors, threaded):
    files = mixed(tmp_path, *factors)
    found = list(predict_files(Odd(threaded), files))
    assert [each.path for each in found] == [file.path for file in files]
    assert [each.error is None for each in found] == [factor == 1 for factor in factors]
    bad = found[factors.index(1e15)]
    assert bad.error.exit_code == 3
    assert f"{bad.path}: scan 0 makes the model give" in bad.reason


@pytest.mark.parametrize("threaded", [False, True])
def test_a_network_that_fails_on_all_scans_is_to_blame(tmp_path, threaded):
    files = [*mixed(tmp_path, 1e15, 1e15), InputFile(tmp_path / "none.npy")]
    found = predict_files(Odd(threaded), files)
    assert next(found).path == files[2].path  # what is known is told first
    with pytest.raises(NotFiniteError, match="damaged or was never trained"):
        next(found)


def test_a_network_that_fails_is_told_at_the_first_pause(tmp_path):
    (file,) = mixed(tmp_path, 1e15)

    def forever():
        yield file
        for _ in range(100):
            yield None
        raise AssertionError("nothing was told")

    with pytest.raises(NotFiniteError):
        next(predict_files(Odd(), forever()))


def test_few_scans_are_in_memory(tmp_path):
    paths = [write(tmp_path / f"{n}.sxm", seed=n) for n in range(40)]
    asked = []

    def watched():
        for file in find_files(paths):
            asked.append(file)
            yield file

    given = predict_files(Live(True), watched(), threads=2)
    for number, _ in enumerate(given, 1):
        assert len(asked) - number <= 6


class Chained(Live):
    """Knows how scans follow each other, and hardly tells its classes apart; no changes."""

    metadata = {**{k: v for k, v in FACTS.items() if k != "change"}, "context": STAYS}

    def outputs(self, *arguments, **options):
        out = super().outputs(*arguments, **options)
        return {**out, "state": out["state"] / 10}

    def step(self, line, cache):
        state, cache = super().step(line, cache)
        return {**state, "state": state["state"] / 10}, cache


def in_a_row(
    folder, minutes, recorded=6, model=Chained, every_line=False, changes=(), levels=()
):
    """Judge scans that began in these minutes, `recorded` of 24 lines each.

    `levels` are heights in m of the first of them; `changes` are entries of their headers that
    differ, a dict for each.
    """
    for number, minute in enumerate(minutes):
        made = heights(seed=number)
        made[recorded:] = np.nan
        made += levels[number] if number < len(levels) else 0.0
        entries = {"REC_DATE": "01.12.2026", "size": (1e-8, 0.75e-8)}
        if minute is not None:
            entries["REC_TIME"] = f"{10 + minute // 60}:{minute % 60:02}:00"
        entries |= dict(enumerate(changes)).get(number, {})
        path = folder / entries.pop("name", f"{number}.sxm")
        path.parent.mkdir(exist_ok=True)
        channel = entries.pop("channel", "Z")
        path.write_bytes(sxm({channel: ("m", made, None)}, **entries))
    files = find_files([folder])
    return list(add_scans_before(predict_files(model(), files, None, every_line), model()))


def test_scans_of_a_folder_are_judged_with_those_before_them_as_well(tmp_path):
    results = in_a_row(tmp_path, range(3))
    assert [each.context.absent for each in results] == [FIRST, None, None]
    assert [each.context.scans for each in results] == [0, 1, 2]
    alone = [each.verdict.probabilities[0] for each in results]
    both = [each.context.probabilities[0] for each in results[1:]]
    before = np.sign(np.array(alone[:2]) - 0.5)
    assert (np.sign(np.array(both) - alone[1:]) == before).all()
    record = results[1].record()
    assert list(record) == [*KEYS, "context"]
    assert list(record["context"]["probabilities"]) == ["a", "b"]


def test_the_verdict_on_the_scan_alone_stays_as_it_is(tmp_path):
    results = in_a_row(tmp_path, range(3))
    alone = predict_files(Chained(), find_files([tmp_path]))
    for one, other in zip(results, alone, strict=True):
        assert one.verdict == other.verdict
        assert {**one.record(), "context": 0} == {**other.record(), "context": 0}


def test_scans_of_files_without_a_time_have_none_before_them(tmp_path):
    results = in_a_row(tmp_path, [None, None])
    assert [each.context.absent for each in results] == [NO_TIME, NO_TIME]


def test_whole_scans_are_judged_by_their_lines_but_each_line_with_those_before(tmp_path):
    results = in_a_row(tmp_path, range(2), recorded=24, every_line=True)
    second = results[1].record()
    assert second["context"]["absent"] == FADED
    told = [line["context"] for line in second["every_line"]]
    assert told[0]["scans"] == told[17]["scans"] == 1
    assert [each["absent"] for each in told[-4:]] == [FADED] * 4  # 10 lines of the model


class Patient(Chained):
    """Alone it needs 5 lines; with the scans before, two."""

    metadata = {**Chained.metadata, "min_lines": 5, "context": {**STAYS, "min_lines": 2}}


def test_the_first_lines_are_judged_with_the_scans_before_alone(tmp_path):
    results = in_a_row(tmp_path, range(2), recorded=20, model=Patient, every_line=True)
    for number, result in enumerate(results):
        record = result.record()
        lines = record["every_line"]
        assert [line["verdict"] for line in lines[:8]] == [None] * 8  # 5 lines of the model
        told = [line["context"]["verdict"] for line in lines]
        assert told[:2] == [None] * 2
        assert (None in told[4:8]) == (number == 0)
        assert {line["context"]["absent"] for line in lines[:8]} == {
            None if number else FIRST
        }


def test_a_scan_too_short_to_be_judged_alone_is_judged_with_the_scans_before(tmp_path):
    for number, lines in enumerate((24, 6, 6)):  # of the model 12 and 2
        in_a_row(tmp_path, [number], recorded=lines, changes=[{"name": f"{number}.sxm"}])
    files = find_files([tmp_path])
    results = list(add_scans_before(predict_files(Patient(), files), Patient()))
    first, second, third = (each.record() for each in results)
    assert first["verdict"] in ("a", "b", "unsure")
    for short in (second, third):
        assert (short["verdict"], short["class"]) == ("not judged", None)
        assert "2 of the 5 lines that the model needs" in short["error"]
    assert second["context"]["class"] == first["class"]
    # nobody said whether the second was of a surface that the model knows
    assert (third["context"]["verdict"], third["context"]["absent"]) == (None, None)
    assert third["context"]["scans"] == 1


def test_a_called_change_drops_the_scans_before(tmp_path):
    class Changing(Chained):
        context = {**STAYS, "fade_lines": 64}
        metadata = {**Chained.metadata, "change": FACTS["change"], "context": context}

    results = in_a_row(tmp_path, range(2), recorded=22, model=Changing)
    assert results[0].change_lines
    assert results[1].context.absent == CHANGED


def test_a_model_without_context_answers_as_ever(tmp_path):
    results = in_a_row(tmp_path, range(2), model=Live)
    assert [each.context for each in results] == [None, None]
    assert list(results[1].record()) == list(KEYS)


def test_the_scan_before_is_one_of_the_same_folder(tmp_path):
    changes = [{"name": "a/0.sxm"}, {"name": "b/0.sxm"}, {"name": "b/1.sxm"}]
    results = in_a_row(tmp_path, range(3), changes=changes)
    assert [each.context.absent for each in results] == [FIRST, ELSEWHERE, None]


def test_a_pause_begins_where_the_scan_before_ended(tmp_path):
    slow = {"SCAN_TIME": "100 100"}  # s a line: 20 minutes for 6 lines in both directions
    results = in_a_row(tmp_path, [0, 70, 140], changes=[slow])
    assert [each.context.absent for each in results] == [FIRST, None, PAUSED]


def test_a_jump_of_the_height_drops_the_scans_before(tmp_path):
    results = in_a_row(tmp_path, range(4), levels=[-7e-8, -7.5e-8, -3e-8], every_line=True)
    jumps = ["the height jumped by 45 nm after the scan before"]
    jumps += ["the height jumped by 30 nm after the scan before"]
    assert [each.context.absent for each in results] == [FIRST, None, *jumps]
    assert {each.absent for each in results[2].line_contexts} == {jumps[0]}


def test_where_heights_have_a_level_of_their_own_no_jump_is_told(tmp_path):
    lifted = [{"channel": "[P2]_Z"}] * 2  # of a tip that was lifted
    results = in_a_row(tmp_path, range(2), levels=[-7e-8], changes=lifted)
    assert [each.context.absent for each in results] == [FIRST, None]


def test_a_scan_of_an_unknown_size_is_passed_over(tmp_path):
    class Sized(Chained):
        metadata = {**Chained.metadata, "size_nm": [5.0, 20.0]}

    wide = {"size": (9e-8, 7e-8)}
    with pytest.warns(UserWarning, match="outside what the model was trained on"):
        results = in_a_row(tmp_path, range(3), model=Sized, changes=[{}, wide, {}])
    assert [each.context.absent for each in results] == [FIRST, UNKNOWN, None]
    assert results[2].context.scans == 1
