"""A process of a comparison: `python -m stm_keras.experiments.compare.worker`.

Reads a line of JSON for each thing to do on standard input, and answers with one. Libraries
may print what they like: their standard output is standard error, which goes to a log.
"""

import json
import os
import sys
import time
from pathlib import Path

from stm_keras.errors import StmKerasError
from stm_keras.experiments.compare.folder import Folder
from stm_keras.experiments.compare.sides import Side
from stm_keras.terminal import progress_on_stderr


def main():
    """Answer orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        order = json.loads(line)
        what = order.pop("do")
        try:
            if worker is None:
                worker = Worker(Folder(order.pop("folder")), order.pop("side"))
            answer = getattr(worker, what)(**order)
        except StmKerasError as error:
            answer = {"error": " ".join(str(error).split())}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """What a process can be asked for: each method is an order, and returns its answer.

    Args:
        folder: A `Folder`.
        side: dict, the `Side` as JSON.
    """

    def __init__(self, folder, side):
        self.folder, self.side = folder, Side(**side)
        self.plan = folder.plan()
        if self.plan.cores:
            cores = sorted(os.sched_getaffinity(0))  # SLURM may have chosen
            os.sched_setaffinity(0, cores[: self.plan.cores])
        if self.side.ours:
            from stm_keras.backend import import_keras, use_backend

            use_backend(self.side.library)
            import_keras()

    def prepare(self, weights=None):
        """Make what every side begins with."""
        from stm_keras.experiments.compare.ours import prepare

        prepare(self.folder, self.plan, weights and Path(weights))
        return {}

    def start(self):
        """Build the network, do the first step, and some more that are not timed."""
        begin = time.perf_counter()
        if self.side.ours:
            from stm_keras.experiments.compare.ours import Ours as Kind
        else:
            from stm_keras.errors import require

            require("torch", "torch")
            from stm_keras.experiments.compare.native import Theirs as Kind
        imported = time.perf_counter()
        self.network = Kind(self.folder, self.plan, self.side)
        built = time.perf_counter()
        facts = self.network.facts()
        first = self._timed(lambda: self.network.train(1))
        self.network.train(2)
        self.network.predict()
        return {
            **facts,
            "seconds": {"import": imported - begin, "build": built - imported},
            "first_step": first,
        }

    def round(self):
        """Time some training steps and a pass of prediction."""
        count = self.plan.steps_per_round
        train = self._timed(lambda: self.network.train(count))
        predict = self._timed(self.network.predict)
        scans = predict.pop("result")
        return {
            "train": {key: train[key] / count for key in ("wall", "cpu")},
            "loss": train["result"],
            "predict": {key: value / scans for key, value in predict.items()},
            "memory": self._memory(),
        }

    def load(self):
        """See how long training waits for batches."""
        return self.network.load(self.plan.loading)

    def agree(self):
        """Compute what all sides must agree on."""
        return self.network.agree()

    def score(self, seed):
        """Train a run and judge its test scans."""
        from stm_keras.experiments.compare.scores import score_run

        return score_run(self.folder, self.plan, self.side, seed)

    def _timed(self, work):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall": wall, "cpu": cpu, "result": result}

    def _memory(self):
        from stm_keras.experiments.compare.machine import peak_memory

        return peak_memory(self.side.library)


if __name__ == "__main__":
    with progress_on_stderr():
        main()
