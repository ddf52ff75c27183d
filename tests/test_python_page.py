"""The examples of docs/python.md, and that `import stm_keras` stays light."""

import os
import re
import subprocess
import sys

import pytest
from helpers import ONCE, REPOSITORY

import stm_keras

PAGE = (REPOSITORY / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@ONCE
def test_every_example_runs_in_turn(tmp_path):
    pytest.importorskip("onnxruntime")
    program = "\n".join(BLOCKS).replace('"jax"', repr(os.environ["KERAS_BACKEND"]))
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert len(BLOCKS) == 8
    assert "(96, 128)" in done.stdout
    assert "missing.sxm: does not exist" in done.stdout
    assert done.stdout.rstrip().endswith(" 3")
    assert (tmp_path / "runs" / "tiny" / "best.keras").exists()


def test_every_public_name_is_there_and_on_the_page():
    for name in stm_keras.NAMES:
        assert getattr(stm_keras, name).__name__ == name
        assert f"`{name}" in PAGE, name
    assert "read_scan" in dir(stm_keras)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stm_keras.nothing


def test_import_loads_nothing():
    program = (
        "import sys, stm_keras; assert not {'numpy', 'keras', 'click'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(REPOSITORY)}
    )
