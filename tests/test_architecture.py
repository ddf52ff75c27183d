import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "stm_keras"
ROWS = {  # who may import whom: only parts of a lower row, or its own part
    "errors": 0,
    "memory": 1,
    "terminal": 1,
    "untrusted": 1,
    "signals": 1,
    "files": 2,
    "resources": 2,
    "backend": 2,
    "scan": 2,
    "settings": 2,
    "readers": 3,
    "config": 3,
    "records": 3,
    "runs": 4,
    "data": 5,
    "simulate": 6,
    "evaluation": 6,
    "trees": 6,
    "reports": 7,
    "layers": 8,
    "models": 9,
    "inference": 10,
    "runtime": 11,
    "training": 11,
    "export": 11,
    "experiments": 12,
    "cli": 13,
}
KERAS_LINE = 8  # nothing above it imports keras, not even inside a function
OUTSIDE = {  # what a part may import at the top of a file, beside the standard library
    "scan": {"numpy"},
    "readers": {"numpy"},
    "settings": {"pydantic"},
    "config": {"pydantic"},
    "records": {"pydantic"},
    "data": {"numpy", "h5py", "PIL", "pydantic"},
    "simulate": {"numpy", "threadpoolctl"},
    "trees": {"numpy"},
    "evaluation": {"numpy", "scipy", "sklearn", "matplotlib", "PIL"},
    "reports": {"numpy", "matplotlib", "PIL"},
    "layers": {"keras", "numpy"},
    "models": {"keras"},
    "inference": {"numpy"},
    "training": {"keras", "numpy"},
    "export": {"numpy"},
    # one reference is without Keras
    "experiments": {"keras", "numpy", "matplotlib", "pydantic", "torch"},
    "cli": {"click", "numpy"},
}
BACKENDS = {"tensorflow", "jax", "torch"}
MAY_NAME_BACKENDS = {"backend.py", "writers.py", "onnx_scan.py"}
# a comparison asks each backend's arrays where they lie, and has a network without Keras
MAY_NAME_BACKENDS |= {"machine.py", "native.py"}
MAY_NAME_BACKENDS |= {"parallel.py"}  # Keras itself distributes under JAX only
FILES = sorted(ROOT.rglob("*.py"))


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree, top_only):
    """Yield the dotted names that a file imports."""
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_its_row_allows(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for name in imports(parse(path), top_only=False):
        head, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if head == "stm_keras" and other and other != part:
            assert ROWS[other] < ROWS[part], f"{part} imports {name}"
        if head == "keras":
            allowed = ROWS[part] >= KERAS_LINE or part == "backend"
            assert allowed, f"{part} is above the Keras line and imports {name}"
        if head in BACKENDS:
            assert path.name in MAY_NAME_BACKENDS, f"{path} names the backend {head}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_top_of_a_file_imports_only_light_packages(path):
    import sys

    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for name in imports(parse(path), top_only=True):
        head = name.partition(".")[0]
        if head != "stm_keras" and head not in sys.stdlib_module_names:
            assert head in OUTSIDE.get(part, set()), f"{part} imports {name} at its top"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_says_what_it_is_for_and_is_not_too_long(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert text.count("\n") <= 415, f"{path} is too long: split it by subject"


def test_every_part_has_a_row():
    parts = {part_of(path) for path in FILES} - {"__init__", "__main__"}
    assert parts == set(ROWS)


CHANNELS = {"parallel.py", "worker.py", "process.py"}  # between processes of one command
OWN_JSON = {"config.py", "doctor.py", "model_file.py"}  # texts, or what Keras reads again


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_json_that_is_written_has_no_nan(path):
    if path.name in CHANNELS | OWN_JSON:
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "json.dumps",
            "json.dump",
        ):
            told = {each.arg: ast.unparse(each.value) for each in node.keywords}
            assert told.get("allow_nan") == "False", f"{path}, line {node.lineno}"


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
        or bool({"text", "universal_newlines"} & set(given))
    )


def test_every_text_says_its_encoding():
    forgotten = [
        f"{path.relative_to(ROOT.parent)}:{call.lineno}"
        for path in [*FILES, *OUTSIDE_THE_PACKAGE]
        for call in ast.walk(parse(path))
        if isinstance(call, ast.Call)
        and reads_or_writes_text(call)
        and "encoding" not in {keyword.arg for keyword in call.keywords}
    ]
    assert not forgotten, "these would take the encoding of the locale"


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


def test_nothing_reaches_a_terminal_past_the_outlets():
    past = [
        f"{path.relative_to(ROOT.parent)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(parse(path))
        if path.name != "terminal.py" and reaches_a_terminal(node, path)
    ]
    assert not past, "draw with `terminal.console` or `redraw`, print with click.echo"


PARSERS = {"json.load", "json.loads", "zipfile.ZipFile", "np.load", "numpy.load"}
MAY_PARSE = {  # what comes from elsewhere goes through untrusted.py; these files do not
    "untrusted.py": PARSERS,
    "experiments/compare/process.py": {"json.loads"},  # lines of our own processes
    "experiments/compare/worker.py": {"json.loads"},
    "training/parallel.py": {"json.loads"},
    "export/variants.py": {"zipfile.ZipFile"},  # files that were just written
    "export/writers.py": {"zipfile.ZipFile"},
    "inference/model_file.py": {"json.loads", "zipfile.ZipFile"},
    "trees/file.py": {"zipfile.ZipFile"},
    "inference/inputs.py": {"np.load"},  # a bare array, never of objects
    "readers/arrays.py": {"zipfile.ZipFile"},  # within the budget of a file
    "readers/sniff.py": {"zipfile.ZipFile"},  # names alone
    "data/npz.py": {"zipfile.ZipFile"},
}


def test_what_anybody_may_have_written_is_parsed_in_one_place():
    wrong = []
    for path in FILES:
        name = str(path.relative_to(ROOT))
        tree = parse(path)
        found = {f"import {each}" for each in imports(tree, top_only=False)} & {
            "import tomllib",
            "import pickle",
        }
        found |= {
            ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
        } & PARSERS
        allowed = MAY_PARSE.get(name, set()) | (
            {"import tomllib"} if name == "untrusted.py" else set()
        )
        wrong += [f"{name}: {each}" for each in sorted(found - allowed)]
        wrong += [
            f"{name}: no longer {each}"
            for each in sorted(MAY_PARSE.get(name, set()) - found)
            if name != "untrusted.py"
        ]
    assert not wrong, "use stm_keras.untrusted"
