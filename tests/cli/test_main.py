"""The command group: help, what is loaded when, and errors as one line."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from helpers import ONCE, REPOSITORY, check_error, stm, stm_process

from stm_keras import __version__
from stm_keras.cli.main import COMMANDS, main

pytestmark = ONCE  # no backend changes what is tested here

HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "h5py", "pydantic", "rich")


def loaded_after(code):
    """Run Python code in a process of its own and list the heavy modules it loaded."""
    told = f"{code}\nimport sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.smoke
def test_help_lists_every_command_with_what_it_does():
    result = stm("--help")
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in result.stdout
        assert text in result.stdout
    assert stm("-h").stdout == result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_opens_with_its_line_in_the_list_and_gives_an_example(name):
    result = stm(name, "--help")
    assert result.exit_code == 0
    usage, first = result.stdout.split("\n\n")[:2]
    assert usage.startswith(f"Usage: main {name} ")
    assert " ".join(first.split()) == COMMANDS[name][1]
    assert f"\n      stm-keras {name}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 92


@pytest.mark.parametrize(
    "error", [KeyError("x\x1b[2J"), RecursionError("deep"), MemoryError()]
)
def test_what_nobody_has_thought_of_is_one_line(error, monkeypatch):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("stm_keras.inference.find_model.shipped_models", fail)
    if not isinstance(error, MemoryError):
        with pytest.raises(type(error)):
            stm("models")
    monkeypatch.delenv("STM_KERAS_TRACEBACK")
    result = stm("models")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    told = "memory of this machine" if isinstance(error, MemoryError) else "test_main.py:"
    assert line.startswith("Error: ")
    assert told in line
    assert "\x1b" not in line


def test_version_is_that_of_the_package():
    assert stm("--version").stdout == f"stm-keras, version {__version__}\n"


def test_help_loads_neither_keras_nor_numpy():
    code = "from stm_keras.cli.main import main\nmain(['--help'], standalone_mode=False)"
    assert loaded_after(code) == "[]"


@pytest.mark.smoke
def test_importing_the_package_costs_nothing():
    assert loaded_after("import stm_keras") == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_does_not_load_keras(name):
    # One process for each would be slow: the module is what decides.
    module = f"stm_keras.cli.{COMMANDS[name][0]}"
    assert module in MODULES_WITHOUT_KERAS or "keras" not in loaded_after(
        f"import {module}"
    )
    MODULES_WITHOUT_KERAS.add(module)


MODULES_WITHOUT_KERAS = set()


def test_unknown_command_is_a_usage_error():
    result = stm("tran")
    assert result.exit_code == 2
    assert "No such command 'tran'" in result.stderr


def test_module_and_console_script_are_the_same():
    done = stm_process("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: stm-keras [OPTIONS] COMMAND")
    assert done.stdout.replace("stm-keras [", "main [") == stm("--help").stdout


@pytest.mark.smoke
def test_missing_file_is_one_line_and_exit_code_3_in_a_real_process(tmp_path):
    done = stm_process("info", tmp_path / "nothing.h5")
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    check_error(done, 3, "nothing.h5: does not exist. Look at the path.")


def test_a_pipe_that_closes_early_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m stm_keras doctor --help | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.stdout == "Usage: stm-keras doctor [OPTIONS]\n"
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is a Linux device")
def test_a_full_disk_behind_stdout_is_one_line(trained_run):
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123  a device, not a file
        done = subprocess.run(
            [sys.executable, "-m", "stm_keras", "analyze", trained_run],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
    assert done.returncode == 1
    told = "Error: Standard output cannot be written (No space left on device).\n"
    assert done.stderr == told


def test_ctrl_c_anywhere_exits_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stm_keras.cli.doctor._probe", interrupted)
    result = stm("doctor")
    assert result.exit_code == 130
    assert result.stderr == "Interrupted.\n"


WITH_A_WAY_OUT = """
import atexit, sys, types
from stm_keras.cli import main as subject
atexit.register(print, "waited")  # as TensorFlow does, now and then for ever
if sys.argv[1] == "tensorflow":
    sys.modules["tensorflow"] = types.ModuleType("tensorflow")
def stopped(group, context):
    print("told")
    {end}
subject.click.Group.invoke = stopped
subject.main(["doctor"])
"""


@pytest.mark.parametrize(
    ("loaded", "end", "code", "told"),
    [
        ("tensorflow", "raise KeyboardInterrupt", 130, "told\n"),
        ("tensorflow", "context.exit(75)", 75, "told\n"),
        ("tensorflow", "context.exit(3)", 3, "told\nwaited\n"),
        ("torch", "raise KeyboardInterrupt", 130, "told\nwaited\n"),
    ],
)
def test_what_was_stopped_does_not_wait_for_tensorflow(loaded, end, code, told):
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_WAY_OUT.format(end=end), loaded],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert (done.returncode, done.stdout) == (code, told)
    assert done.stderr == ("Interrupted.\n" if code == 130 else "")


def test_a_defect_of_ours_is_not_hidden(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("stm_keras.cli.doctor._probe", broken)
    assert isinstance(CliRunner().invoke(main, ["doctor"]).exception, ZeroDivisionError)


@pytest.mark.filterwarnings("always")
def test_a_warning_is_one_line_on_stderr(monkeypatch):
    def warned(name):
        import warnings

        warnings.warn("two\nlines", stacklevel=1)
        return {"installed": False, "works": False, "devices": [], "error": None}

    monkeypatch.setattr("stm_keras.cli.doctor._probe", warned)
    result = stm("doctor", "--json")
    assert set(result.stderr.splitlines()) == {"Warning: two lines"}
    json.loads(result.stdout)
