"""Every example that acts on a tip acts on a bad tip, and on nothing else."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, SHARED, stm
from scan_files import sxm

from stm_keras import load_onnx, verdict_of
from stm_keras.cli.main import COMMANDS
from stm_keras.inference.find_model import shipped_path
from stm_keras.simulate import simulate, simulate_unknown

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("onnxruntime")
PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
ACTS = re.compile(r"^\s*(stm-keras .*--fail-on .*(?:\|\||&&|;).*)$", re.MULTILINE)
SAFE = re.compile(  # exit code 10, and of nothing but a tip that is known to be bad
    r"stm-keras predict scan\.sxm( --fail-on (defects|rows))+; "
    r"\[ \$\? -eq 10 \] && (?P<command>[a-z-]+)"
)
NM = (10e-9, 10e-9)


def examples():
    """Yield where each example that acts stands, and its text."""
    texts = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    texts |= {f"{name} --help": stm(name, "--help").stdout for name in COMMANDS}
    for place, text in texts.items():
        for line in ACTS.findall(text.replace("\\\n", " ")):
            yield place, line.rstrip("`")


EXAMPLES = sorted(examples())


def first(scans, **wanted):
    """Return the first scan of which the shipped model says this."""
    model = load_onnx(shipped_path().with_suffix(".onnx"))
    for scan in scans:
        verdict = verdict_of(model, scan)
        if all(verdict[key] == value for key, value in wanted.items()):
            return scan
    raise AssertionError(f"the model says {wanted} of no scan")


@pytest.fixture(scope="module")
def scans():
    """Bytes of scan.sxm by what is wrong with it."""
    bad = simulate(40, seed=1)
    images = {
        "a bad tip": first(
            bad.images[bad.labels == 3],
            **{"class": "generic defects", "unsure": False, "unknown_surface": False},
        ),
        "a blank scan": np.zeros((128, 128)),
        "a slope": np.tile(np.linspace(0, 1, 128), (128, 1)),
        "a foreign surface": first(
            simulate_unknown(20, seed=1, kinds=["Si(111)-7x7"]).images, unknown_surface=True
        ),
    }
    files = {
        name: sxm({"Z": ("m", image * 1e-12, None)}, size=NM)
        for name, image in images.items()
    }
    return {**files, "an unreadable file": files["a bad tip"][:2000], "a wrong option": b""}


@pytest.fixture
def shell(tmp_path):
    """Return a function that runs an example on a scan, and tells what was called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    module = f'exec {sys.executable} -m stm_keras "$@"\n'
    (programs / "stm-keras").write_text(f"#!/bin/sh\n{module}")
    for name in {SAFE.fullmatch(line)["command"] for _, line in EXAMPLES}:
        (programs / name).write_text(f'#!/bin/sh\necho "$0" >> "{tmp_path}/acted"\n')
    for program in programs.iterdir():
        program.chmod(0o755)

    def run(example, content, name="sh"):
        (tmp_path / "scan.sxm").write_bytes(content)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": str(programs)}
        done = subprocess.run(
            [shutil.which(name), "-c", example],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        acted = tmp_path / "acted"
        return acted.read_text() if acted.exists() else "", done

    return run


def test_there_are_examples_and_each_waits_for_exit_code_10():
    assert {place for place, _ in EXAMPLES} >= {
        "README.md",
        "microscope.md",
        "predict --help",
    }
    for place, line in EXAMPLES:
        assert SAFE.fullmatch(line), f"{place}: may act on what was not judged: {line}"


@pytest.mark.parametrize("line", sorted({line for _, line in EXAMPLES}))
def test_an_example_acts_on_a_bad_tip(line, shell, scans):
    acted, done = shell(line, scans["a bad tip"])
    assert acted.count("\n") == 1, done


@pytest.mark.parametrize("line", sorted({line for _, line in EXAMPLES}))
@pytest.mark.parametrize(
    "what",
    [
        "a blank scan",
        "a slope",
        "a foreign surface",
        "an unreadable file",
        "a wrong option",
    ],
)
def test_an_example_does_not_act_on(what, line, shell, scans):
    if what == "a wrong option":
        line = line.replace(" --fail-on", " --no-such-option --fail-on")
    acted, done = shell(line, scans[what])
    assert "Error: " in done.stderr or what == "a foreign surface", done
    assert not acted, done


@pytest.mark.skipif(not (SHARED / "spm").exists(), reason="the shared scans are not here")
@pytest.mark.parametrize("line", sorted({line for _, line in EXAMPLES}))
def test_an_example_does_not_act_on_a_real_scan_of_silicon_7x7(line, shell):
    acted, done = shell(line, (SHARED / "spm" / "Si_7x7_051.sxm").read_bytes())
    assert "scan.sxm" in done.stdout, done
    assert not acted, done
