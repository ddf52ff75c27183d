"""Simulated scans by the thousand: chunks, worker processes, one data set."""

import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from itertools import cycle, islice
from numbers import Integral
from types import ModuleType

import numpy as np
from threadpoolctl import threadpool_limits

from stm_keras import __version__
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.shard_writer import SHARD_SIZE, write_shard, write_shards
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.scanner import CHUNK, simulate_chunk


def simulate(
    count: int,
    seed: int,
    config: SimulationConfig | None = None,
    workers: int = 1,
    progress: Callable[[int, int], object] | None = None,
    start: int = 0,
) -> Dataset:
    """Simulate scans of H:Si(100) with the class of every line.

    A seed names an endless stream of scans: the first scans are the same however many
    are asked for, and the bytes are the same on any number of workers and threads.

    Args:
        count: Number of scans.
        seed: Names the stream.
        config: What is drawn, and which effects are on.
        workers: Processes. A script that asks for more than one needs
            `if __name__ == "__main__":`, as always with processes.
        progress: Called with (done, total) after every few scans.
        start: First scan of the stream to return.

    Returns:
        `Dataset` with uint8 images of shape `(count, size, size)`, recorded as real
        scans are: mean and slope of each line removed, then the scan scaled to 0..254.
        `change_line` is the first line whose class is not that of the line before.
        `parameters` holds what was drawn, one entry for each scan; where there are two,
        they are for the tip before and after a change.

    Raises:
        UsageError: An argument makes no sense.
        StmKerasError: A worker process died.
    """
    config = SimulationConfig() if config is None else config
    check_arguments(count, seed, config, workers, progress, start)
    stream = simulate_chunk, seed, (config,)
    columns = scans_of_stream(*stream, count, start, workers, progress)
    named = ("images", "labels", "lines", "line_labels", "change_line")
    return Dataset(
        **{name: columns.pop(name) for name in named},
        classes=CLASSES,
        parameters=columns,
        source=f"simulated, seed {seed}" + (f" from scan {start}" if start else ""),
    )


def scans_of_stream(
    simulate_chunk, seed, settings, count, start, workers=1, progress=None
) -> dict:
    """Return some scans of the stream of a seed: dict of str to array `(count, ...)`.

    `simulate_chunk`, of the seed, the number of the chunk and `settings`, makes such a dict of
    `CHUNK` scans. The other arguments are those of `simulate`.
    """
    first, last = start // CHUNK, (start + count - 1) // CHUNK
    jobs = ((seed, chunk, *settings) for chunk in range(first, last + 1))
    columns: dict[str, np.ndarray] = {}
    done = 0
    with closing(run_jobs(simulate_chunk, jobs, min(workers, last - first + 1))) as parts:
        for chunk, part in enumerate(parts, first):
            first_row = max(start - chunk * CHUNK, 0)
            rows = slice(done, min(done + CHUNK - first_row, count))
            done = rows.stop
            for name, values in part.items():
                if name not in columns:
                    columns[name] = _empty((count, *values.shape[1:]), values.dtype)
                columns[name][rows] = values[first_row : first_row + rows.stop - rows.start]
            if progress is not None:
                progress(done, count)
    return columns


def _empty(shape, dtype):
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise UsageError(
            f"`count` is too large for the memory. Received: count={shape[0]}. "
            "Simulate fewer scans at a time, with `start`."
        ) from None


def check_arguments(count, seed, config, workers=1, progress=None, start=0):
    """Raise a `UsageError` where an argument of `simulate` makes no sense."""
    for name, value, low in (
        ("count", count, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
        ("start", start, 0),
    ):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
            raise UsageError(
                f"`{name}` must be a whole number of {low} or more. "
                f"Received: {name}={value!r}."
            )
    if not isinstance(config, SimulationConfig):
        raise UsageError(
            f"`config` must be a SimulationConfig. Received: {type(config).__name__}."
        )
    if progress is not None and not callable(progress):
        raise UsageError(
            "`progress` must be a function of (done, total). "
            f"Received: {type(progress).__name__}."
        )


def simulate_shards(
    count,
    seed,
    folder,
    config=None,
    shard_size=SHARD_SIZE,
    workers=1,
    overwrite=False,
    progress=None,
):
    """Simulate the scans of `simulate` into a sharded dataset.

    Each process makes and writes shards of its own, one in memory at a time. Call it again
    after an interruption: what is there is kept, and the bytes are those of an undisturbed
    run. Arguments and result are those of `simulate` and `write_shards`.

    Raises:
        UsageError: An argument makes no sense.
        OutputError: The folder holds something else, or cannot be written.
        StmKerasError: A worker process died.
    """
    config = SimulationConfig() if config is None else config
    check_arguments(count, seed, config, workers, progress)

    def work(jobs):
        tasks = ((seed, config, *job) for job in jobs)
        shards = run_jobs(_simulate_shard, tasks, min(workers, len(jobs) or 1))
        with closing(shards):
            yield from shards

    settings = shard_settings(count, seed, config)
    return write_shards(folder, settings, count, shard_size, work, overwrite, progress)


def shard_settings(count, seed, config):
    """Return the settings that decide the bytes of simulated shards: dict, JSON-ready."""
    return {
        "command": "simulate",
        "stm_keras": __version__,
        "count": count,
        "seed": seed,
        **asdict(config),
        "effects": sorted(config.effects),
    }


def _simulate_shard(seed, config, path, start, scans):
    return write_shard(simulate(scans, seed, config, start=start), path)


def run_jobs(work, jobs, workers):
    """Yield `work(*job)` for each of `jobs`, in order, few of them in memory.

    `work` is a function of a module, which a process can import; of one worker it runs here.
    """
    if workers == 1:
        with threadpool_limits(1):
            for job in jobs:
                yield work(*job)
        return
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        with _no_interrupt(), _no_script():
            for _ in range(workers):
                ours, theirs = context.Pipe()
                pipes.append(ours)
                processes.append(
                    context.Process(target=_work, args=(work, theirs), daemon=True)
                )
                processes[-1].start()
                theirs.close()  # so that a dead worker ends the pipe
        turns, waiting = cycle(pipes), deque()
        for job, pipe in zip(islice(jobs, 2 * workers), turns, strict=False):
            pipe.send(job)
            waiting.append(pipe)
        while waiting:
            pipe = waiting.popleft()
            yield _received(pipe)
            for job in islice(jobs, 1):
                pipe.send(job)
                waiting.append(pipe)
    except (EOFError, ConnectionError):
        raise StmKerasError(
            "A worker process of `simulate` died: memory is short. Use workers=1."
        ) from None
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()


def _received(pipe):
    """Return the result that a worker sends, or raise its exception."""
    result = pipe.recv()
    if isinstance(result, BaseException):
        raise result
    return result


def _work(work, pipe):
    """Do the jobs that come through a pipe of this worker alone, until it ends.

    A pool of processes shares one pipe for all results: if one is killed while it writes,
    the rest and the parent wait for ever (seen with Python 3.11).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError), threadpool_limits(1):  # same bytes everywhere
        while True:
            job = pipe.recv()
            try:
                result = work(*job)
            except Exception as error:
                result = error
            pipe.send(result)


@contextmanager
def _no_interrupt():
    """Start processes that ignore Ctrl-C: the parent alone handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _no_script():
    """Start processes that do not run the user's script again, which may lack a guard.

    A new process imports the file of `__main__`, and ours need nothing of it: a script that calls
    `stm_keras.train` in its first line would train in every worker.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
