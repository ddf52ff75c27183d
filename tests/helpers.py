"""What several tests share: made-up scans, a small dataset, and the command line."""

import contextlib
import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stm_keras.backend import installed_backends, use_backend
from stm_keras.cli.main import main
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import save_dataset

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared" / "data"
BACKEND = use_backend() if installed_backends() else None  # in an install that only judges
LIGHT = "jax" if BACKEND and find_spec("jax") else BACKEND  # imported in half of the time
ONCE = pytest.mark.once  # of what no backend changes, and of processes that choose one
SEPARATE = (  # stdout and stderr, as click does by itself from 8.2 on
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)
FEW_LINES = (16, 64)  # instead of the ten lengths at which a model is scored
TINY = (  # settings of a run that is over in seconds
    *("--set", "model.width=4", "--set", "model.dropout=0", "--set", "train.batch_size=16"),
    *("--set", "train.learning_rate=0.01", "--set", "augment.rotate=0"),
    *("--set", "augment.cut=0"),
)


@contextlib.contextmanager
def logged():
    """Collect what the package logs of its progress: list of str."""
    logger, handler, messages = logging.getLogger("stm_keras"), logging.Handler(), []
    handler.emit = lambda record: messages.append(record.getMessage())
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def lattice_scans(labels, seed=0, lines=128, pixels=128):
    """Make up scans whose lattice tells the class: fine, coarse, rows, noise.

    Args:
        labels: int array of shape `(scans,)`. From 3 on there is only noise.
        seed: int.
        lines, pixels: int.

    Returns:
        uint8 array of shape `(scans, lines, pixels)`.
    """
    rng = np.random.default_rng(seed)
    line, pixel = np.mgrid[:lines, :pixels]
    scans = []
    for label in labels:
        phase = rng.uniform(0, 2 * np.pi, 2)
        across = np.sin(2 * np.pi * pixel / 16 + phase[0])
        along = np.sin(2 * np.pi * line / 8 + phase[1])
        height = {
            0: across * along + np.sin(2 * np.pi * pixel / 5 + phase[1]),
            1: across + along,
            2: across,
        }.get(int(label), np.zeros((lines, pixels))) + rng.normal(0, 0.3, (lines, pixels))
        height -= height.min()
        scans.append(np.round(height * (254 / height.max())))
    return np.array(scans, np.uint8)


def made_up_dataset(count=96, sessions=12, voted=True, seed=0, **changes):
    """Make up a dataset of complete scans, each class as often and in every session.

    Args:
        count: int. Number of scans, a multiple of 4.
        sessions: int. Number of sessions, 0 for unknown ones.
        voted: bool. Whether raters voted: one, or two that agree.
        seed: int.
        **changes: Fields of the `Dataset` that differ.

    Returns:
        `Dataset`.
    """
    labels = np.arange(count) % len(CLASSES)
    fields = {
        "images": None if "images" in changes else lattice_scans(labels, seed),
        "labels": labels,
        "classes": CLASSES,
        "lines": np.full(count, 128),
        "name": np.array([f"scan_{i}.sxm" for i in range(count)]),
        "source": "made up",
    }
    if sessions:
        fields["session"] = np.array([f"day {i // 4 % sessions}" for i in range(count)])
    if voted:
        fields["votes"] = np.eye(len(CLASSES), dtype=np.float32)[labels]
        fields["raters"] = 1 + (np.arange(count) % 5 > 1)
        fields["unanimous"] = np.ones(count, bool)
    return Dataset(**{**fields, **changes})


def write_dataset(path, **arguments):
    """Write `made_up_dataset(**arguments)` to an HDF5 file and return its path."""
    save_dataset(made_up_dataset(**arguments), path)
    return path


def stm(*arguments):
    """Run `stm-keras` in this process and return click's result.

    An exception that the command line did not turn into a message fails the test.
    """
    result = CliRunner(**SEPARATE).invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def stm_process(*arguments, **options):
    """Run `python -m stm_keras` in a process of its own and return what it gave."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "stm_keras", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        **options,
    )


def other_locale(folder):
    """Return the environment of a locale that is not UTF-8: Latin-1, or what there is."""
    name = "de_DE.ISO-8859-1"
    if shutil.which("localedef"):
        command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", folder / name]
        subprocess.run(command, capture_output=True)
    if (folder / name).is_dir():
        return {"LOCPATH": str(folder), "LC_ALL": name}
    return {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def check_error(result, code, *phrases):
    """See that a command failed with this exit code and one clear line on stderr.

    Args:
        result: what `stm` or `stm_process` returned.
        code: int.
        *phrases: str. What the line must say.

    Returns:
        str. The line.
    """
    given = getattr(result, "exit_code", None)
    given = result.returncode if given is None else given
    last = result.stderr.rstrip("\n").split("\n")[-1]
    assert given == code, result.stderr
    assert last.startswith("Error: "), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("Error: ") == 1, result.stderr
    for phrase in phrases:
        assert phrase in last, f"{phrase!r} is not in: {last}"
    return last


def leaves(node, place=()):
    """Yield the place of every value in JSON: tuples of keys and numbers."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*place, key))


def replaced(node, place, value):
    """Return a copy of JSON with another value at a place."""
    copy = json.loads(json.dumps(node))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy
