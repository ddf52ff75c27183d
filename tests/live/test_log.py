"""The log of a watch: what is in it, and that nothing ends it."""

import errno
import json
import os
import random
import subprocess
import sys
from datetime import datetime, timedelta

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY

from stm_keras.errors import InputError, OutputError
from stm_keras.live import log as log_module
from stm_keras.live.log import MOST_WAITING, EventLog, name_of, read_log
from stm_keras.live.records import MAX_LINE, read_backwards

pytestmark = ONCE
SOURCE = "nanonis://stm-pc:6501"
WRITER = """
import sys
from stm_keras.live.log import EventLog
log = EventLog(sys.argv[1], "simulated")
print("ready", flush=True)
while True:
    record = log.write("line", scan=1, line=log.seq, text="x" * (log.seq % 300))
    print(record["seq"], flush=True)
"""


def texts(log):
    return [record.get("text") for record in read_log(log.path())]


def numbers(path):
    return [record["seq"] for record in read_log(path)]


@pytest.fixture
def clock(monkeypatch):
    """Have the log take its time from a list of one datetime."""
    now = [datetime(2026, 11, 29, 23, 59).astimezone()]
    monkeypatch.setattr(log_module, "_now", lambda: now[0])
    return now


@pytest.fixture
def full(monkeypatch):
    """Let `os.write` fail while a list holds an error number, or write a part of it."""
    broken, write = [], os.write

    def fail(descriptor, data):
        if broken and isinstance(broken[0], float):
            return write(descriptor, data[: int(broken[0] * len(data))])
        if broken:
            raise OSError(broken[0], os.strerror(broken[0]))
        return write(descriptor, data)

    monkeypatch.setattr("os.write", fail)
    return broken


def test_a_record_is_returned_and_written_with_its_keys_in_order(tmp_path):
    with EventLog(tmp_path, SOURCE) as log:
        record = log.write("line", scan=3, line=0, **{"class": "rows"}, p=0.1 + 0.2)
    assert list(record) == [
        "schema",
        "seq",
        "t",
        "mono",
        "event",
        "scan",
        "line",
        "class",
        "p",
    ]
    (text,) = log.path().read_text(encoding="utf-8").splitlines()
    assert json.loads(text) == record
    assert (record["schema"], record["seq"], record["event"]) == (1, 1, "line")
    assert datetime.fromisoformat(record["t"]).utcoffset() is not None
    assert log.path().name == f"{record['t'][:10]}-nanonis---stm-pc-6501.jsonl"


def test_values_become_what_json_has(tmp_path):
    with EventLog(tmp_path, SOURCE) as log:
        values = [
            np.nan,
            float("inf"),
            np.float32(0.5),
            np.arange(3),
            tmp_path,
            (True, None),
        ]
        record = log.write("note", text="\udc80é", values=values)
    assert record["values"] == [None, None, 0.5, [0, 1, 2], str(tmp_path), [True, None]]
    assert json.loads(log.path().read_bytes()) == record


def test_names_of_sources_are_names_of_files_on_windows_too():
    assert name_of('C:\\scans\\*?"<>|\n\udc80.') == "C--scans---------"
    assert name_of("..") == "source"
    long, other = (f"/{letter}/{'ä' * 300}/scans" for letter in "ab")
    assert len(name_of(long).encode()) <= 100
    assert name_of(long).endswith("ä-scans")
    assert name_of(long) != name_of(other)


def test_numbers_go_on_when_a_log_is_opened_again(tmp_path):
    with EventLog(tmp_path, SOURCE) as log:
        log.write("scan", id=4, pixels=16)
        for _ in range(3000):  # far more than is read at once
            log.write("line", text="x" * 50)
    with EventLog(tmp_path, SOURCE) as log:
        assert (log.seq, log.last_scan) == (3001, 4)
        assert log.write("note")["seq"] == 3002


def test_a_day_has_a_file_and_numbers_go_on_from_the_day_before(tmp_path, clock):
    with EventLog(tmp_path, SOURCE) as log:
        log.write("scan", scan=1)
        clock[0] += timedelta(minutes=2)
        log.write("note")
    names = [f"2026-11-{day}-nanonis---stm-pc-6501.jsonl" for day in (29, 30)]
    assert [numbers(tmp_path / name) for name in names] == [[1], [2]]
    clock[0] += timedelta(days=3)
    with EventLog(tmp_path, SOURCE) as log:
        assert (log.seq, log.last_scan) == (2, 1)


def test_logs_of_other_sources_are_not_gone_on_with(tmp_path):
    for source, seq in (("a", 0), ("a-b", 0), ("a", 1)):
        with EventLog(tmp_path, source) as log:
            assert log.seq == seq
            log.write("note")


def test_a_cut_record_is_ended_before_the_next(tmp_path):
    with EventLog(tmp_path, SOURCE) as log:
        log.write("note", text="a")
    with log.path().open("ab") as file:
        file.write(b'{"schema": 1, "seq": 2, "t"')
    with EventLog(tmp_path, SOURCE) as log:
        log.write("note", text="b")
    reader = read_log(log.path())
    assert [record["text"] for record in reader] == ["a", "b"]
    assert reader.skipped == 1


def test_a_kill_at_any_moment_loses_no_record_but_the_one_being_written(tmp_path):
    chance, told = random.Random(0), 0
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert writer.stdout.readline().strip() == b"ready"
        for _ in range(chance.randrange(1, 400)):
            writer.stdout.readline()
        writer.kill()
        written = [int(line) for line in writer.communicate()[0].split(b"\n")[:-1]]
        told = max([told, *written])
    with EventLog(tmp_path, "simulated") as log:
        assert told <= log.seq
        log.write("note")
    reader = read_log(log.path())
    assert [record["seq"] for record in reader] == list(range(1, log.seq + 1))
    assert reader.skipped <= 4


def test_two_processes_do_not_write_one_log(tmp_path):
    refusal = "another `stm-keras watch` writes the log of simulated here"
    with EventLog(tmp_path, "simulated"):
        with pytest.raises(OutputError, match=refusal):
            EventLog(tmp_path, "simulated")
        EventLog(tmp_path, "another").close()
    EventLog(tmp_path, "simulated").close()


@pytest.mark.skipif(os.name == "nt", reason="asks for a process by its number")
def test_windows_has_neither_fcntl_nor_fdatasync(tmp_path, monkeypatch):
    for module in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("os.fdatasync", raising=False)
    monkeypatch.delattr("os.O_NOFOLLOW", raising=False)
    synced, fsync = [], os.fsync
    monkeypatch.setattr("os.fsync", lambda number: synced.append(fsync(number)))
    with EventLog(tmp_path, SOURCE) as log:
        log.write("note", text="a")
        with pytest.raises(OutputError, match="another `stm-keras watch`"):
            EventLog(tmp_path, SOURCE)
    assert texts(log) == ["a"]
    assert len(synced) == 1
    EventLog(tmp_path, SOURCE).close()


def test_all_but_lines_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fdatasync", synced.append, raising=False)
    with EventLog(tmp_path, SOURCE) as log:
        log.write("line")
        assert not synced
        log.write("end")
        assert len(synced) == 1
    monkeypatch.setattr("os.fdatasync", lambda _: os.fstat(-1))  # a file system that cannot
    with EventLog(tmp_path, SOURCE) as log:
        log.write("end")
        assert log.failing is None


def test_ctrl_c_while_the_disk_is_waited_for_writes_no_record_twice(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    with EventLog(tmp_path, SOURCE) as log:
        with monkeypatch.context() as patch:
            patch.setattr("os.fdatasync", interrupt, raising=False)
            with pytest.raises(KeyboardInterrupt):
                log.write("note", text="a")
        log.write("stop", text="b")
    assert texts(log) == ["a", "b"]


@pytest.mark.parametrize("how", [errno.ENOSPC, errno.EIO, 0.4, 0.0])
def test_a_full_disk_stops_nothing_and_loses_nothing(how, tmp_path, full):
    with EventLog(tmp_path, SOURCE) as log:
        log.write("note", text="a")
        full.append(how)
        assert log.write("note", text="b")["seq"] == 2
        assert os.strerror(how if isinstance(how, int) else errno.ENOSPC) in log.failing
        log.write("note", text="c")
        full.clear()
        log.write("note", text="d")
        assert log.failing is None
    assert texts(log) == ["a", "b", "c", "d"]


def test_what_waits_is_bounded_and_what_is_lost_is_said(tmp_path, full):
    with EventLog(tmp_path, SOURCE) as log:
        full.append(errno.ENOSPC)
        for number in range(12):
            log.write("note", text=f"{number}{'x' * (MOST_WAITING // 10)}")
        full.clear()
    records = list(map(json.loads, log.path().read_text(encoding="utf-8").splitlines()))
    assert [record["seq"] for record in records] == [*range(4, 13), 13]
    assert "3 records are lost" in records[-1]["text"]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed")
def test_a_folder_that_is_removed_is_made_again(tmp_path):
    with EventLog(tmp_path / "live", SOURCE) as log:
        log.write("line", text="a")
        log.path().unlink()
        for path in (tmp_path / "live").iterdir():
            path.unlink()
        (tmp_path / "live").rmdir()
        (tmp_path / "live").write_bytes(b"")  # nor can it be made
        log.write("line", text="b")
        assert log.failing.startswith(str(tmp_path / "live"))
        (tmp_path / "live").unlink()
        log.write("line", text="c")
        assert log.failing is None
    assert texts(log) == ["b", "c"]


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "live").write_bytes(b"")
    with pytest.raises(OutputError, match="live: cannot be written"):
        EventLog(tmp_path / "live", SOURCE)


def test_files_that_were_judged_are_known_again(tmp_path, clock):
    for day in range(3):
        with EventLog(tmp_path, SOURCE) as log:
            log.write("file", path=f"{day}.sxm", size=day, mtime=0.1, error=None)
            log.write("note", text="of no file")
        clock[0] += timedelta(days=1)
    with EventLog(tmp_path, SOURCE) as log:
        assert log.judged_files() == {("1.sxm", 1, 0.1), ("2.sxm", 2, 0.1)}


GOOD = {
    "schema": 1,
    "seq": 7,
    "t": "2026-11-29T12:00:00+01:00",
    "mono": 1.5,
    "event": "line",
}


@pytest.mark.parametrize(
    "changed",
    [
        *({"schema": 2}, {"seq": "7"}, {"seq": True}, {"t": "noon"}, {"mono": None}),
        *({"t": "2026-11-29T12:00:00"}, {"event": 3}, {"line": "0"}, {"verdict": ["a"]}),
        *({"confidence": "high"}, {"lost": "no"}, {"probabilities": {"rows": "1"}}),
        *({"context": {"absent": 1}}, {"context": {"scans": -1}}, {"context": 5}),
        *({"since_change": {"line": "4"}}, {"text": "x" * 20_000}, {"mono": float("nan")}),
        {"event": "file", "size": [1, 2]},
    ],
)
def test_what_is_not_a_record_is_skipped_and_counted(changed, tmp_path):
    path = tmp_path / "log.jsonl"
    lines = (GOOD, GOOD | changed, GOOD | {"size": [2e-8, 2e-8], "since_change": None})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    reader = read_log(path)
    assert len(list(reader)) == 2
    assert reader.skipped == 1


def test_lines_of_any_length_and_bytes_are_skipped(tmp_path):
    path, good = tmp_path / "log.jsonl", json.dumps(GOOD).encode()
    path.write_bytes(
        b"\n".join([b"\xff\x00", good, b"x" * (2 * MAX_LINE + 5), b"", b"[" * 9999, good])
    )
    reader = read_log(path)
    assert len(list(reader)) == 2
    assert reader.skipped == 3
    assert len(list(read_backwards(path))) == 2
    with pytest.raises(InputError, match="is a folder. Give a log of"):
        read_log(tmp_path)


def test_a_log_reads_the_same_backwards(tmp_path):
    with EventLog(tmp_path, SOURCE) as log:
        for number in range(40):
            log.write("note", text="y" * (977 * number % 9000))
    assert list(read_backwards(log.path())) == list(read_log(log.path()))[::-1]
