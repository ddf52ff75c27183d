"""Progress on stderr: a bar on a terminal, lines in a log, nothing with -q; names of options."""

import io
import re
import time

import pytest
from helpers import ONCE, check_error, stm, write_dataset

from stm_keras import progress as subject
from stm_keras.cli.main import COMMANDS, FORMER, INTERACTIVE, main
from stm_keras.progress import Progress, duration, progress, showing
from stm_keras.terminal import Outlet

pytestmark = ONCE  # no backend changes what is tested here


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def wait_for(text, stream, seconds=20):
    """Wait until a stream holds a text."""
    end = time.monotonic() + seconds
    while text not in stream.getvalue():
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.02)


def test_a_bar_has_the_share_done_and_the_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    shown = Progress(Terminal())
    shown.stage("judging")
    now[0] += 30
    shown.update("judging", 3, 12)
    assert shown.text() == f"judging  [{'#' * 6}{'.' * 18}] 3/12  90 s left"
    shown.update("judging", 12, 12)
    assert shown.text() == "judging  30 s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.6, "8 s"), (181, "3 min"), (7500, "2 h 5 min")]
)
def test_times_are_short(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_shows_what_a_silent_command_does_and_clears_it_for_others(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(subject, "SILENCE", 0.05)
    monkeypatch.setattr(subject, "PACE", 0.01)
    monkeypatch.setattr("sys.stderr", Outlet(stream))
    with showing("auditing"):
        wait_for("\rauditing  0 s", stream)
        Outlet(stream).write("a result\n")
        assert "\r\x1b[Ka result\n" in stream.getvalue()
        subject.stage("writing")
        wait_for("\rwriting  ", stream)
    assert stream.getvalue().endswith("\r\x1b[K")
    ended = stream.getvalue()
    Outlet(stream).write("later\n")
    assert stream.getvalue() == f"{ended}later\n"


def test_a_question_is_not_drawn_over(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", Outlet(stream))
    with showing("asking") as shown:
        Outlet(stream).write("Really? ")
        assert shown.written_at == float("inf")
        Outlet(stream).write("yes\n")
        assert shown.written_at <= time.monotonic()


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    stream, now = io.StringIO(), [100.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", stream)
    with showing("simulate"):
        step = progress("simulating")
        for done in range(1, 51):
            step(done, 50)
            now[0] += 1
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert all(
        re.fullmatch(r"simulating  \[[#.]{24}\] \d+/50  \d+ s left", x) for x in lines
    )


def test_quiet_leaves_results_and_errors_alone(tmp_path):
    out = tmp_path / "scans.h5"
    result = stm("simulate", "--count", 4, "--workers", 1, "-o", out, "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{out}: 4 scans in ")
    loud = stm("simulate", "--count", 4, "--workers", 1, "-o", out, "--overwrite")
    assert loud.stderr == f"Next: stm-keras train --data {out}\n"
    check_error(stm("simulate", "--count", 4, "-o", out, "-q"), 1, "exists already")


def test_quiet_training_prints_its_scores_alone(tmp_path, train_command):
    command = [*train_command, "-o", tmp_path / "run", "--epochs", 1]
    result = stm(*command, "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "AUROC" in result.stdout


def test_training_ends_with_report_model_and_next(trained_run, train_command):
    result = stm(*train_command, "-o", trained_run)
    assert result.stderr.splitlines()[-3:] == [
        f"Report: {trained_run / 'report.html'}",
        f"Model: {trained_run / 'best.keras'}",
        f"Next: stm-keras predict SCAN --model {trained_run}",
    ]


def test_verbose_progress_has_times(tmp_path, train_command):
    result = stm(*train_command, "-o", tmp_path / "run", "--epochs", 1, "-v")
    assert re.search(r"^\[ +\d+\.\d s\] Split: ", result.stderr, re.MULTILINE)


def test_every_command_that_works_has_quiet_and_verbose():
    context = main.make_context("stm-keras", [], resilient_parsing=True)
    for name in COMMANDS:
        names = [each.name for each in main.get_command(context, name).params]
        for option in ("quiet", "verbose"):
            assert names.count(option) == (name not in INTERACTIVE), (name, option)


@pytest.mark.parametrize("command", FORMER)
def test_former_names_of_options_work_and_say_the_new_one(command):
    context = main.make_context("stm-keras", [], resilient_parsing=True)
    options = {o: p for p in main.get_command(context, command).params for o in p.opts}
    for former, present in FORMER[command].items():
        assert present in options
        assert former not in options
        value = "" if options[present].is_flag else "=x"
        result = stm(command, former + value, "--help")
        assert result.exit_code == 0
        assert result.stderr == f"`{former}` is now called `{present}`.\n"


def test_a_former_name_means_what_the_new_one_does(tmp_path):
    data = write_dataset(tmp_path / "scans.h5", count=16, sessions=4)
    for name in ("--start", "--model"):
        result = stm("adapt", data, "-o", tmp_path / "run", name, tmp_path / "no.keras")
        check_error(result, 3, "no.keras: no such file")
