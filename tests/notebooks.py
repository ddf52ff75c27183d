"""Run notebooks of docs/notebooks: what they show is written into them and into their pages.

python tests/notebooks.py                    # all, in place, when a cell has changed
python tests/notebooks.py FILE -o FOLDER     # one, into a folder, as its test does
"""

import argparse
import base64
import hashlib
import io
import os
import re
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
FOLDER = REPOSITORY / "docs" / "notebooks"
COLOURS = 32  # of a stored picture: a scan takes a quarter of the bytes that it has in full
DPI = 72  # of a stored figure
PICTURE = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")
INTRODUCTION = (
    "<!-- Written by `python tests/notebooks.py`. -->\n\n"
    "*This page is the notebook [{0}.ipynb]({0}.ipynb): take the file, and run it cell by cell.*"
)


def execute(path, folder):
    """Run a notebook from its first cell, in a new process and a folder: the notebook."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": folder}}
    ).execute()
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)  # the times
        cell.outputs = [
            _tidy(each) for each in cell.outputs if each.get("name") != "stderr"
        ]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "stm_keras": {"cells": digest(notebook)},
    }
    return notebook


def code_cells(notebook):
    """Return the cells of a notebook that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook):
    """Return the SHA-256 of all code of a notebook: it tells of which code outputs are."""
    code = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(code.encode()).hexdigest()


def _tidy(output):
    """Return an output without what only its own process knows, its pictures in few colours."""
    output.pop("execution_count", None) if output.output_type == "display_data" else None
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = _smaller(data["image/png"])
        data.pop("text/plain", None)
    if "text/html" in data:
        data["text/html"] = PICTURE.sub(lambda found: _smaller(found[0]), data["text/html"])
    return output


def _smaller(picture):
    """Return a PNG in base64 with few colours."""
    from PIL import Image

    png = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(COLOURS).save(png, "PNG", optimize=True)
    return base64.b64encode(png.getvalue()).decode()


def page(notebook, name):
    """Return a notebook as a page of the site, and its pictures: str, dict of name to bytes."""
    parts, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace(".ipynb)", ".md)"))
            if len(parts) == 1:  # behind the title
                parts.append(INTRODUCTION.format(name))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell shows]({picture})")
            elif "text/html" in data:
                parts.append(data["text/html"])
            else:
                parts.append(f"```text\n{data['text/plain'].rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def main():
    """Run notebooks in place, with their pages; or one into a folder."""
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    paths = [os.environ.get("PYTHONPATH", ""), str(REPOSITORY)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a debugger that nobody uses
    for path in arguments.files or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["IPYTHONDIR"] = os.environ["TMPDIR"] = folder  # all that it writes
            (Path(folder) / "matplotlibrc").write_text(
                f"figure.dpi: {DPI}\n", encoding="utf-8"
            )
            notebook = execute(path, folder)
        target = arguments.output or path.parent
        nbformat.write(notebook, target / path.name)
        text, pictures = page(notebook, path.stem)
        (target / path.name).with_suffix(".md").write_text(text, encoding="utf-8")
        for name, png in pictures.items():
            (target / name).write_bytes(png)


if __name__ == "__main__":
    main()
