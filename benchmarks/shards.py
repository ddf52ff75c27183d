"""Measure how fast scans come out of a sharded dataset in random order, and in how much memory.

stm-keras simulate --count 1000000 --seed 1 --shards scans
python benchmarks/shards.py scans --batches 2000 --cold
"""

import argparse
import json
import os
import time
from datetime import date
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import psutil

from stm_keras.data.dataset import read_images
from stm_keras.data.shards import load_shards
from stm_keras.data.split import split_dataset
from stm_keras.settings import AugmentConfig
from stm_keras.training.batches import Batches
from stm_keras.training.targets import make_training_set


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="Sharded dataset.")
    parser.add_argument("--batches", type=int, default=2000, help="Of each measurement.")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="That prepare batches.")
    parser.add_argument(
        "--cold", action="store_true", help="First forget the files' pages."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON, not a table.")
    given = parser.parse_args()
    found = measure(given.folder, given)
    print(json.dumps(found) if given.json else table(found))


def measure(folder, given):
    """Read a dataset in every way of interest.

    Returns:
        dict, JSON-ready: facts, and `steps`, a list of dicts with `name`, `scans`,
        `seconds`, `cpu` (seconds of this process) and `mb` (resident at the end).
    """
    steps, process = [], psutil.Process()

    def step(name, work):
        begin, cpu = time.perf_counter(), time.process_time()
        result, scans = work()
        steps.append(
            {
                "name": name,
                "scans": scans,
                "seconds": time.perf_counter() - begin,
                "cpu": time.process_time() - cpu,
                "mb": process.memory_info().rss / 1e6,
            }
        )
        return result

    def run_batches(augment, epoch):
        batches = Batches(
            scans,
            given.batch_size,
            0,
            augment,
            heads=("state", "change", "unknown"),
            threads=given.threads,
            steps=given.batches,
        )
        if given.cold:
            forget(folder)

        def work():
            batches.set_epoch(epoch)
            for number in range(given.batches):
                batches[number]
            return None, given.batches * given.batch_size

        return work

    def read_alone():
        order = np.random.default_rng(1).permutation(len(dataset))
        for number in range(given.batches):
            rows = order[number * given.batch_size :][: given.batch_size]
            read_images(dataset.images, rows)
        return None, given.batches * given.batch_size

    step("python, keras, libraries", lambda: (None, 0))
    dataset = step("open", lambda: (load_shards(folder), 0))
    fractions = (0.98, 0.01, 0.01)
    split = step("split", lambda: (split_dataset(dataset, "p1", fractions=fractions), 0))
    scans = step("lessons", lambda: (make_training_set(dataset, split.parts["train"]), 0))
    if given.cold:
        forget(folder)
    step("scans in random order, 1 thread", read_alone)
    step("batches, not augmented", run_batches(None, 0))
    step("batches, augmented", run_batches(AugmentConfig(), 1))
    return {
        "scans": len(dataset),
        "shards": len(dataset.images.files.paths),
        "gb": sum(dataset.images.files.sizes) / 1e9,
        "cold": given.cold,
        "batch_size": given.batch_size,
        "batches": given.batches,
        "threads": given.threads,
        "date": date.today().isoformat(),
        "load": os.getloadavg()[0],
        "files_open": dataset.images.files._file.cache_info().currsize,
        "steps": steps,
    }


def table(found):
    """Write what was measured as Markdown."""
    cache = "cold" if found["cold"] else "warm"
    rows = [
        f"{found['scans']:,} scans in {found['shards']} shards, {found['gb']:.1f} GB; page cache "
        f"{cache}; {found['batches']:,} batches of {found['batch_size']}, {found['threads']} "
        f"threads; {found['date']}, load average {found['load']:.1f}.",
        "",
        "| step | s | scans/s | CPU | resident MB | over libraries |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    first = found["steps"][0]["mb"]
    for step in found["steps"]:
        speed, cpu = "–", f"{step['cpu']:.1f} s"
        if step["scans"]:
            speed = f"{step['scans'] / step['seconds']:,.0f}"
            cpu = f"{step['cpu'] / step['scans'] * 1e6:.0f} us/scan"
        rows.append(
            f"| {step['name']} | {step['seconds']:.1f} | {speed} | {cpu} | {step['mb']:.0f} | "
            f"{step['mb'] - first:+.0f} |"
        )
    return "\n".join(rows)


def forget(folder):
    """Let the system drop the cached pages of all shards."""
    for path in folder.glob("*.h5"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
