"""The metadata in every model file, whatever its format, and how they are checked.

By hand and not by pydantic, whose import alone takes a third of the time of a verdict. All
that judging reads is looked at here, once, so that nothing after it needs to ask again.
"""

from pathlib import Path

from stm_keras.data.preprocess import INPUTS
from stm_keras.errors import InputError

FORMAT = 1
NEEDED = {"classes": list, "pixels": int, "max_lines": int}
PREPROCESSING = {  # by the name of a network's input
    "standardised": "per line: least-squares straight line removed, standard deviation 1",
    "scaled": "per line: least-squares straight line removed, divided by the running "
    "geometric mean of the standard deviations of the lines so far",
}
MOST = 1 << 14  # lines, or pixels of a line; microscopes give up to 8192
MOST_VALUES = 2**22  # of a scan; a batch of 64 takes 1 GiB
MOST_CLASSES, LONGEST_NAME = 1000, 200
SHARE = (0, 2)  # a threshold just above 1 is never reached
TABLES = {  # what is interpolated over the number of lines, and from where to where it goes
    "temperature": {"values": (1e-3, 1e3)},
    "confidence": {"slopes": (-1e3, 1e3), "shifts": (-1e3, 1e3)},
    "unsure": {"thresholds": SHARE},
    "unknown": {"thresholds": SHARE},
}
OBJECTS = {  # what holds more where it is there
    "training": {
        "environment": {"packages": {}, "dataset": {}},
        "config": {"model": {}},
        "counts": {},
    },
    **{
        name: {} for name in (*TABLES, "change", "exported", "scores", "min_lines_measured")
    },
    "context": {},
    "unknown": {"measured": {}, "taught_by": {}},
}


def complete_metadata(metadata: dict) -> dict:
    """Add to what a network knows of itself the format and how heights become its input.

    It is JSON-ready and has at least `classes`, `pixels` and `max_lines`.
    """
    metadata = {"input": "standardised", **metadata, "format": FORMAT}
    metadata.setdefault("preprocessing", PREPROCESSING[metadata["input"]])
    return metadata


def check_metadata(metadata: object, path: str | Path, place: str) -> dict:
    """Return what was read from a model file if it can be worked with.

    What is not known here stays as it is: a newer stm-keras may say more. `place` is what is
    damaged if it cannot, as "stm_keras.json is damaged".

    Raises:
        InputError: It is not an object, is of a newer stm-keras, lacks something, or a value
            makes no sense.
    """
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: {place} (not an object).")
    known = _whole(metadata.get("format"), FORMAT, FORMAT)
    taken = metadata.get("input", "standardised")
    if not known or not isinstance(taken, str) or taken not in INPUTS:
        raise InputError(f"{path}: is of a newer stm-keras. Install the newest.")
    for key, kind in NEEDED.items():
        if not isinstance(metadata.get(key), kind):
            raise InputError(f"{path}: {place} (no `{key}`).")
    for fault in _faults(metadata):
        raise InputError(f"{path}: {place} ({fault}).")
    return metadata


def _faults(metadata):
    """Yield what is wrong with metadata that have all that is needed, in few words."""
    classes, most = metadata["classes"], metadata["max_lines"]
    names = {name for name in classes if isinstance(name, str) and len(name.strip()) > 0}
    if not 2 <= len(classes) == len(names) <= MOST_CLASSES:
        yield f"`classes` must be 2 to {MOST_CLASSES} different names"
    if any(len(name) > LONGEST_NAME for name in names):
        yield f"a name of `classes` is longer than {LONGEST_NAME} characters"
    for key, fewest in (("pixels", 2), ("max_lines", 1)):
        if not _whole(metadata[key], fewest, MOST):
            yield _must(key, f"a number from {fewest} to {MOST}", metadata[key])
    if most * metadata["pixels"] > MOST_VALUES:
        yield f"scans of {most} lines x {metadata['pixels']} pixels are too large to be true"
    if not _whole(metadata.get("min_lines", 1), 1, most):
        yield _must(
            "min_lines", f"a number of lines from 1 to {most}", metadata["min_lines"]
        )
    if metadata.get("parameters") is not None and not _whole(
        metadata["parameters"], 0, 2**40
    ):
        yield _must("parameters", "a number of weights", metadata["parameters"])
    yield from _no_objects(metadata, OBJECTS)
    for name, columns in TABLES.items():
        yield from _faults_of_table(name, metadata.get(name) or {}, columns)
    change = {"threshold": 0.0} if metadata.get("change") is None else metadata["change"]
    if not _number(change.get("threshold"), *SHARE):
        yield _must("change.threshold", "a probability", change.get("threshold"))
    for key in ("delay", "refractory"):
        if not _whole(change.get(key, 0), 0, MOST):
            yield _must(f"change.{key}", "a number of lines", change[key])
    yield from _faults_of_context(metadata.get("context") or {}, len(classes))
    size = metadata.get("size_nm")
    if size is not None:
        pair = isinstance(size, list) and len(size) == 2
        if not pair or not all(_number(v, 1e-6, 1e9) for v in size) or size[0] > size[1]:
            yield _must("size_nm", "two widths in nm, the smaller first", size)


def _no_objects(table, wanted, before=""):
    for key, inner in wanted.items():
        if not isinstance(table.get(key), dict | None):
            yield f"`{before}{key}` is not an object"
        yield from _no_objects(table.get(key) or {}, inner, f"{before}{key}.")


def _faults_of_table(name, table, columns):
    """Yield what is wrong with numbers over lines, or with one threshold for all."""
    if name.startswith("un") and "threshold" in table and "thresholds" not in table:
        if not _number(table["threshold"], *SHARE):
            yield _must(f"{name}.threshold", "a probability", table["threshold"])
        return
    if not table:
        return
    lines = table.get("lines")
    fine = isinstance(lines, list) and 0 < len(lines) <= MOST_CLASSES
    fine = fine and all(_whole(each, 1, MOST) for each in lines)
    if not fine or any(a >= b for a, b in zip(lines, lines[1:], strict=False)):
        yield _must(f"{name}.lines", "rising numbers of lines", lines)
        return
    for column, limits in columns.items():
        values = table.get(column)
        fine = isinstance(values, list) and len(values) == len(lines)
        if not fine or not all(_number(each, *limits) for each in values):
            wanted = f"{len(lines)} numbers from {limits[0]:g} to {limits[1]:g}"
            yield _must(f"{name}.{column}", wanted, values)


def _faults_of_context(table, classes):
    """Yield what is wrong with how scans follow each other, see `inference/context.py`."""
    if not table:
        return
    rows = table.get("transitions")
    fine = isinstance(rows, list) and len(rows) == classes
    fine = fine and all(isinstance(row, list) and len(row) == classes for row in rows)
    fine = fine and all(_number(each, 0, 1) for row in rows for each in row)
    if not fine or any(abs(sum(row) - 1) > 1e-3 for row in rows):
        wanted = f"{classes} rows of {classes} probabilities that sum to 1"
        yield _must("context.transitions", wanted, rows)
    for name, most in (("frequency", 1), ("strength", 10)):
        if not _number(table.get(name), 0, most):
            yield _must(f"context.{name}", f"a number from 0 to {most}", table.get(name))
    if not _whole(table.get("fade_lines"), 2, MOST):
        wanted = f"a number of lines from 2 to {MOST}"
        yield _must("context.fade_lines", wanted, table.get("fade_lines"))
    least = table.get("min_lines")
    if least is not None and not _whole(least, 1, MOST):
        yield _must("context.min_lines", f"a number of lines from 1 to {MOST}", least)


def _whole(value, least, most):
    return type(value) is int and least <= value <= most


def _number(value, least, most):
    return type(value) in (int, float) and least <= value <= most  # NaN is neither


def _must(name, wanted, received):
    text = repr(received)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"`{name}` must be {wanted}. Received: {text}"
