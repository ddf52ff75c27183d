"""What damaged files are given to, and what must hold of all that is accepted."""

import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from fuzz import seeds
from helpers import SEPARATE, lattice_scans, made_up_dataset

from stm_keras.cli.main import main
from stm_keras.errors import ScanError, StmKerasError

PHYSICAL = {  # what a scan may say of itself; least and most
    "bias": (-1e4, 1e4),  # V
    "setpoint": (-1.0, 1.0),  # A
    "angle": (-720.0, 720.0),  # degrees
    "line_time": (1e-7, 1e5),  # s
}
SIDES = (1e-11, 0.1)  # m
MOST = 1e-3  # m: heights
OFTEN = 16  # one case of so many goes through the command line


@dataclass(frozen=True)
class Target:
    """What reads damaged files.

    Args:
        seeds: function of a folder that returns a dict of name to `Seed`.
        run: function of a path and how often the seed had its turn. It returns "read", or raises a
            `StmKerasError`.
        share: int. Of so many cases that readers get this one gets one.
        warnings: str. What a warning counts as.
    """

    seeds: object
    run: object
    share: int = 1
    warnings: str = "error"


def scans(path: Path, turn: int) -> str:
    """Read every scan of a file, and hold it against what can be."""
    from stm_keras.readers import read_scans
    from stm_keras.readers.formats import FORMATS, scan_format
    from stm_keras.readers.info import scan_metadata, scan_text

    check(scan_format(path) in {*FORMATS, "refused", None}, "format")
    if turn % OFTEN == 0:
        command("info", path, "--json")
    try:
        found = read_scans(path)
    except ScanError as refusal:
        ours = f"{path.parent}/"  # it, or the one that belongs to it
        check(str(refusal).startswith(ours), f"names no file: {refusal}")
        raise
    for scan in found:
        if isinstance(scan, ScanError):
            check_line(scan)
            continue
        check(scan.heights.shape == scan.valid.shape, "shape")
        check(1 <= len(scan.lines()) <= len(scan.heights), "lines")
        there = scan.heights[scan.valid]
        check(np.isfinite(there).all(), "heights that are not finite")
        if scan.unit == "m":
            check(np.abs(there).max() < MOST, "absurd heights")
        within("size", scan.size, *SIDES)
        for name, (least, most) in PHYSICAL.items():
            within(name, getattr(scan, name), least, most)
        json.dumps(scan_metadata(scan, len(found)), allow_nan=False)
        scan_text(scan, len(found))
    return "read"


def datasets(path: Path, turn: int) -> str:
    """Read a dataset and look at what it holds."""
    from stm_keras.data.load import load_dataset
    from stm_keras.data.summary import summary, summary_text

    if turn % (4 * OFTEN) == 0:
        command("audit", path, "--json")
    check_dataset(found := load_dataset(path))
    facts = summary(found)
    json.dumps(facts, allow_nan=False)
    summary_text(facts)
    return "read"


def check_dataset(found) -> None:
    """See that a dataset is one: lengths, labels, finite numbers."""
    count = len(found)
    check(count == len(found.images) == len(found.lines) > 0, "lengths")
    check(
        (found.labels >= -1).all() and (found.labels < len(found.classes)).all(), "labels"
    )
    check(
        (found.lines >= 0).all() and (found.lines <= found.images.shape[1]).all(), "lines"
    )
    for name in ("votes", "raters", "line_labels", "change_line"):
        values = getattr(found, name)
        if values is not None:
            values = np.asarray(values[:count])
            check(len(values) == count and np.isfinite(values).all(), name)
    image = np.asarray(found.images[0])[: found.lines[0]]
    check(np.isfinite(image).all(), "heights that are not finite")


def configs(path: Path, turn: int) -> str:
    """Read a config; written down, it is the same."""
    from stm_keras.config import dump_config, load_config

    config = load_config(path)
    check_numbers(config.model_dump())
    again = path.with_name("again.toml")
    again.write_text(dump_config(config), encoding="utf-8")
    check(load_config(again) == config, "not the same when it is written down")
    return "read"


def settings(path: Path, turn: int) -> str:
    """Give one line of a text to `--set`, and to what sweeps take."""
    from stm_keras.config import load_config
    from stm_keras.experiments.plan import make_sweep, read_space, read_values

    lines = (
        path.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    )
    text = lines[turn % len(lines)]
    if turn % 3 == 0:
        check_numbers(load_config(None, [text]).model_dump())
    elif turn % 3 == 1:
        make_sweep({"grid": dict([read_values(text)])})
    else:
        make_sweep({"space": dict([read_space(text)])})
    return "read"


def plans(path: Path, turn: int) -> str:
    """Read the plan of a sweep and list what is to be done."""
    from stm_keras.experiments.plan import jobs, make_sweep, read_sweep

    sweep = make_sweep(read_sweep(path))
    check_numbers(sweep.model_dump())
    jobs(path.parent, sweep)
    return "read"


def facts(path: Path, turn: int) -> str:
    """Put what a model says of itself into a file; what is accepted can be worked with."""
    from stm_keras.inference.find_model import read_metadata
    from stm_keras.inference.verdict import calibrated

    file = path.with_name("a.keras")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
        archive.writestr("stm_keras.json", path.read_bytes())
    known = read_metadata(file)
    check_numbers(known)
    lines = np.arange(1, known["max_lines"] + 1, max(known["max_lines"] // 50, 1))
    logits = np.linspace(-9, 9, len(lines) * len(known["classes"]))
    check_probabilities(calibrated(logits.reshape(len(lines), -1), known, lines))
    return "read"


def runs(path: Path, turn: int) -> str:
    """Show a run, its model and its scores, and take its test part."""
    from stm_keras.inference.evaluate import select_scans
    from stm_keras.runs import Run

    way = turn % 4
    if way == 0:
        command("analyze", path, "--json")
    elif way == 1:
        command("analyze", path)
    elif way == 2:
        command("info", path, "--json")
    else:
        run = Run.open(path)
        run.config()
        chosen = select_scans(_data(), run, "test")
        check((chosen.indices >= 0).all() and (chosen.indices < 96).all(), "split")
    return "read"


def models(path: Path, turn: int) -> str:
    """Load a model and judge two scans with it."""
    from stm_keras.inference.model_file import load_predictor
    from stm_keras.inference.stream import LineStream

    scans = lattice_scans([0, 1])
    predictor = load_predictor(path)
    check_numbers(predictor.metadata)
    found = predictor.probabilities(scans, batch_size=2)
    check(found.shape == (2, len(predictor.classes)), "shape of what is said")
    check_probabilities(found)
    if path.suffix == ".onnx" and predictor.every_line:  # by its other graph
        LineStream(predictor).push(scans[0, 0])
    if turn % OFTEN == 0 and path.suffix != ".keras":  # which takes 64 scans at a time
        np.save(path.with_name("scan.npy"), scans[0])
        command("predict", "--model", path, path.with_name("scan.npy"), "--json")
    return "read"


def check(holds: bool, what: str) -> None:
    """Fail with what does not hold; the same failure of many files is told once."""
    if not holds:
        raise AssertionError(what)


def command(*arguments) -> None:
    """Run a command in this process: results in JSON, or one line of refusal."""
    result = CliRunner(**SEPARATE).invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    check(result.exit_code in (0, 1, 2, 3, 4), f"exit code {result.exit_code}")
    check("Traceback" not in result.stderr, "traceback")
    if "--json" in arguments:
        for line in result.stdout.splitlines():
            json.loads(line, parse_constant=_not_finite)
    if result.exit_code and result.exit_code != 3:
        check(result.stderr.count("Error: ") == 1, f"errors: {result.stderr[:300]}")


def check_line(error: StmKerasError) -> None:
    """See that an error is one line of a readable length."""
    text = str(error)
    check(text and "\n" not in text, f"not one line: {text[:300]!r}")
    check(len(text) < 3000, f"too long: {len(text)}")


def within(name: str, values, least: float, most: float) -> None:
    """See that numbers are None, or finite and within their bounds."""
    for value in () if values is None else np.atleast_1d(values):
        size = abs(value) if least > 0 else value
        check(math.isfinite(value) and least <= size <= most, f"absurd {name}")
        check(least < 0 or value > 0, f"absurd {name}")


def check_numbers(value: object) -> None:
    """See that no number is NaN or infinite, in any depth."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack += node.values()
        elif isinstance(node, list | tuple):
            stack += node
        check(not isinstance(node, float) or math.isfinite(node), "a number not finite")


def check_probabilities(found: np.ndarray) -> None:
    """See that probabilities are such, and sum to 1."""
    check(np.isfinite(found).all() and (found >= 0).all(), "absurd probabilities")
    check((np.abs(found.sum(-1) - 1) < 1e-4).all(), "probabilities do not sum to 1")


def _not_finite(text):
    raise AssertionError(f"{text} in JSON")


def _data(kept=[]):  # noqa: B006  made once
    if not kept:
        kept.append(made_up_dataset(96, sessions=12))
    return kept[0]


LIBRARY = 50  # frameworks open a file in 20 to 100 ms
TARGETS = {
    "scans": Target(seeds.scans, scans),
    "converted": Target(seeds.converted, scans, 100),  # a process of its own each time
    "datasets": Target(seeds.datasets, datasets, 5),
    "indexes": Target(seeds.indexes, datasets),
    "configs": Target(seeds.configs, configs),
    "settings": Target(seeds.settings, settings),
    "plans": Target(seeds.plans, plans),
    "facts": Target(seeds.facts, facts),
    "runs": Target(seeds.runs, runs, 2),
    "keras": Target(seeds.keras, models, LIBRARY, "ignore"),
    "onnx": Target(seeds.onnx, models, LIBRARY, "ignore"),
    "skops": Target(seeds.skops, models, LIBRARY, "ignore"),
}
