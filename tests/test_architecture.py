"""Rules about the code as a whole. Each test lists all offenders at once."""

import ast
import functools
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ONCE

pytestmark = ONCE  # no backend changes what is tested here

ROOT = Path(__file__).parent.parent / "stm_keras"
ROWS = {  # who may import whom: only what lies in a row above its own, or in its own part
    "errors": 1,
    "memory": 2,
    "terminal": 2,
    "untrusted": 2,
    "signals": 2,
    "files": 3,
    "progress": 3,
    "resources": 3,
    "backend": 3,
    "scan": 3,
    "settings": 3,
    "locks": 4,
    "appended": 4,
    "config": 4,
    "records": 4,
    "benchmark_records": 5,
    "readers": 4,
    "runs": 5,
    "setting_list": 5,
    "data": 6,
    "simulate": 7,
    "evaluation": 7,
    "trees": 7,
    "inference": 8,
    "reports": 8,
    "runtime": 9,
    "live": 9,
    "labelling": 10,
    "web": 11,
    # the Keras line: nothing above it imports keras, not even inside a function
    "layers": 12,
    "models": 13,
    # these lie below the line; the other files of the package lie above and import none of them
    "inference/keras_predictor": 14,
    "inference/model_file": 14,
    "training": 15,
    "export": 15,
    "experiments": 16,
    "cli": 17,
}
KERAS_LINE = 11
OUTSIDE = {  # what a part may import at the top of a file, beside the standard library
    "scan": {"numpy"},
    "readers": {"numpy"},
    "settings": {"pydantic"},
    "config": {"pydantic"},
    "records": {"pydantic"},
    "benchmark_records": {"pydantic"},
    "data": {"numpy", "h5py", "PIL", "pydantic"},
    "simulate": {"numpy", "threadpoolctl"},
    "trees": {"numpy"},
    "evaluation": {"numpy", "scipy", "sklearn", "matplotlib", "PIL"},
    "reports": {"numpy", "PIL", "jinja2", "markupsafe"},
    "layers": {"keras", "numpy"},
    "models": {"keras"},
    "inference": {"numpy"},
    "live": {"numpy"},
    "labelling": {"numpy"},
    "web": {"fastapi", "nicegui", "numpy", "starlette"},
    "training": {"keras", "numpy"},
    "export": {"numpy"},
    # one reference is without Keras
    "experiments": {"keras", "numpy", "matplotlib", "pydantic", "torch"},
    "cli": {"click", "numpy"},
}
WEB = {"fastapi", "nicegui", "starlette", "uvicorn"}  # of the extra `live`
BACKENDS = {"tensorflow", "jax", "torch"}
MAY_NAME_BACKENDS = {"backend.py", "writers.py", "onnx_scan.py"}
# a comparison asks each backend's arrays where they lie, and has a network without Keras
MAY_NAME_BACKENDS |= {"machine.py", "torch_trainer.py"}
MAY_NAME_BACKENDS |= {"parallel.py"}  # Keras itself distributes under JAX only
FILES = sorted(ROOT.rglob("*.py"))
NAMES = {  # of modules, each with its file
    ".".join(("stm_keras", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in FILES
}
MOST_LINES, FEW_LINES = 400, 60  # of a file
MOST_SMALL_FILES = 12  # __init__.py not counted


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def row_of(path):
    """Return the row of a file: its own, if it has one, or that of its part."""
    file = path.relative_to(ROOT).with_suffix("").as_posix()
    return ROWS.get(file, ROWS.get(part_of(path)))


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree, top_only):
    """Yield the dotted names that a file imports: of a module's names, the module."""
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {name if name in NAMES else node.module for name in full}


def breaches_of_rows(path):
    """Yield what a file imports though its row does not allow it."""
    part, row = part_of(path), row_of(path)
    for name in sorted(set(imports(parse(path), top_only=False))):
        other, head = NAMES.get(name), name.partition(".")[0]
        if other and other != ROOT / "__init__.py":
            above = row_of(other) < row
            if not above and (part_of(other) != part or row_of(other) > row):
                yield f"{name}: no higher row"
        if head == "keras" and row < KERAS_LINE and part != "backend":
            yield f"{name}: above the Keras line"
        if head in BACKENDS and path.name not in MAY_NAME_BACKENDS:
            yield f"{name}: names a backend"
        if head in WEB and part != "web":
            yield f"{name}: only pages need the web"
    for name in sorted(set(imports(parse(path), top_only=True))):
        head = name.partition(".")[0]
        light = head == "stm_keras" or head in sys.stdlib_module_names
        if not light and head not in OUTSIDE.get(part, set()):
            yield f"{name}: too heavy for the top of a file"


def files_below_without_need():
    """Yield the files with a row of their own below the Keras line that need not be there."""
    for file in sorted(name for name in ROWS if "/" in name):
        path = ROOT / f"{file}.py"
        names = set(imports(parse(path), top_only=False))
        below = any(
            row_of(NAMES[name]) > KERAS_LINE for name in names & set(NAMES) - {"stm_keras"}
        )
        if not below and not any(name.split(".")[0] == "keras" for name in names):
            yield f"{file} can lie above the Keras line: it needs no row of its own"


def circle_of_imports():
    """Return the modules of a circle, wherever in a file the imports stand, or []."""
    graph = {
        name: {each for each in imports(parse(path), top_only=False) if each in NAMES}
        for name, path in NAMES.items()
    }
    for name in graph:  # a package is ready when its own __init__.py is
        graph[name] -= {name, "stm_keras"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.smoke
def test_files_import_only_what_lies_in_rows_above_their_own():
    files = [path for path in FILES if part_of(path) not in ("__init__", "__main__")]
    parts = {part_of(path) for path in files}
    known = parts | {path.relative_to(ROOT).with_suffix("").as_posix() for path in files}
    offenders = [f"{part} has no row" for part in sorted(parts - set(ROWS))]
    offenders += [
        f"{name} has a row and is not there" for name in sorted(set(ROWS) - known)
    ]
    offenders += [
        f"{path.relative_to(ROOT)} imports {breach}"
        for path in files
        if row_of(path)
        for breach in breaches_of_rows(path)
    ]
    offenders += files_below_without_need()
    if circle := circle_of_imports():
        offenders += [f"a circle: {' -> '.join(circle)}"]
    assert not offenders, "\n".join(["", *offenders])


@pytest.mark.smoke
def test_files_say_what_they_are_for_and_are_neither_long_nor_tiny():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in FILES}
    offenders = [
        f"{path} has no docstring" for path in FILES if not ast.get_docstring(parse(path))
    ]
    offenders += [
        f"{path.relative_to(ROOT)} has {count} lines, more than {MOST_LINES}"
        for path, count in lines.items()
        if count > MOST_LINES
    ]
    small = [
        f"{path.relative_to(ROOT)} ({count})"
        for path, count in lines.items()
        if count < FEW_LINES and path.name != "__init__.py"
    ]
    if len(small) > MOST_SMALL_FILES:
        offenders += [f"more than {MOST_SMALL_FILES} small files: {', '.join(small)}"]
    assert not offenders, "\n".join(["", *offenders])


CHANNELS = {"parallel.py", "worker.py"}  # between processes of one command
OWN_JSON = {"config.py", "doctor.py", "model_file.py"}  # texts, or what Keras reads again


OUTSIDE_THE_PACKAGE = sorted(
    path
    for folder in ("benchmarks", "examples", "jobs")
    for path in (ROOT.parent / folder).rglob("*.py")
)


def reads_or_writes_text(call):
    """Tell whether a call opens, reads or writes a text, or the words of a process."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    method = isinstance(call.func, ast.Attribute)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    words = [*call.args, *given.values()]
    texts = [each.value for each in words if isinstance(each, ast.Constant)]
    modes = [str(text) for text in texts if re.fullmatch("[rwxat+b]{1,3}", str(text))]
    text = not any("b" in mode for mode in modes)
    return (
        (name == "write_text" and len(call.args) == 1)
        or (name == "read_text" and method and not call.args)
        or (name == "open" and method and text and len(call.args) == len(modes))
        or (name == "open" and not method and text)
        or (name == "fdopen" and text)
        or ("TemporaryFile" in name and bool(modes) and text)
        or any(
            getattr(given.get(name), "value", None)
            is True  # of a process, not our own `text`
            for name in ("text", "universal_newlines")
        )
    )


def reaches_a_terminal(node, path):
    """Tell whether code could show something past the outlets of `terminal.py`."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and "\x1b" in node.value
    if isinstance(node, ast.Attribute):
        stream = isinstance(node.value, ast.Attribute) and node.value.attr.startswith("std")
        return node.attr in ("__stdout__", "__stderr__") or (
            stream and node.attr == "buffer"
        )
    if isinstance(node, ast.Import | ast.ImportFrom):
        return any("rich.console" in name for name in imports(ast.Module([node]), True))
    called = isinstance(node, ast.Call) and getattr(node.func, "id", None)
    return called == "print" and part_of(path) == "cli"  # click.echo flushes as well


PARSERS = {"json.load", "json.loads", "zipfile.ZipFile", "np.load", "numpy.load"}
MAY_PARSE = {  # what comes from elsewhere goes through untrusted.py; these files do not
    "untrusted.py": PARSERS,
    "experiments/compare/worker.py": {"json.loads"},  # lines of our own processes
    "training/parallel.py": {"json.loads"},
    "export/variants.py": {"zipfile.ZipFile"},  # files that were just written
    "export/writers.py": {"zipfile.ZipFile"},
    "inference/model_file.py": {"json.loads", "zipfile.ZipFile"},
    "trees/file.py": {"zipfile.ZipFile"},
    "inference/inputs.py": {"np.load"},  # a bare array, never of objects
    "readers/arrays.py": {"zipfile.ZipFile"},  # within the budget of a file
}


def parsers_of(path):
    """Return what a file calls or imports to parse what it reads."""
    tree = parse(path)
    names = {
        ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    modules = set(imports(tree, top_only=False)) & {"tomllib", "pickle"}
    return names & PARSERS | {f"import {name}" for name in modules}


def past_the_outlets(path):
    """Yield where a file writes, shows or reads something past the one way to do so."""
    inside = path.is_relative_to(ROOT)
    for node in ast.walk(parse(path)):
        call = isinstance(node, ast.Call)
        keywords = (
            {each.arg: ast.unparse(each.value) for each in node.keywords} if call else {}
        )
        if call and reads_or_writes_text(node) and "encoding" not in keywords:
            yield f"{node.lineno}: the encoding would be the locale's"
        if not inside:
            continue
        if path.name != "terminal.py" and reaches_a_terminal(node, path):
            yield f"{node.lineno}: draw with `terminal.console` or `redraw`, use click.echo"
        writes_json = call and ast.unparse(node.func) in ("json.dumps", "json.dump")
        finite = keywords.get("allow_nan") == "False"
        if writes_json and not finite and path.name not in CHANNELS | OWN_JSON:
            yield f"{node.lineno}: JSON that may have NaN in it"
    if inside and path.name != "untrusted.py":
        parsers, allowed = (
            parsers_of(path),
            MAY_PARSE.get(str(path.relative_to(ROOT)), set()),
        )
        yield from (
            f" {each}: use stm_keras.untrusted" for each in sorted(parsers - allowed)
        )
        yield from (f" no longer {each}" for each in sorted(allowed - parsers))


@pytest.mark.smoke
def test_texts_json_terminals_and_parsers_have_one_outlet():
    offenders = [
        f"{path.relative_to(ROOT.parent)}:{each}"
        for path in [*FILES, *OUTSIDE_THE_PACKAGE]
        for each in past_the_outlets(path)
    ]
    missing = set(MAY_PARSE) - {str(path.relative_to(ROOT)) for path in FILES}
    offenders += [f"{name} may parse and is not there" for name in sorted(missing)]
    assert not offenders, "\n".join(["", *offenders])
