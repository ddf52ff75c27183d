"""Time what the processor does around a network, against an older version of stm-keras.

    git worktree add --detach ../old 9b62ba8
    python benchmarks/host.py --old ../old --data scans.h5

Both run in one process in turns, on one thread; the numbers are processor time, which other
work on the machine hardly changes. A column of differences says whether they still agree.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import importlib
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "h_si100.onnx"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--old", type=Path, required=True, help="checkout of the old code")
    parser.add_argument("--data", type=Path, required=True, help="dataset, HDF5")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    print("| part | old us | new us | ratio | largest difference |")
    print("| --- | --- | --- | --- | --- |")
    for part in given.parts:
        for name, count, *works in PARTS[part](given):
            old, new, apart = race(*works, given.rounds)
            old, new = (1e6 * each / count for each in (old, new))
            row = name, f"{old:.1f}", f"{new:.1f}", f"{old / new:.2f}", f"{apart:.1e}"
            print("|", " | ".join(row), "|", flush=True)


def load(given, name):
    """Import a module of the old and of the present code, side by side."""
    modules = []
    for folder in (given.old, ROOT):
        for each in [each for each in sys.modules if each.split(".")[0] == "stm_keras"]:
            del sys.modules[each]
        sys.path.insert(0, str(folder.resolve()))
        modules.append(importlib.import_module(name))
        sys.path.pop(0)
    return modules


def race(old, new, rounds):
    """Return the median times of two functions in turns, s, and how far their results differ."""
    times = [[], []]
    apart = np.nanmax(np.abs(np.subtract(old(), new(), dtype=float)), initial=0)
    for _ in range(rounds):
        for work, own in zip((old, new), times, strict=True):
            start = time.process_time()
            work()
            own.append(time.process_time() - start)
    return *map(np.median, times), apart


def read(given, count):
    """Return the first scans of the dataset, `(count, lines, pixels)`."""
    import h5py

    with h5py.File(given.data) as file:
        return file["images"][:count]


def standardise(given):
    """Yield what it takes to level and scale a scan."""
    old, new = load(given, "stm_keras.data.preprocess")
    scans = read(given, 64)
    noisy = scans + np.random.default_rng(0).normal(size=scans.shape).astype("f4")
    for what, heights in (("as stored", scans), ("float32", noisy.astype("f4"))):
        for name in ("standardise_lines", "scale_lines", "has_signal"):
            works = (lambda m=m, n=name, h=heights: getattr(m, n)(h) for m in (old, new))
            yield f"{name}, a scan {what}", len(scans), *works


def augment(given):
    """Yield what it takes to vary and prepare a scan as `configs/vit.toml` has it."""
    old, new = load(given, "stm_keras.data.augment")
    scans = read(given, 32)
    from stm_keras.settings import AugmentConfig

    settings = AugmentConfig(rotate=0.5, zoom=0.1, pan=0.1, noise=0.1)
    works = (
        lambda m=m: m.augment_batch(scans, settings, np.random.default_rng(0))
        for m in (old, new)
    )
    yield "augmentation and preparing, a scan", len(scans), *works


def stream(given):
    """Yield what it takes to judge a line, of scans of few and of many lines."""
    old, new = load(given, "stm_keras.inference.onnx_model")
    streams = [each.OnnxStream(MODEL) for each in (old, new)]
    for size in (128, 1024):
        lines = np.random.default_rng(0).normal(size=(128, size)).cumsum(1) * 1e-11

        def push(own, size=size, lines=lines):
            own.reset(size, size, None)
            return [own.push(line).confidence or 0 for line in lines]

        works = (lambda s=s, push=push: push(s) for s in streams)
        yield f"a line of {size} lines, mean", len(lines), *works


def bootstrap(given):
    """Yield what it takes to score a resample of many and of few scans."""
    old, new = load(given, "stm_keras.evaluation.bootstrap")
    for scans, resamples in ((100_000, 300), (1000, 300)):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, scans)
        scores = rng.dirichlet(np.ones(4), scans).round(4)

        def score(module, about=(labels, scores), resamples=resamples):
            return module.resampled_scores(*about, resamples=resamples)["auroc"]

        works = (lambda m=m, score=score: score(m) for m in (old, new))
        yield f"a resample of {scans:,} scans", resamples, *works


PARTS = {
    "standardise": standardise,
    "augment": augment,
    "stream": stream,
    "bootstrap": bootstrap,
}

if __name__ == "__main__":
    main()
