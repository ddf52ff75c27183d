"""Time a verdict after a line, on one core: as a stream, exported, and from the beginning.

    python benchmarks/latency.py models/h_si100.keras --page benchmarks/README.md

Without a model it takes the network of a config with random weights. Each side is a process
of its own on one core; the floor is the time in which that core copies as many bytes as the
network has weights.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib import metadata
from pathlib import Path

import numpy as np
from latency_table import page, put_section

from stm_keras.experiments.compare.machine import processor

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("individual atoms", "asymmetries/dimers", "rows", "generic defects")
WARM_UP = 16  # lines that are not counted


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, help="a .keras file")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "sequential.toml")
    parser.add_argument("--lines", type=int, default=2000, help="lines of a stream")
    parser.add_argument("--prefixes", type=int, default=64, help="passes over a prefix")
    parser.add_argument(
        "--backends", nargs="+", default=["tensorflow", "jax", "torch"], metavar="BACKEND"
    )
    parser.add_argument("--core", type=int, default=0, help="number of the core")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "latency.json")
    parser.add_argument("--page", type=Path, help="put the table into this Markdown page")
    parser.add_argument("--title", default="A verdict after a line", help="of the section")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.side:
        os.sched_setaffinity(0, [arguments.core])
        print(json.dumps(side(arguments)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = measure(arguments, Path(folder))
    words = [] if argv is None else argv
    words = sys.argv[1:] if argv is None else words
    report["command"] = "python benchmarks/latency.py " + shlex.join(map(str, words))
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        text = arguments.page.read_text(encoding="utf-8") if arguments.page.exists() else ""
        arguments.page.write_text(
            put_section(text, arguments.title, page(report)), encoding="utf-8"
        )
    print(page(report))


def measure(arguments, folder):
    """Let each side run by itself, one after the other.

    Args:
        arguments: The command line.
        folder: `Path` of a folder for files.

    Returns:
        dict, JSON-ready: what was measured, and when and where.
    """
    before, sides, failures = os.getloadavg()[0], {}, []
    names = [f"{kind} {b}" for kind in ("stream", "prefix") for b in arguments.backends]
    for name in ("files " + arguments.backends[0], "onnx", *names):
        kind, _, backend = name.partition(" ")
        command = [sys.executable, __file__, "--side", kind, "--work", str(folder)]
        for option in ("config", "lines", "prefixes", "core"):
            command += [f"--{option}", str(getattr(arguments, option))]
        if arguments.model:
            command.append(str(arguments.model))
        print(name, file=sys.stderr)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(ROOT), os.environ.get("PYTHONPATH", "")]
                ),
                "OMP_NUM_THREADS": "1",
                **({"KERAS_BACKEND": backend} if backend else {}),
            },
            encoding="utf-8",
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            failures.append(f"{name}: {last}")
            continue
        sides[name] = json.loads(done.stdout.strip().splitlines()[-1])
    facts = next(iter(sides.values()))
    sides = {name: each for name, each in sides.items() if not name.startswith("files")}
    return {
        "model": str(arguments.model) if arguments.model else "random weights",
        "config": arguments.config.name,
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": [before, os.getloadavg()[0]],
        "parameters": facts["parameters"],
        "bandwidth": facts["bandwidth"],
        "floor": 4 * facts["parameters"] / facts["bandwidth"],
        "sides": sides,
        "versions": {
            name: metadata.version(name)
            for name in ("keras", "onnxruntime", *arguments.backends)
        },
        "failures": failures,
    }


def side(arguments):
    """Do the work of one process.

    Args:
        arguments: The command line.

    Returns:
        dict of numbers; times in seconds.
    """
    if arguments.side == "onnx":
        from stm_keras.inference.onnx_model import OnnxStream

        return timed_stream(OnnxStream(arguments.work / "model.onnx"), arguments.lines)
    from stm_keras.backend import import_keras, use_backend

    use_backend(device="cpu")
    keras = import_keras()
    if keras.config.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    from stm_keras.inference.model_file import load_predictor

    if arguments.side == "files":
        return write_files(arguments)
    predictor = load_predictor(arguments.work / "model.keras")
    if arguments.side == "stream":
        from stm_keras.inference.stream import LineStream

        return timed_stream(LineStream(predictor), arguments.lines)
    return timed_prefixes(predictor, arguments.prefixes)


def write_files(arguments):
    """Write the model as `.keras` and `.onnx`, and measure how fast memory is copied."""
    import shutil

    from stm_keras.config import load_config
    from stm_keras.export import export_onnx
    from stm_keras.inference.model_file import load_predictor, save_model
    from stm_keras.models import build_model

    output = arguments.work / "model.keras"
    if arguments.model:
        shutil.copy(arguments.model, output)
    else:
        config = load_config(arguments.config).model
        facts = {"classes": list(CLASSES), "pixels": 128, "max_lines": 128}
        model = build_model(config, len(CLASSES))
        save_model(model, output, {**facts, "input": type(config).input})
    predictor = load_predictor(output)
    export_onnx(predictor, arguments.work / "model.onnx")
    return {"parameters": predictor.model.count_params(), "bandwidth": bandwidth()}


def bandwidth(size=2**26, rounds=8):
    """Return the bytes that a core copies in a second, of the fastest of some rounds."""
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    return size / min(times)


def timed_stream(stream, lines):
    """Time each `push` of made-up lines of the length that the model takes."""
    rng = np.random.default_rng(0)
    heights = (
        rng.normal(size=(lines + WARM_UP, stream.metadata["pixels"])).cumsum(1) * 1e-11
    )
    return clocked(stream.push, heights)


def timed_prefixes(predictor, count):
    """Time the whole network over all lines so far, for prefixes of 1 to 128 lines.

    The input has 128 lines, 0 from the present on: another shape for every line would be
    compiled anew.
    """
    from keras import ops

    from stm_keras.backend import compiled
    from stm_keras.data.preprocess import INPUTS

    facts = predictor.metadata
    shape = (1, facts["max_lines"], facts["pixels"])
    prepare = INPUTS[facts.get("input", "standardised")]
    scan = np.random.default_rng(0).normal(size=shape).cumsum(2) * 1e-11
    import keras

    entry = keras.Input(shape[1:])
    run = compiled(keras.Model(entry, predictor.model(entry)))

    def judge(seen):
        lines = np.zeros(shape, np.float32)
        lines[:, :seen] = prepare(scan[:, :seen])
        out = run([ops.convert_to_tensor(lines)])
        return ops.convert_to_numpy(out["state"])[:, seen - 1]

    ends = np.linspace(1, shape[1], count).astype(int).tolist()
    return clocked(judge, [shape[1]] * WARM_UP + ends)


def clocked(work, orders):
    """Time a function for each of some arguments; the first few do not count."""
    wall, cpu = [], []
    for order in orders:
        start = time.perf_counter(), time.process_time()
        work(order)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    found = {"count": len(wall) - WARM_UP}
    for name, times in (("wall", wall[WARM_UP:]), ("cpu", cpu[WARM_UP:])):
        median, late = np.percentile(times, [50, 99])
        found[name] = {"median": median, "p99": late, "max": max(times)}
    return found


if __name__ == "__main__":
    main()
