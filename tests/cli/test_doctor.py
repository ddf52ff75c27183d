"""`stm-keras doctor`: what is there, and what to type for what is not."""

import json
import subprocess
import sys

import keras
import pytest
from helpers import ONCE, stm

from stm_keras import __version__
from stm_keras.backend import installed_backends
from stm_keras.cli import doctor as subject

pytestmark = ONCE  # no backend changes what is tested here

WORKS = {
    "installed": True,
    "works": True,
    "devices": ["cpu"],
    "gflops": 90.0,
    "error": None,
}
MISSING = {**WORKS, "installed": False, "works": False, "devices": [], "gflops": None}
BROKEN = {**MISSING, "installed": True, "error": "no libfoo.so"}


@pytest.fixture
def backends(monkeypatch):
    """States of the three backends, which a test may change before it calls."""
    states = {"tensorflow": WORKS, "jax": WORKS, "torch": WORKS}
    monkeypatch.setattr(subject, "_probe", states.__getitem__)
    return states


def test_json_names_versions_backends_folders_and_advice(backends):
    result = stm("doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["stm_keras"] == __version__
    assert report["packages"]["keras"] == keras.__version__
    assert report["backends"] == backends
    assert report["default_backend"] == keras.config.backend()
    assert report["folders"]["keras"]
    assert isinstance(report["advice"], list)


def test_text_marks_the_default_backend(backends):
    text = stm("doctor").stdout
    assert text.startswith(f"stm-keras {__version__}, Python ")
    assert f"backend   {keras.config.backend()} (default): cpu, 90 GFLOP/s\n" in text
    assert text.count("(default)") == 1
    assert f"keras {keras.__version__}" in text


def test_the_backend_that_multiplies_fastest_is_named(backends):
    backends |= {"jax": {**WORKS, "gflops": 120.0}, "torch": {**WORKS, "gflops": 60.0}}
    text = stm("doctor").stdout
    assert (
        "fastest   jax multiplies matrices fastest here: 1.33 times tensorflow, 2.00"
        in text
    )
    backends |= {"jax": MISSING, "torch": BROKEN}
    assert "fastest" not in stm("doctor").stdout


def test_a_missing_backend_gives_the_line_to_type(backends):
    backends["jax"] = MISSING
    text = stm("doctor").stdout
    assert "jax: not installed" in text.replace(" (default)", "")
    assert 'For the jax backend: pip install ".[jax]"' in text


def test_a_broken_backend_gives_its_own_reason(backends):
    backends["torch"] = BROKEN
    text = stm("doctor").stdout
    assert "torch is installed but does not start: no libfoo.so" in text
    assert "torch: does not start" in text.replace(" (default)", "")


@pytest.mark.parametrize(
    ("absent", "still"),
    [("onnxruntime", ""), ("scipy", " (scans can be judged, by onnxruntime)")],
)
def test_without_any_backend_it_says_what_can_be_done(absent, still, backends, monkeypatch):
    backends.update(dict.fromkeys(backends, MISSING))
    monkeypatch.setattr(subject, "_version", lambda name: None if name == absent else "1")
    advice = json.loads(stm("doctor", "--json").stdout)["advice"]
    start = f"No backend works, so nothing can be trained{still}: pip install"
    assert advice[0].startswith(start)


def test_a_missing_package_is_named(backends, monkeypatch):
    monkeypatch.setattr(subject, "_version", lambda name: None if name == "scipy" else "1")
    text = stm("doctor").stdout
    assert "scipy missing" in text
    assert "scipy is missing; it comes with every backend extra." in text


def test_an_unwritable_keras_folder_is_named(backends, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file" / "keras"))
    monkeypatch.setattr(subject.os, "access", lambda *_: False)
    text = stm("doctor").stdout
    assert f"folder    keras: {tmp_path / 'file' / 'keras'}" in text
    assert "Keras cannot write its folder: set KERAS_HOME to one it can." in text


@pytest.mark.parametrize("backend", installed_backends())
def test_a_backend_is_started_in_a_process_of_its_own(backend):
    found = subject._probe(backend)
    assert found["error"] is None
    assert found["works"] is True
    assert found["devices"]
    assert 0.1 < found["gflops"] < 1e6


def test_a_backend_that_crashes_gives_its_last_line(monkeypatch):
    monkeypatch.setattr(subject, "PROBE", "raise OSError('no libbar.so')")
    found = subject._probe(keras.config.backend())
    assert found == {**BROKEN, "error": "OSError: no libbar.so"}


def test_a_backend_that_prints_nothing_does_not_work(monkeypatch):
    def silent(*_, **__):
        return subprocess.CompletedProcess([sys.executable], 1, "", "")

    monkeypatch.setattr(subject.subprocess, "run", silent)
    assert subject._probe(keras.config.backend())["error"] == "no message"
