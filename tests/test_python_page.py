"""The Python examples of README and docs run, and `import stm_keras` stays light."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, stm
from scan_files import sxm

import stm_keras
from stm_keras.data.load import load_dataset
from stm_keras.data.unknown_surfaces import read_unknown_surfaces

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")


def blocks(text):
    """Return the Python examples of a page."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run(program, folder):
    """Run a program in a folder, and return what it printed."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@ONCE
def test_every_example_runs_in_turn(tmp_path):
    pytest.importorskip("onnxruntime")
    examples = blocks(PAGE)
    program = "\n".join(examples).replace('"jax"', repr(os.environ["KERAS_BACKEND"]))
    told = run(program, tmp_path)
    assert len(examples) == 10
    assert "(96, 128)" in told
    assert "(None, None, 128) ['change', 'state', 'unknown']" in told
    assert "missing.sxm: does not exist" in told
    assert told.rstrip().endswith(" 3")
    assert (tmp_path / "runs" / "tiny" / "best.keras").exists()


@ONCE
def test_every_public_name_is_there_and_on_the_page():
    for name in stm_keras.NAMES:
        assert getattr(stm_keras, name).__name__ == name
        assert f"`{name}" in PAGE, name
    assert "read_scan" in dir(stm_keras)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stm_keras.nothing


@ONCE
def test_import_loads_nothing():
    program = (
        "import sys, stm_keras; assert not {'numpy', 'keras', 'click'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(REPOSITORY)}
    )


NO_KERAS = (
    "import sys\n"
    "for each in ('keras', 'tensorflow', 'jax', 'torch'):\n"
    "    sys.modules[each] = None\n"
)
README = blocks((REPOSITORY / "README.md").read_text(encoding="utf-8"))


@ONCE
def test_the_live_example_of_the_readme_needs_no_keras(tmp_path):
    pytest.importorskip("onnxruntime")
    (live,) = [block for block in README if "OnnxStream" in block]
    lines = (
        "import numpy as np\n"
        "microscope = np.random.default_rng(0).normal(size=(5, 512)).cumsum(1) * 1e-11\n"
    )
    told = run(NO_KERAS + lines + live, tmp_path).splitlines()
    assert [line.split()[0] for line in told] == ["0", "1", "2", "3", "4"]


def test_the_line_that_loads_a_model_file_in_keras_does_so_under_each_backend(tmp_path):
    (loads,) = [block for block in README if "load_model" in block]
    program = (
        loads + "import numpy as np\n"
        "print(keras.config.backend(), sorted(model.output))\n"
        "lines = np.random.default_rng(0).normal(size=(1, 8, 128)).astype('float32')\n"
        "given = model.predict(lines, verbose=0)['state']\n"
        "ours = stm_keras.load_predictor(stm_keras.shipped_path()).model\n"
        "assert np.array_equal(given, ours.predict(lines, verbose=0)['state'])\n"
    )
    backend = os.environ["KERAS_BACKEND"]
    assert (
        run(program, tmp_path).split("\n")[0] == f"{backend} ['change', 'state', 'unknown']"
    )


@ONCE
def test_files_of_a_microscope_become_a_dataset_as_the_page_on_data_says(tmp_path):
    page = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```\n(path,.*?)```", page, re.S)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "labels.csv").write_text(table, encoding="utf-8")
    for row in table.splitlines()[1:]:
        path = tmp_path / "scans" / row.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        image = np.random.default_rng(len(row)).normal(size=(256, 64)).cumsum(1) * 1e-11
        path.write_bytes(sxm({"Z": ("m", image, None)}, size=(1e-8, 1e-8)))
    result = stm("convert", tmp_path / "scans", "-o", tmp_path / "own.h5")
    assert result.exit_code == 0, result.stderr
    dataset = load_dataset(tmp_path / "own.h5")
    assert dataset.images.shape == (3, 128, 128)
    assert dataset.classes == ("sharp", "double", "blunt")
    assert dataset.session.tolist() == ["day 1", "day 1", "day 2"]
    assert dataset.change_line.tolist() == [-1, 106, -1]
    assert dataset.weight.tolist() == [1, 0.5, 1]


@ONCE
def test_scans_of_other_surfaces_become_a_file_as_the_page_on_surfaces_says(tmp_path):
    for surface, count in (("gold", 3), ("silicon", 2)):
        (tmp_path / "others" / surface).mkdir(parents=True)
        for number in range(count):
            image = np.random.default_rng(number).normal(size=(128, 128)).cumsum(1) * 1e-11
            path = tmp_path / "others" / surface / f"{number}.sxm"
            path.write_bytes(sxm({"Z": ("m", image, None)}, size=(1e-8, 1e-8)))
    result = stm("convert", tmp_path / "others", "-o", tmp_path / "others.h5")
    assert result.exit_code == 0, result.stderr
    (example,) = blocks((REPOSITORY / "docs" / "surface.md").read_text(encoding="utf-8"))
    run(example, tmp_path)
    surfaces = read_unknown_surfaces(tmp_path / "others.h5")
    assert surfaces.images.shape == (5, 128, 128)
    assert sorted(surfaces.source) == ["gold"] * 3 + ["silicon"] * 2
