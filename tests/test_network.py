"""No command talks to another machine: each is run with all such calls refused and counted.

`network/sitecustomize.py` does so in Python, by the interpreter's own audit events, and
`network/refuse.c` in what is written in C, where a compiler is here. Both reach the processes
that a command starts.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, TINY, lattice_scans
from streaming import tiny_stream

from stm_keras.backend import installed_backends
from stm_keras.cli.main import COMMANDS
from stm_keras.export.formats import FORMATS
from stm_keras.inference.model_file import save_model

FOLDER = Path(__file__).parent / "network"
DRIVER = """
import json, os, sys
from click.testing import CliRunner
import stm_keras.export.common, stm_keras.inference.evaluate
from stm_keras.cli.main import main
stm_keras.export.common.NUM_SCANS = 4  # calls do not hang on how many scans are compared
stm_keras.inference.evaluate.LINES_SEEN = (16, 64)
for name, words in json.loads(sys.argv[1]):
    os.environ["STM_KERAS_TEST_CASE"] = name
    told = CliRunner().invoke(main, words)
    print(json.dumps([name, told.exit_code, told.output[-300:], repr(told.exception)]))
"""
CALL_IN_PYTHON = "import socket; socket.socket().connect(('192.0.2.1', 80))"
NAME_IN_PYTHON = "import socket; socket.getaddrinfo('example.org', 80)"
CALL_IN_C = """
import ctypes, struct
libc = ctypes.CDLL(None)
to = struct.pack("=HHI8x", 2, 0x5000, 0x010200C0)
assert libc.connect(libc.socket(2, 1, 0), to, len(to)) == -1
"""
IN_A_CHILD = (
    f"import subprocess, sys; subprocess.run([sys.executable, '-c', {NAME_IN_PYTHON!r}])"
)
WRITES = {  # each format by one backend; ONNX by each, for each has another converter
    "torch": ("keras", "onnx-scan", "openvino", "torch"),
    "tensorflow": ("onnx-scan", "saved-model", "litert"),
    "jax": ("onnx-scan",),
}

pytestmark = ONCE


def cases(backend, data, stream, scan):
    """Return the commands to run beside a backend: list of (name, words).

    Args:
        backend: str.
        data: `Path` of a dataset.
        stream: `Path` of a model that answers after every line.
        scan: `Path` of a scan.
    """
    own = [("train", ["--data", data, "-o", "run", "--epochs", 1, *TINY])]
    for name in WRITES[backend]:
        if all(map(find_spec, FORMATS[name].needs[backend])):
            words = ["run", "--format", name, "-o", f"exported{FORMATS[name].suffix}"]
            own.append(("export", [*words, "--overwrite"]))
    if backend != "torch":
        return own
    settings = [word for word in TINY if word != "--set"]
    Path("tiny.toml").write_text(_toml(settings), encoding="utf-8")
    part = ["--data", data, "--set", "train.epochs=1"]
    Path("votes.csv").write_text("path,rater,label\na,Ada,x\na,Ben,y\n", encoding="utf-8")
    few = ["--model", "h_si100_simulated", "--repeats", 1]
    return [
        ("simulate", ["--count", 8, "-o", "simulated.h5", "--workers", 2]),
        ("simulate", ["--count", 8, "--shards", "shards", "--workers", 1]),
        *own,
        ("export", [stream, "--format", "onnx-step", "-o", "step.onnx"]),
        ("export", ["run", "-o", "half.keras", "--variant", "float16", "--data", data]),
        ("convert", [data, "-o", "converted.h5"]),
        ("info", [data, "--json", "-o", "sheets"]),
        ("info", [scan]),
        ("info", ["run"]),
        ("audit", [data, "--json"]),
        ("analyze", ["run", "--curves", "curves.png"]),
        ("evaluate", ["run", "--data", data, "--split", "all", "-o", "scores"]),
        ("predict", [scan, "--json"]),
        ("predict", [scan, "--report", "report.html", "--pictures", "pictures"]),
        ("predict", ["run", scan, "--backend", backend]),
        ("watch", [scan, "--speed", 0, "--no-page"]),
        ("watch", [scan, "--speed", 0, "--port", 0, "--no-browser"]),
        ("label", ["agreement", "votes.csv"]),
        ("adapt", [data, "-o", "adapted", *few]),
        ("models", ["--json"]),
        ("settings", ["train", "--json"]),
        ("benchmark", ["tiny.toml", *part, "--protocols", "p1", "--only", "tiny:p1:0"]),
        ("submit", ["tiny.toml", *part, "-o", "sweep", "--grid", "seed=1", "--local", 1]),
        (
            "compare",
            ["tiny.toml", "--data", data, "-o", "compared", "--backends", backend]
            + ["--reference", "none", "--steps", 1, "--rounds", 1, "--cores", 1],
        ),
        ("doctor", ["--json"]),
    ]


def _toml(settings):
    sections = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append(f"{name} = {value}")
    return "\n".join(f"[{name}]\n" + "\n".join(rows) for name, rows in sections.items())


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Environment in which calls are refused, and the file in which they are noted."""
    folder = tmp_path_factory.mktemp("network")
    noted = folder / "noted"
    noted.touch()
    environment = {
        **os.environ,
        "STM_KERAS_TEST_NETWORK": str(noted),
        "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, REPOSITORY))),
    }
    compiler = shutil.which("cc")
    if compiler:
        library = folder / "refuse.so"
        words = [compiler, "-shared", "-fPIC", "-o", library, FOLDER / "refuse.c", "-ldl"]
        subprocess.run(words, check=True)
        environment["LD_PRELOAD"] = str(library)
    return environment, noted


@pytest.mark.parametrize(
    ("program", "whom"),
    [
        (CALL_IN_PYTHON, "socket.connect ('192.0.2.1', 80) at "),
        (NAME_IN_PYTHON, "socket.getaddrinfo 'example.org'"),
        (IN_A_CHILD, "socket.getaddrinfo 'example.org'"),
        (CALL_IN_C, "C connect 192.0.2.1"),
    ],
)
def test_a_call_is_refused_and_noted(program, whom, watched):
    environment, noted = watched
    if program == CALL_IN_C and "LD_PRELOAD" not in environment:
        pytest.skip("no C compiler is here")
    noted.write_text("", encoding="utf-8")
    subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert whom in noted.read_text(encoding="utf-8")


def test_every_command_and_every_format_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = cases("torch", "data", "stream", "scan")
    # which calls the controller that a user names, and nobody else
    assert {name for name, _ in given} == set(COMMANDS) - {"connect"}
    assert {*sum(WRITES.values(), ()), "onnx-step"} == set(FORMATS)


@pytest.mark.parametrize("backend", WRITES)
def test_no_command_calls_another_machine(
    backend, watched, dataset_file, tmp_path, monkeypatch
):
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    monkeypatch.chdir(tmp_path)
    np.save("scan.npy", lattice_scans([0])[0])
    made = tiny_stream()
    save_model(made.model, "stream.keras", made.metadata)
    given = cases(backend, dataset_file, "stream.keras", "scan.npy")
    environment, noted = watched
    noted.write_text("", encoding="utf-8")
    words = json.dumps([(name, [name, *map(str, rest)]) for name, rest in given])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, words],
        env={**environment, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [row for row in told if row[1] != 0]
    assert not failed, failed
    assert len(told) == len(given)
    assert noted.read_text(encoding="utf-8") == ""
