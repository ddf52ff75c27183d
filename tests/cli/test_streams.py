"""Standard input, output and error as users have them: closed, broken, full, narrow, hostile."""

import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import warnings
from types import SimpleNamespace

import click
import numpy as np
import pytest
from helpers import (
    LIGHT,
    ONCE,
    REPOSITORY,
    lattice_scans,
    made_up_dataset,
    other_locale,
    stm,
)
from scan_files import sxm

from stm_keras.data.load import save_dataset
from stm_keras.terminal import Outlet, columns, one_line, printable, redraw, shell

fcntl, termios = map(pytest.importorskip, ("fcntl", "termios"))  # not on Windows
pytestmark = ONCE

EVIL = "\x1b[31mEVIL\x1b]0;owned\x07\x9b2J\u202egnp[red]m[/red]"
SHOWN = r"\x1b[31mEVIL\x1b]0;owned\x07\x9b2J\u202egnp[red]m[/red]"
OURS = re.compile(rb"\x1b\[[0-9;]*m|\x1b\[(K|2K|1A|\?25[lh])")  # colours, and of bars
COMMANDS = """
import json, sys
from stm_keras.cli.main import main
for command in json.load(open(sys.argv[1])):
    try:
        main(command)
    except SystemExit:
        pass
"""


def in_terminal(*command, width=80, env=None):
    """Run Python in a terminal of its own; return its exit code and all that it showed."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
    environment |= env or {}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        **dict.fromkeys(("stdin", "stdout", "stderr"), slave),
        env=environment,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    os.close(slave)
    told = b""
    try:
        while part := os.read(master, 65536):
            told += part
    except OSError:  # of a terminal that nobody holds any more
        pass
    os.close(master)
    return process.wait(), told


def in_shell(text):
    """Run a line of bash in which `stm` is the command."""
    call = f'stm() {{ "{sys.executable}" -m stm_keras "$@"; }}; {text}'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(["bash", "-c", call], capture_output=True, env=environment)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A folder whose names, and the names in its files, are escape sequences."""
    folder = tmp_path_factory.mktemp("evil")
    heights = lattice_scans([0])[0] * 1e-12
    (folder / "scans").mkdir()
    for name in (f"{EVIL.replace('/', '')}.sxm", "new\nline.sxm"):
        (folder / "scans" / name).write_bytes(sxm({"Z": ("m", heights, heights)}))
    other = sxm({"Z": ("m", heights, heights), f"I{EVIL}": ("A", heights, heights)})
    (folder / "channel.sxm").write_bytes(other)
    (folder / "short.sxm").write_bytes(other[:-5])
    classes = (f"a{EVIL}", "b", "c", "d")
    session = np.array([f"s{i // 4 % 12}{EVIL}" for i in range(96)])
    made = made_up_dataset(classes=classes, session=session, source=EVIL, voted=False)
    save_dataset(made, folder / "scans.h5")
    return folder


@pytest.fixture(scope="module")
def shown(evil, trained_run):
    """What a terminal got of the commands that show names of others."""
    folder, data = evil / "scans", evil / "scans.h5"
    run = evil / f"run{EVIL.replace('/', '')}"
    run.symlink_to(trained_run)
    commands = [
        ["info", folder],
        ["info", evil / "channel.sxm"],
        ["info", evil / "channel.sxm", "--channel", f"Q{EVIL}"],
        ["info", data, "--overwrite"],
        ["info", data, "--json", "--overwrite"],
        ["info", run],
        ["info", evil / "short.sxm"],
        ["info", f"nothing{EVIL}"],
        ["audit", data],
        ["predict", folder, evil / "short.sxm"],
        ["predict", folder, "--csv"],
        ["predict", folder, "--json"],
        ["analyze", run],
        ["analyze", run, trained_run],
        ["train", "--data", f"nothing{EVIL}.h5"],
        ["train", "--set", f"train.{EVIL}=1"],
        ["train", f"{EVIL}.toml"],
        ["convert", data, "-o", evil / f"copy{EVIL.replace('/', '')}.h5"],
        ["simulate", "--count", "2", "-o", evil / f"sim{EVIL.replace('/', '')}.h5"],
        ["evaluate", f"nothing{EVIL}", "--data", data],
        ["export", f"nothing{EVIL}", "-o", evil / "a.onnx"],
        [f"{EVIL}"],
    ]
    (evil / "commands.json").write_text(
        json.dumps([[str(word) for word in words] for words in commands])
    )
    code, told = in_terminal("-c", COMMANDS, evil / "commands.json")
    assert code == 0, told
    return told


def test_no_name_from_a_file_is_obeyed_by_a_terminal(shown):
    rest = OURS.sub(b"", shown).decode()
    assert b"\x1b[" in shown, "a terminal gets colours"
    found = re.findall(
        "[^\n]{,30}[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e].*", rest
    )
    assert not found
    assert b"\x1b[31mEVIL" not in shown


def test_names_are_shown_as_what_they_are(shown):
    text = shown.decode().replace("\r\n", "\n")
    assert text.count(SHOWN) > 20, "brackets are no markup, and nothing is left out"
    assert "Traceback" not in text
    assert r"new\nline.sxm" in text  # a row of a table stays one row
    assert f"No such command '{SHOWN}'" in text or f"No such command {SHOWN!r}" in text


SHARED = REPOSITORY.parent / "shared" / "cases" / "hostile"


@pytest.mark.parametrize("name", ["channel_escape.sxm", "session_esc.h5"])
def test_known_files_with_escape_sequences_are_harmless(name, tmp_path):
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is not here; `evil` is such a folder")
    commands = [["info", str(SHARED / name), "--overwrite", "-o", str(tmp_path / "x")]]
    commands += [[what, str(SHARED / name)] for what in ("info", "audit", "predict")]
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    code, told = in_terminal("-c", COMMANDS, tmp_path / "commands.json")
    assert code == 0
    assert b"Traceback" not in told
    rest = OURS.sub(b"", told).decode()
    assert set(re.findall("[\x00-\x1f\x7f-\x9f]", rest)) <= set("\r\n\t"), rest


def test_a_command_that_thinks_of_nothing_is_safe_all_the_same(monkeypatch):
    @click.command()
    def careless():
        click.echo(f"echo {EVIL}")
        print(f"print {EVIL}")
        sys.stdout.write(f"write {EVIL}\n")
        click.echo(f"error {EVIL}", err=True)
        print(f"stderr {EVIL}", file=sys.stderr)
        warnings.warn(f"warning {EVIL}", stacklevel=1)
        logging.getLogger("careless").error("log %s", EVIL)
        logging.lastResort.stream.write(f"handler {EVIL}\n")

    monkeypatch.setattr("stm_keras.cli.export.models", careless)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = stm("models")
    assert result.exit_code == 0
    assert result.stdout == "".join(
        f"{how} {SHOWN}\n" for how in ("echo", "print", "write")
    )
    for how in ("error", "stderr", "Warning: warning", "handler"):
        assert f"{how} {SHOWN}\n" in result.stderr
    assert not set(result.output) & set("\x1b\x07\x9b\u202e")


def test_rich_draws_names_as_they_are(monkeypatch):
    from stm_keras.terminal import console

    class Terminal:
        def __init__(self):
            self.told = ""

        def write(self, text):
            self.told += text

        def flush(self):
            pass

        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Outlet(terminal))
    console().print(EVIL.replace("\a", ""), style="bold", soft_wrap=True)
    assert terminal.told == f"\x1b[1m{SHOWN}\x1b[0m\n".replace(r"\x07", "")


def test_a_latin_1_terminal_gets_its_letters_and_the_rest_as_escapes(evil, tmp_path):
    locale = other_locale(tmp_path)
    if "LOCPATH" not in locale:
        pytest.skip("no localedef here; test_names.py asks by PYTHONIOENCODING")
    (tmp_path / "Å-Ω.sxm").write_bytes((evil / "channel.sxm").read_bytes())
    words = ["-m", "stm_keras", "predict", tmp_path / "Å-Ω.sxm"]
    code, told = in_terminal(*words, width=200, env=locale)
    assert code == 0
    assert b"\xc5-\\u03a9.sxm" in told
    assert "µ".encode() not in told


def test_what_machines_read_is_not_changed(evil):
    path = f"{evil}/scans"
    rows = [json.loads(row) for row in stm("predict", path, "--json").stdout.splitlines()]
    assert {row["path"] for row in rows} == {
        f"{path}/{EVIL.replace('/', '')}.sxm",
        f"{path}/new\nline.sxm",
    }
    table = stm("predict", path, "--csv").stdout
    assert len(table.splitlines()) == 3
    assert r"new\nline.sxm" in table


def test_a_command_is_written_as_a_shell_reads_it():
    words = ["train", "a b", "it's", "esc\x1b'\\", "scan_\udcb5.sxm", "µ", "two\nlines"]
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {shell(words)}"], capture_output=True, check=True
    )
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == words
    assert printable(shell(words)) == shell(words)
    assert one_line("a\tb\nc") == r"a\tb\nc"


@pytest.mark.parametrize("width", [20, 40])
def test_a_line_of_progress_fits_a_narrow_terminal(width):
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with os.fdopen(slave, "w") as stream:
        assert columns(stream) == width
        redraw(f"epoch 1/2  step 3/9  [{'#' * 24}]{EVIL}", Outlet(stream))
    told = os.read(master, 1000)
    os.close(master)
    line = told.removeprefix(b"\r").removesuffix(b"\x1b[K")
    assert len(line) == width - 1
    assert line.startswith(b"epoch 1/2  step 3/9")


@pytest.mark.parametrize("width", [20, 40])
def test_help_tables_and_bars_fit_a_narrow_terminal(width, evil):
    (evil / "plain").mkdir(exist_ok=True)
    heights = lattice_scans([0])[0] * 1e-12
    name = f"{'long' * 9}.sxm"
    (evil / "plain" / name).write_bytes(sxm({"Z": ("m", heights, heights)}))
    commands = [["predict", "--help"], ["predict", str(evil / "plain")]]
    commands.append(["simulate", "--count", "300", "-o", str(evil / f"bar{width}.h5")])
    (evil / "narrow.json").write_text(json.dumps(commands))
    code, told = in_terminal("-c", COMMANDS, evil / "narrow.json", width=width)
    assert code == 0
    assert b"Traceback" not in told
    text = OURS.sub(b"", told).decode()
    assert "--every-line" in text
    table = text[text.index("file  ") :].splitlines()
    assert table[1].startswith("…onglong.sxm  ")
    bars = re.findall(r"\r(simulating[^\r\n]*)", text)
    assert all(len(bar) <= width for bar in bars)


def test_a_training_goes_on_when_nobody_reads_its_messages(train_command, tmp_path):
    words = shell([*map(str, train_command), "-o", str(tmp_path / "run")])
    done = in_shell(f"stm {words} 2>&1 | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (141, b"")
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert len(lines) == 3, "a head, and a row for each epoch"
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_verdicts_that_nobody_reads_any_more_are_no_success(evil):
    done = in_shell(f"stm predict {evil}/scans | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (141, b"")
    assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    ("streams", "keras"),
    [
        ("2>&-", False),
        ("2>/dev/full", False),
        ("<&- >&- 2>&-", False),
        ("<&- >&- 2>&-", True),
    ],
)
def test_a_command_works_where_streams_are_closed_or_full(streams, keras, evil):
    more = ["--backend", LIGHT or "torch"] if keras else []
    words = ["predict", str(evil / "channel.sxm"), str(evil / "short.sxm"), *more]
    done = in_shell(f"stm {shell(words)} {streams}")
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.count(b"\n") == (4 if streams.startswith("2") else 0)


def test_a_list_from_a_closed_stream_is_empty():
    done = in_shell("stm predict - <&-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stream_is_not_given_to_the_next_file(tmp_path):
    code = (
        "import os; from stm_keras.terminal import standard_streams\n"
        "with standard_streams(): os.write(3, str(os.open('/', os.O_RDONLY)).encode())"
    )
    told = tmp_path / "told"
    subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" 3>{told} <&- >&- 2>&-', sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    assert int(told.read_text()) > 3


FINDER = """
import os, signal, sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"] and self in sys.meta_path:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
            except KeyboardInterrupt:
                if "SWALLOWED" in os.environ:
                    raise ImportError("initialization failed")
                raise

sys.meta_path.insert(0, Interrupted())
"""


@pytest.mark.parametrize(
    ("module", "swallowed"),
    [
        ("click", False),
        ("stm_keras.cli.main", False),
        ("stm_keras.cli.predict", False),
        ("onnxruntime", False),
        ("onnxruntime", True),  # as a C extension does
        ("keras", True),
    ],
)
def test_ctrl_c_while_importing_is_one_line(module, swallowed, tmp_path, evil):
    (tmp_path / "sitecustomize.py").write_text(FINDER)
    environment = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "INTERRUPTED_AT": module}
    environment |= {"SWALLOWED": "1"} if swallowed else {}
    keras = ["--backend", LIGHT or "torch"] if module == "keras" else []
    done = subprocess.run(
        [sys.executable, "-m", "stm_keras", "predict", evil / "channel.sxm", *keras],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_a_pipe_that_is_full_loses_a_message_and_no_more():
    def full(text):
        raise BlockingIOError

    Outlet(SimpleNamespace(write=full)).write("a message")
    with pytest.raises(BlockingIOError):
        Outlet(SimpleNamespace(write=full), needed=True).write("a verdict")
