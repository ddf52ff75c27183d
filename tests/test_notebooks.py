"""The notebooks run from their first cell to the last, and show what their cells give."""

import json
import re
import subprocess
import sys

import pytest
from helpers import ONCE, REPOSITORY
from notebooks import FOLDER, code_cells, digest, page

nbformat = pytest.importorskip("nbformat")
pytestmark = ONCE

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"/(home|Users|root|tmp|work|opt|var)/|[A-Z]:\\\\|site-packages")
LARGEST = 160_000  # bytes of a notebook with its pictures


def named(path):
    return path.stem


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_are_four_notebooks_and_readme_index_and_site_name_each():
    assert len(NOTEBOOKS) == 4
    for name in ("README.md", "docs/index.md", "mkdocs.yml"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        for path in NOTEBOOKS:
            assert f"notebooks/{path.stem}." in text, (name, path.stem)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_runs_in_a_folder_of_its_own(path, tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib")
    program = [sys.executable, REPOSITORY / "tests" / "notebooks.py", path, "-o", tmp_path]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fresh, stored = read(tmp_path / path.name), read(path)
    given, kept = (
        [len(cell.outputs) > 0 for cell in code_cells(n)] for n in (fresh, stored)
    )
    assert given == kept


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_is_valid_and_small_and_its_outputs_are_of_its_cells(path):
    text, notebook = path.read_text(encoding="utf-8"), read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert len(text) < LARGEST
    cells = code_cells(notebook)
    run_again = "run `python tests/notebooks.py` again"
    assert notebook.metadata["stm_keras"]["cells"] == digest(notebook), run_again
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert not MACHINE.search(json.dumps([cell.outputs for cell in cells]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_the_site_shows_a_notebook_as_it_is(path):
    text, pictures = page(read(path), path.stem)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == text
    there = {each.name: each.read_bytes() for each in FOLDER.glob(f"{path.stem}-*.png")}
    assert there == pictures


def test_the_digest_tells_of_a_cell_that_was_changed():
    notebook = read(NOTEBOOKS[0])
    before = digest(notebook)
    code_cells(notebook)[-1].source += " "
    assert digest(notebook) != before


def test_a_cell_that_fails_fails_the_run(tmp_path):
    pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    program = [sys.executable, REPOSITORY / "tests" / "notebooks.py"]
    program.append(tmp_path / "wrong.ipynb")
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
