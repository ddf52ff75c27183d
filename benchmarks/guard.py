"""Warn when something became slower: ratios now against those stored in guard.json.

    python benchmarks/guard.py            # compares, and ends with 1 where one lost 15 %
    python benchmarks/guard.py --store    # stores what this processor reaches

Each ratio is how often bare work of NumPy or ONNX Runtime fits into the time of ours: more is
faster. Both take turns on one thread, in processor time, so other work on the machine hardly
counts. A ratio depends on the processor, so it is compared with one of the same only.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from host import MODEL, race  # noqa: E402  the folders are known only now

from stm_keras.experiments.compare.machine import processor  # noqa: E402

STORED = Path(__file__).with_suffix(".json")
LOSS = 0.15  # of a ratio
SQUARE = np.ones((512, 512), np.float32)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", action="store_true", help="store the ratios")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args(argv)
    now = {}
    for part in given.parts:
        now[part] = measure(*PARTS[part](), given.rounds)
        print(f"{part}: {now[part]:.3g}", flush=True)
    name = processor()
    stored = json.loads(STORED.read_text("utf-8")) if STORED.exists() else {}
    if given.store:
        stored[name] = stored.get(name, {}) | {k: float(f"{v:.4g}") for k, v in now.items()}
        STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        return 0
    if name not in stored:
        print(f"Nothing is stored for {name}: run it with --store.")
        return 0
    losses = compare(stored[name], now)
    print("\n".join(losses) or f"No ratio lost {LOSS:.0%} on {name}.")
    return int(bool(losses))


def compare(stored, now):
    """Return a line for each ratio that is lower than the stored one by more than `LOSS`."""
    return [
        f"{part}: {1 - now[part] / before:.0%} slower than stored (ratio {now[part]:.3g}, "
        f"was {before:.3g})."
        for part, before in stored.items()
        if part in now and now[part] < (1 - LOSS) * before
    ]


def measure(bare, ours, rounds):
    """Return the time of bare work over that of ours, medians of rounds in turns."""

    first, second, _ = race(*(lambda w=work: (w(), 0)[1] for work in (bare, ours)), rounds)
    return first / second


def heights(count):
    """Make up scans, uint8 `(count, 128, 128)`: a lattice with features and noise of its own."""
    rng = np.random.default_rng(0)
    line, pixel = np.mgrid[:128, :128] / 128
    rough = rng.normal(size=(count, 8, 8)).repeat(16, 1).repeat(16, 2)
    scans = np.sin(30 * pixel + 7 * line) + rough + rng.normal(0, 0.3, (count, 128, 128))
    return (128 + 20 * np.clip(scans, -6, 6)).astype(np.uint8)


def augment():
    """Varying and preparing a batch, against drawing its noise and ten copies."""
    from stm_keras.data.augment import augment_batch
    from stm_keras.settings import AugmentConfig

    scans, settings = heights(32), AugmentConfig()
    space = np.empty(scans.shape, np.float32)

    def bare():
        np.random.default_rng(0).standard_normal(dtype=np.float32, out=space)
        for _ in range(10):
            np.copyto(space, scans)

    return bare, lambda: augment_batch(scans, settings, np.random.default_rng(0))


def predict():
    """Judging whole scans by the shipped model, against products of matrices."""
    from stm_keras.inference.onnx_model import OnnxPredictor

    model, scans = OnnxPredictor.load(MODEL), heights(2).astype(float)
    return product, lambda: model.probabilities(scans)


def push():
    """Judging lines as they come by the shipped model, against products of matrices."""
    from stm_keras.inference.onnx_model import OnnxStream

    stream, lines = OnnxStream(MODEL), heights(1)[0].astype(float)
    return product, lambda: (stream.reset(128, 128, None), [stream.push(x) for x in lines])


def bootstrap():
    """Scoring resamples of many scans, against drawing and counting them."""
    from stm_keras.evaluation.bootstrap import resampled_scores

    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 4, 20_000), rng.dirichlet(np.ones(4), 20_000).round(4)

    def bare():
        for _ in range(100):
            np.bincount(rng.integers(20_000, size=20_000), minlength=20_000)

    return bare, lambda: resampled_scores(labels, scores, resamples=100)


def audit():
    """Finding the nearest of four times as many vectors: 0.25 where work grows as they do."""
    from stm_keras.data.cells import Cells

    def nearest(count):
        vectors = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return lambda: Cells(vectors).nearest(vectors, 12, later=True)

    return nearest(3000), nearest(12_000)


def product():
    """Multiply matrices, single precision."""
    for _ in range(20):
        SQUARE @ SQUARE


PARTS = {each.__name__: each for each in (augment, predict, push, bootstrap, audit)}

if __name__ == "__main__":
    sys.exit(main())
