"""`stm-keras watch`: judge a scan while it is recorded."""

import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

import click

from stm_keras.cli import options
from stm_keras.cli.pages import load_any, open_server, page_options, show_page
from stm_keras.errors import OutputError, StmKerasError, UsageError
from stm_keras.signals import INTERRUPTED
from stm_keras.terminal import as_is, redraw, shell

INSTEAD = "; or leave the page out: --no-page"
WATCHING = "Watching {}. Verdicts are written to {}. Ctrl-C ends it."


@click.command()
@click.argument("source", required=False)
@click.option("--model", type=options.PATH, help="Model file, run, or shipped model.")
@click.option(
    "--log",
    "folder",
    type=options.PATH,
    default="live",
    show_default=True,
    help="Folder of the logs, one file a day and source.",
)
@click.option("--no-page", is_flag=True, help="Without a page in the browser.")
@page_options(8765)
@click.option(
    "--ports", type=options.Ports(), help="Of Nanonis: one to wait at, one to ask."
)
@click.option(
    "--every",
    type=click.FloatRange(0),
    help="Least seconds between two questions to Nanonis for its picture. Default: 0.5.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0),
    help="Lines a second of files and simulated scans; 0: as fast as it goes. Default: the "
    "file's own, else 10.",
)
@click.option("--channel", help='Image to judge, such as "Current" or "Z backward".')
@options.as_json
@click.option(
    "--on-bad-command",
    metavar="COMMAND",
    help='Program to start at a bad tip, such as "beep {class}"; no shell. JSON on its stdin.',
)
@click.option("--on-bad-url", metavar="URL", help="Address to POST JSON to at a bad tip.")
@click.option(
    "--on-bad-header",
    metavar="NAME:WHERE",
    multiple=True,
    help="Header for it, from a file or variable: Authorization:env:TOKEN, ...:file:PATH.",
)
@click.option(
    "--serve-json",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Send all records as JSON lines to whoever connects, on 127.0.0.1.",
)
@click.option(
    "--bad",
    metavar="CLASS",
    multiple=True,
    help="Class of a bad tip; may be repeated. Default: generic defects, if the model has it.",
)
@click.option("--alarm-at", type=float, default=0.7, show_default=True)
@click.option("--release-at", type=float, default=0.4, show_default=True)
@click.option("--alarm-lines", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--quiet-after",
    type=click.IntRange(1),
    metavar="N",
    help="No more alarms after so many that nobody answered.",
)
@click.option("--wire", type=options.PATH, help="File for every command sent to Nanonis.")
@click.option(
    "--context/--no-context",
    default=True,
    show_default=True,
    help="Also judge the first lines of a scan by the scans before it: a second verdict.",
)
@click.option("--replay-log", type=options.PATH, help="Show a log again; without SOURCE.")
@click.option("--report", type=options.PATH, help="With --replay-log: HTML page to write.")
@options.overwrite
def watch(source, replay_log, report, overwrite, as_json, **chosen):
    """Judge the tip while the scan runs.

    There is a verdict after every line, on the scan and on the tip of now. SOURCE is a Nanonis
    controller (nanonis://HOST), a folder into which scans are saved, a scan file or dataset
    that is played as if it were recorded now, "simulated" for a microscope that is none,
    push://127.0.0.1:PORT for lines from any program, or - for its standard input.

    Nothing is ever written to the microscope. An alarm is raised where the probability of a
    bad class reaches --alarm-at on --alarm-lines lines in a row, and cleared below
    --release-at; also at a tip change, on an unknown surface, and where the source is lost.
    Each record goes to the log, and with --json to standard output (docs/live.md). A page in
    the browser shows all of it, on this computer alone (extra `live`); --no-page does without.

    \b
        stm-keras watch simulated
        stm-keras watch nanonis://stm-pc --on-bad-command "notify {class}"
        stm-keras watch /data/2026-11-29
        stm-keras watch --replay-log live/2026-11-29-simulated.jsonl --report day.html
    """
    if replay_log is not None:
        if source is not None:
            raise UsageError("`--replay-log`: shows a log. Leave SOURCE out.")
        _replay(replay_log, report, overwrite, as_json)
        return
    if source is None:
        from stm_keras.live.open_source import SOURCES

        raise UsageError(f"SOURCE is missing: {SOURCES}.")
    if report is not None:
        raise UsageError("`--report`: is written of a log. Add --replay-log FILE.")
    with ExitStack() as stack:
        watching = _open(stack, source, as_json, **chosen)
        reason, code = "the source ended", 0
        try:
            with _signals(watching.interrupt):
                watching.run()
        except KeyboardInterrupt as error:
            reason, code = str(error) or "interrupted", INTERRUPTED
        except StmKerasError as error:
            reason = str(error)
            raise
        finally:
            watching.stop(reason)
    if code:
        options.say("Stopped.")
        click.get_current_context().exit(code)


def _usual_bad(classes):
    """Return the classes of a bad tip that a model knows; say so where it knows none."""
    from stm_keras.live.alarms import BAD

    bad = tuple(name for name in BAD if name in classes)
    if not bad:
        options.say(
            f"No alarm at a bad tip: name its class of {', '.join(classes)}, such as --bad "
            f"{shell([classes[-1]])}."
        )
    return bad


def _open(stack, source, as_json, *, model, folder, no_page, **chosen):
    """Open all that a watch needs, what listens first, the microscope last."""
    from stm_keras.live.alarms import Alarms
    from stm_keras.live.hooks import Hooks
    from stm_keras.live.log import EventLog
    from stm_keras.live.open_source import open_source
    from stm_keras.live.subscribers import Subscribers
    from stm_keras.live.watch import Watch

    server = None if no_page else open_server(stack, chosen, INSTEAD)
    file, predictor = load_any(model)
    alarms = Alarms(
        chosen["bad"] or _usual_bad(predictor.classes),
        chosen["alarm_at"],
        chosen["release_at"],
        chosen["alarm_lines"],
        chosen["quiet_after"],
        predictor.classes,
    )
    hooks = Hooks(chosen["on_bad_command"], chosen["on_bad_url"], chosen["on_bad_header"])
    stack.callback(hooks.close)
    sinks = [hooks.push]
    if source != "-":  # whose answers go to standard output
        sinks.append(_printer(as_json).push)
    if chosen["serve_json"] is not None:
        served = Subscribers(chosen["serve_json"])
        stack.callback(served.close)
        options.say(f"Records are sent to whoever connects to 127.0.0.1:{served.port}.")
        sinks.append(served.send)
    names = ("channel", "speed", "every", "ports")
    log = stack.enter_context(EventLog(folder, source))
    board = None
    if server is not None:
        from stm_keras.web.watch_page import serve

        board = serve(server, predictor, alarms.bad, log.path())
        sinks.append(board.push)
    opened = open_source(
        source,
        seen=log.judged_files(),
        wire=chosen["wire"] and stack.enter_context(_wire(chosen["wire"])),
        **{name: chosen[name] for name in names},
    )
    stack.callback(opened.close)
    watching = Watch(opened, predictor, log, alarms, sinks, hooks, board, chosen["context"])
    options.say(WATCHING.format(source, log.path()))
    if server is not None:
        show_page(server, chosen)
    settings = {"log": str(folder), "no_page": no_page, **chosen}
    about = _about(file, predictor)
    watching.emit("run", source=source, **about, settings=_plain(settings))
    return watching


@contextmanager
def _wire(path):
    """Yield a callable that writes down a command for Nanonis, each with its time."""
    try:
        file = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from None

    def write(text):
        with suppress(OSError):  # of a full disk, which must not end a connection
            file.write(f"{datetime.now().isoformat()} {text}\n")

    try:
        yield write
    finally:
        with suppress(OSError):
            file.close()


def _about(file, predictor):
    """Return what a `run` record says of the program and its model."""
    import hashlib
    import platform

    import numpy

    from stm_keras import __version__

    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {
        "versions": {
            "stm_keras": __version__,
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "system": platform.platform(),
        },
        "model": {"name": file.name, "sha256": digest},
        "classes": list(predictor.classes),
        "pid": os.getpid(),
    }


def _plain(settings):
    """Return settings without what may hold a secret: commands and addresses."""
    hidden = {
        name: "..." for name in ("on_bad_command", "on_bad_url", "token") if settings[name]
    }
    return settings | hidden


def _printer(as_json):
    """Return what shows records: JSON lines, a line each, or one line that is redrawn."""
    if as_json:
        return JsonPrinter()
    return TerminalPrinter() if sys.stdout.isatty() else LinePrinter()


class JsonPrinter:
    """Prints each record as a line of JSON."""

    def push(self, record):
        """Print a record."""
        click.echo(json.dumps(record, ensure_ascii=False, allow_nan=False))


class LinePrinter:
    """Prints a line for each record."""

    def push(self, record):
        """Print a record."""
        from stm_keras.live.describe import describe

        text = describe(record)
        if text is not None:
            click.echo(text)


class TerminalPrinter:
    """Redraws one line for the lines of a scan, and prints what is more than that."""

    def push(self, record):
        """Show a record."""
        from stm_keras.live.describe import describe

        text = describe(record)
        if text is None:
            return
        if record["event"] == "line":
            redraw(text, sys.stdout)
            return
        redraw("", sys.stdout)
        click.echo(text)
        if record["event"] == "alarm":
            bell = as_is(sys.stdout)
            bell.write("\a")
            bell.flush()


@contextmanager
def _signals(handler):
    """Let Ctrl-C, SIGTERM, and what closes a window on Windows, end the watching alike."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _replay(path, report, overwrite, as_json):
    """Show a log again, and write its page."""
    from stm_keras.files import check_outputs
    from stm_keras.live.records import read_log

    check_outputs({"--report": report}, [path])
    printer = _printer(as_json)
    if isinstance(printer, TerminalPrinter):
        printer = LinePrinter()
    records = read_log(path)
    if report is None:
        for record in records:
            printer.push(record)
    else:
        from stm_keras.live.day import summarise
        from stm_keras.reports.watch_day import write_day

        write_day(report, summarise(records), overwrite)
        options.say(f"Report: {report}")
    if records.skipped:
        lines = "1 line is" if records.skipped == 1 else f"{records.skipped} lines are"
        options.say(f"{path}: {lines} not of a watch, and left out.")
