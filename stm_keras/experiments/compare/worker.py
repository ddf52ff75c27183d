"""The process of a setup, from both ends: who asks, and who trains and measures.

`Process` writes a command as a line of JSON to the standard input of
`python -m stm_keras.experiments.compare.worker`, which answers with one. Libraries may print
what they like: their standard output is standard error, which goes to a log.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from stm_keras.errors import StmKerasError, TrainingError, require
from stm_keras.experiments.compare.folder import ComparisonFolder
from stm_keras.experiments.compare.machine import operations, peak_memory, versions
from stm_keras.experiments.compare.records import SCORES, Setup
from stm_keras.progress import progress_on_stderr
from stm_keras.runs import Run

ENVIRONMENT = {  # several processes share a card: none may take all of its memory
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Process:
    """The worker of one setup, until it is closed."""

    def __init__(self, folder, setup, cores=0):
        self.log = folder.file("logs", f"{setup.slug}.log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        environment = {**ENVIRONMENT, **os.environ}
        if cores:
            environment |= dict.fromkeys(THREADS, str(cores))
        if cores == 1:
            flags = os.environ.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{flags} {ONE_THREAD}".strip()
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stm_keras.experiments.compare.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                encoding="utf-8",
            )
        self.first = {"folder": str(folder.path), "setup": setup.model_dump()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the worker: by the end of its commands, or at once where it is at work."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def call(self, method, **arguments):
        """Call a method of the `Worker` and return its answer, a dict.

        Raises:
            TrainingError: It failed; the message is the last line of its log, or the signal
                that ended it.
        """
        command = {"method": method, **self.first, **arguments}
        with contextlib.suppress(BrokenPipeError):  # its log says why it ended
            print(json.dumps(command), file=self.process.stdin, flush=True)
        self.first = {}
        answer = self.process.stdout.readline()
        if not answer:
            raise TrainingError(self._reason(self.process.wait()))
        answer = json.loads(answer)
        if "error" in answer:
            raise TrainingError(answer["error"])
        return answer

    def _reason(self, code):
        """Say why the process ended."""
        with self.log.open(errors="replace", encoding="utf-8") as log:
            log.seek(self.log_start)
            lines = log.read().strip().splitlines()
        if code < 0:
            return f"ended by signal {-code} (out of memory?), see {self.log}"
        return lines[-1] if lines else f"ended with exit code {code}, see {self.log}"


def main():
    """Answer commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        arguments = json.loads(line)
        method = arguments.pop("method")
        try:
            if worker is None:
                folder = ComparisonFolder(Path(arguments.pop("folder")))
                worker = Worker(folder, Setup(**arguments.pop("setup")))
            answer = getattr(worker, method)(**arguments)
        except StmKerasError as error:
            answer = {"error": " ".join(str(error).split())}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """What a process can be asked for: each method returns a dict, JSON-ready."""

    def __init__(self, folder, setup):
        self.folder, self.setup, self.plan = folder, setup, folder.plan()
        if self.plan.cores:
            cores = sorted(os.sched_getaffinity(0))  # SLURM may have chosen
            os.sched_setaffinity(0, cores[: self.plan.cores])
        if setup.uses_keras:
            from stm_keras.backend import import_keras, use_backend

            use_backend(setup.library)
            import_keras()

    def prepare(self, weights=None):
        """Make what every setup starts from."""
        from stm_keras.experiments.compare.keras_trainer import prepare

        prepare(self.folder, self.plan, weights and Path(weights))
        return {}

    def start(self):
        """Build the network, do the first step, and some more that are not timed."""
        start = time.perf_counter()
        if self.setup.uses_keras:
            from stm_keras.experiments.compare.keras_trainer import KerasTrainer as Trainer
        else:
            require("torch", "torch")
            from stm_keras.experiments.compare.torch_trainer import TorchTrainer as Trainer
        imported = time.perf_counter()
        self.trainer = Trainer(self.folder, self.plan, self.setup)
        built = time.perf_counter()
        description = self.trainer.describe()
        first, _ = _timed(self.trainer.train, 1)
        self.trainer.train(2)
        self.trainer.predict()
        return {
            **description,
            "versions": versions(self.setup.library),
            "seconds": {"import": imported - start, "build": built - imported},
            "first_step": first,
        }

    def round(self):
        """Time some training steps and a pass of prediction."""
        count = self.plan.steps_per_round
        train, loss = _timed(self.trainer.train, count)
        predict, scans = _timed(self.trainer.predict)
        return {
            "train": {clock: seconds / count for clock, seconds in train.items()},
            "loss": loss,
            "predict": {clock: seconds / scans for clock, seconds in predict.items()},
            "memory": peak_memory(self.setup.library),
        }

    def finish(self):
        """Time how long training waits for batches, and compute what all must agree on.

        And what a share of the peak is computed of: operations of a step, and the speed of
        products.
        """
        found = {}
        if self.setup.jit != "true":
            work = partial(self.trainer.train, 1)
            found["operations"] = operations(self.setup.library, work)
        if self.setup.uses_keras:
            from stm_keras.backend import matmul_speed

            found["peak"] = max(map(matmul_speed, ("float32", "bfloat16")))
            if self.plan.loading:
                found["loading"] = self.trainer.load(self.plan.loading)
        return {**found, "agreement": self.trainer.agree()}

    def score(self, seed):
        """Train a run on the split of the comparison and score its test scans."""
        from stm_keras.training.report import report_run
        from stm_keras.training.train import train

        config, folder = self.plan.config, self.folder
        changes = {"epochs": self.plan.epochs, **self.setup.train_settings}
        settings = config.train.model_copy(update=changes)
        config = config.model_copy(update={"train": settings, "seed": seed})
        run = Run.start(folder.run_path(self.setup, seed), config)
        if not run.file("split.json").exists():
            split = {**folder.split(), "dataset": folder.material()["data"]}
            run.write_json("split.json", split)
        with run.locked():
            predictor, dataset, split = train(config, run)
            scores = report_run(run, predictor, dataset, split)
        return {key: scores[key] for key in SCORES}


def _timed(work, *arguments):
    """Return seconds by two clocks, and what the work returns."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*arguments)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}, result


if __name__ == "__main__":
    with progress_on_stderr():
        main()
