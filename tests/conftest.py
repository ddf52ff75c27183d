"""Fixtures of the whole suite, and the backend that it really runs on."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import BACKEND, FEW_LINES, TINY, stm, write_dataset

from stm_keras.backend import import_keras

KERAS_FREE = {
    "data",
    "evaluation",
    "live",
    "readers",
    "reports",
    "simulate",
    "trees",
    "web",
}
KERAS_FREE |= {
    "fuzz",
    "test_errors.py",
    "test_files.py",
    "test_untrusted.py",
    "test_memory.py",
}
KERAS_FREE |= {"test_scan.py"}
JUDGES = {
    "test_acting_examples.py",
    "test_examples.py",
    "test_scanbot.py",
}  # needs no Keras

MOST_PROCESSES = 4  # each holds up to three backends, which is 2 GB
ONE_THREAD = {  # threads of several processes would wait for one another
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TF_NUM_INTRAOP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
BLANK = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63f80f0001010100b138f6140000000049454e44ae426082"
)
backends_seen = set()  # what the processes that run tests told of themselves

# A shell that runs tests in the background ignores Ctrl-C for them and all their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["STM_KERAS_TRACEBACK"] = "1"  # what nobody has thought of fails a test, whole


def _part(path):
    """Return the folder or file below tests/ that a path lies in."""
    parts = path.relative_to(Path(__file__).parent).parts
    return parts[0] if parts else ""


def pytest_ignore_collect(collection_path):
    """Leave out what was run already, as CI says, and what needs a backend where is none."""
    part = _part(collection_path)
    if os.environ.get("KERAS_FREE_TESTED") and part in KERAS_FREE:
        return True
    if BACKEND is None and part and part not in (KERAS_FREE | JUDGES) - {"trees"}:
        return True
    return None


def pytest_collection_modifyitems(config, items):
    """Leave out tests that no backend changes where CI says that they ran beside another."""
    if not os.environ.get("KERAS_FREE_TESTED"):
        return
    once = [item for item in items if item.get_closest_marker("once")]
    items[:] = [item for item in items if not item.get_closest_marker("once")]
    config.hook.pytest_deselected(items=once)


def pytest_pycollect_makemodule(module_path):
    """Load Keras as the package does: before a test imports it with all that it drags in.

    What a backend prints when it is loaded is printed before a test looks at what is.
    """
    if BACKEND and _part(module_path) not in KERAS_FREE:
        import_keras(tensorflow=True)


def pytest_xdist_auto_num_workers(config):
    """One process more than processors, as some tests wait; none where files are named."""
    if any(".py" in argument for argument in config.args):
        return 0
    return min(len(os.sched_getaffinity(0)) + 1, MOST_PROCESSES)


def pytest_xdist_setupnodes():
    """Have each process, and all that its tests start, compute on one thread."""
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)


def _backend_in_use():
    """Name the backend, asked of Keras itself, if any test module loaded it."""
    keras = sys.modules.get("keras")
    if keras is None:
        return "keras is not loaded by these tests"
    asked = os.environ["KERAS_BACKEND"]
    return f"{keras.config.backend()} (keras {keras.__version__}, asked: {asked})"


def pytest_sessionfinish(session):
    """Tell the process that began the run, where this is another, what backend was used."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["backend"] = _backend_in_use()


def pytest_testnodedown(node):
    """Note what backend a process used, unless it crashed."""
    backends_seen.add(getattr(node, "workeroutput", {}).get("backend", "?"))


def pytest_terminal_summary(terminalreporter):
    """Name the backend that the tests really ran on."""
    seen = backends_seen or {_backend_in_use()}
    before = os.environ.get("KERAS_FREE_TESTED")
    told = f"backend: {'; '.join(sorted(seen))}"
    terminalreporter.write_line(
        told + (f"; tests that load no backend ran beside {before}" if before else "")
    )


@pytest.fixture(autouse=True)
def _blank_figures(request, monkeypatch):
    """Draw no figure where something else is tested: a report costs what a tiny training costs."""
    if _part(request.path) in KERAS_FREE or BACKEND is None:
        return
    if request.node.get_closest_marker("figures"):
        return

    def savefig(figure, file, **options):
        file.write(BLANK)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


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


@pytest.fixture
def facts(monkeypatch):
    """Change what files of models say of themselves: call it with what differs."""
    from stm_keras.inference import model_file

    real = model_file.load_predictor

    def change(**changed):
        def load(path):
            predictor = real(path)
            return replace(predictor, metadata={**predictor.metadata, **changed})

        monkeypatch.setattr(model_file, "load_predictor", load)

    return change
