"""Fixtures of the whole suite, and the backend that it really runs on."""

import os
import signal
from pathlib import Path

import pytest
from helpers import FEW_LINES, TINY, stm, write_dataset

from stm_keras.backend import import_keras, use_backend

KERAS_FREE = {"data", "evaluation", "readers", "runtime", "simulate", "trees"}
KERAS_FREE |= {"test_errors.py", "test_files.py", "test_scan.py"}

# A shell that runs tests in the background ignores Ctrl-C for them and all their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
use_backend()  # before any test module imports keras


def _part(path):
    """Return the folder or file below tests/ that a path lies in."""
    parts = path.relative_to(Path(__file__).parent).parts
    return parts[0] if parts else ""


def pytest_ignore_collect(collection_path):
    """Leave out what loads no backend where CI says that it was run already."""
    if os.environ.get("KERAS_FREE_TESTED") and _part(collection_path) in KERAS_FREE:
        return True
    return None


def pytest_report_collectionfinish(items):
    """Name the backend, asked of Keras itself, once it is known that tests need it."""
    parts = {_part(item.path) for item in items}
    if parts <= KERAS_FREE:
        return "backend: keras is not loaded by these tests"
    keras = import_keras()
    asked = os.environ["KERAS_BACKEND"]
    told = f"backend: {keras.config.backend()} (keras {keras.__version__}, asked: {asked})"
    before = os.environ.get("KERAS_FREE_TESTED")
    return told + (f"; tests that load no backend ran beside {before}" if before else "")


@pytest.fixture(scope="session")
def dataset_file(tmp_path_factory):
    """HDF5 file of 96 made-up scans in 12 sessions, with votes."""
    return write_dataset(tmp_path_factory.mktemp("data") / "scans.h5")


@pytest.fixture(scope="session")
def train_command(dataset_file):
    """Arguments that train a tiny model for two epochs; -o is still to be added."""
    return ["train", "--data", dataset_file, "--epochs", 2, *TINY]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, train_command):
    """Folder of a finished run of a tiny model. Read only."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stm_keras.inference.evaluate.LINES_SEEN", FEW_LINES)
        result = stm(*train_command, "-o", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def model_file(trained_run):
    """The `.keras` file of `trained_run`. Read only."""
    return trained_run / "best.keras"
