"""One side of the comparison, in a process of its own that does what it is told.

Reads a line of JSON for each thing to do on standard input, and answers with one. Libraries
may print what they like: their standard output is standard error.
"""

import contextlib
import json
import os
import resource
import sys
import time
from importlib import metadata

import numpy as np

from stm_keras.config import load_config

CLASS_COUNTS = (1664, 8312, 3202, 5754)  # of the predecessor's dataset


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side = None
    for line in sys.stdin:
        order = json.loads(line)
        what = order.pop("do")
        if what == "start":
            if order["cores"]:
                os.sched_setaffinity(0, range(order["cores"]))
            side = start(order)
            answer = {"parameters": side.parameters, "versions": side.versions()}
        elif what == "steps":
            answer = timed(side.steps, order["count"])
        else:
            answer = waiting(side, order["count"])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({**answer, "memory_gb": memory}), file=answers, flush=True)


def start(order):
    """Make the side that an order asks for: `Native` or `Ours`."""
    config = load_config(order["config"], order["settings"])
    if order["backend"] == "native":
        return Native(config, order["compiled"], order["masked"])
    return Ours(config, order["backend"])


def timed(work, count):
    """Time `count` steps: seconds of wall and of this process's processor time a step."""
    wall, cpu = time.perf_counter(), time.process_time()
    loss = work(count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall / count, "cpu": cpu / count, "loss": loss}


class Native:
    """The network in plain PyTorch."""

    def __init__(self, config, compiled, masked):
        import torch
        from native_vit import NativeViT, native_step

        sizes = config.model.model_dump(exclude={"name", "tokenizer", "positions"})
        torch.manual_seed(0)
        network = NativeViT(len(CLASS_COUNTS), **sizes, masked=masked)
        self.parameters = sum(weight.numel() for weight in network.parameters())
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        self.step = native_step(network, config.train, compiled)
        self.data = made_up_batch(config.train.batch_size)

    def steps(self, count):
        for _ in range(count):
            loss = self.step(*self.data)
        return float(loss)

    @staticmethod
    def versions():
        return {"torch": metadata.version("torch")}


class Ours:
    """The network in Keras, compiled and fitted as `stm-keras train` does."""

    def __init__(self, config, backend):
        from stm_keras.backend import import_keras, use_backend

        use_backend(backend)
        keras = import_keras()
        from stm_keras.models import build_model
        from stm_keras.training.train import compile_model, set_seed

        set_seed(0)
        keras.config.set_dtype_policy(config.train.precision)
        self.config = config
        self.backend = backend
        self.model = build_model(config.model, len(CLASS_COUNTS))
        compile_model(self.model, config.train, 100)
        self.parameters = self.model.count_params()
        inputs, targets, weights = made_up_batch(config.train.batch_size)
        self.class_weight = {i: float(w) for i, w in enumerate(class_weights())}

        class Repeated(keras.utils.PyDataset):
            def __init__(self, count):
                super().__init__()
                self.count = count

            def __len__(self):
                return self.count

            def __getitem__(self, number):
                return inputs, targets

        self.batches = Repeated

    def steps(self, count):
        history = self.model.fit(
            self.batches(count),
            class_weight=self.class_weight,
            shuffle=False,
            verbose=0,
        )
        return history.history["loss"][-1]

    def versions(self):
        names = {"keras", self.backend, *(["jaxlib"] if self.backend == "jax" else [])}
        return {name: metadata.version(name) for name in sorted(names)}


def waiting(side, count):
    """Fit one epoch of `count` batches of augmented scans, and see how long it waits."""
    from stm_keras.training.batches import Batches
    from stm_keras.training.lessons import Lessons

    config = side.config
    size = config.train.batch_size
    rng = np.random.default_rng(0)
    scans = rng.integers(0, 255, (size * count, 128, 128), np.uint8)
    labels = np.arange(len(scans)) % len(CLASS_COUNTS)
    indices = np.arange(len(scans))
    state = np.eye(len(CLASS_COUNTS), dtype=np.float32)[labels]
    lessons = Lessons(scans, indices, state, class_weights()[labels])
    batches = Batches(lessons, size, 0, config.augment)
    with contextlib.closing(batches):
        begin, cpu = time.perf_counter(), time.process_time()
        side.model.fit(batches, shuffle=False, verbose=0)
        seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "cpu": time.process_time() - cpu,
        "waited": batches.waited,
        "batches": count,
    }


def made_up_batch(size):
    """Return standardised noise, one-hot targets and the weight of each scan's class."""
    inputs = np.random.default_rng(0).standard_normal((size, 128, 128), np.float32)
    labels = np.arange(size) % len(CLASS_COUNTS)
    targets = np.eye(len(CLASS_COUNTS), dtype=np.float32)[labels]
    return inputs, targets, class_weights()[labels]


def class_weights():
    """Return the inverse frequency of each class, float32, 1 on average."""
    counts = np.array(CLASS_COUNTS)
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)


if __name__ == "__main__":
    main()
