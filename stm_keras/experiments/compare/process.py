"""A worker process, as the one who gives it orders sees it."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from stm_keras.errors import TrainingError

PACKAGE = Path(__file__).resolve().parents[2]
ENVIRONMENT = {  # several processes share a card: none may take all of its memory
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS += ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Process:
    """A worker of one side, until it is closed.

    Args:
        folder: A `Folder`.
        side: A `Side`.
        cores: int. Cores that it may use, 0 for all.
    """

    def __init__(self, folder, side, cores=0):
        self.folder, self.side = folder, side
        log = folder.file("logs", f"{side.slug}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.begin = log.stat().st_size if log.exists() else 0
        paths = [str(PACKAGE), os.environ.get("PYTHONPATH", "")]
        environment = {**ENVIRONMENT, **os.environ}
        if cores:
            environment |= dict.fromkeys(THREADS, str(cores))
        if cores == 1:
            given = os.environ.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{given} {ONE_THREAD}".strip()
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        with log.open("a", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stm_keras.experiments.compare.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
                encoding="utf-8",
            )
        self.first = {"folder": str(folder.path), "side": side.to_json()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the worker: by the end of its orders, or at once where it is at work."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def ask(self, what, **order):
        """Let the worker do something and return its answer, a dict.

        Raises:
            TrainingError: It failed; the message is its last words, or the signal that
                ended it.
        """
        with contextlib.suppress(BrokenPipeError):  # what it died of is in its log
            order = {"do": what, **self.first, **order}
            print(json.dumps(order), file=self.process.stdin, flush=True)
        self.first = {}
        answer = self.process.stdout.readline()
        if not answer:
            raise TrainingError(self._last_words(self.process.wait()))
        answer = json.loads(answer)
        if "error" in answer:
            raise TrainingError(answer["error"])
        return answer

    def _last_words(self, code):
        with self.log.open(errors="replace", encoding="utf-8") as file:
            file.seek(self.begin)
            lines = file.read().strip().splitlines()
        if code < 0:
            return f"ended by signal {-code} (out of memory?), see {self.log}"
        return lines[-1] if lines else f"ended with exit code {code}, see {self.log}"
