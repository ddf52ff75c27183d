"""Simulated scans by the thousand: chunks, worker processes, one data set."""

from contextlib import closing
from numbers import Integral

import numpy as np

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.errors import UsageError
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.scanner import CHUNK, simulate_chunk
from stm_keras.simulate.workers import run_jobs


def simulate(count, seed, config=None, workers=1, progress=None, start=0):
    """Simulate scans of H:Si(100) with the class of every line.

    A seed names an endless stream of scans: the first scans are the same however many
    are asked for, and the bytes are the same on any number of workers and threads.

    Args:
        count: int. Number of scans.
        seed: int. Names the stream.
        config: `SimulationConfig`, or None for its defaults.
        workers: int. Processes. A script that asks for more than one needs
            `if __name__ == "__main__":`, as always with processes.
        progress: callable `(done, total)`, called after every few scans, or None.
        start: int. First scan of the stream to return.

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
    first, last = start // CHUNK, (start + count - 1) // CHUNK
    jobs = ((seed, chunk, config) for chunk in range(first, last + 1))
    columns, done = {}, 0
    with closing(run_jobs(simulate_chunk, jobs, min(workers, last - first + 1))) as parts:
        for chunk, part in enumerate(parts, first):
            begin = max(start - chunk * CHUNK, 0)
            rows = slice(done, min(done + CHUNK - begin, count))
            done = rows.stop
            for name, values in part.items():
                if name not in columns:
                    columns[name] = _empty((count, *values.shape[1:]), values.dtype)
                columns[name][rows] = values[begin : begin + rows.stop - rows.start]
            if progress is not None:
                progress(done, count)

    fields = ("images", "labels", "lines", "line_labels", "change_line")
    known = {name: columns.pop(name) for name in fields}
    source = f"simulated, seed {seed}" + (f" from scan {start}" if start else "")
    return Dataset(**known, classes=CLASSES, parameters=columns, source=source)


def _empty(shape, dtype):
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise UsageError(
            f"`count` is too large for the memory. Received: count={shape[0]}. "
            "Simulate fewer scans at a time, with `start`."
        ) from None


def check_arguments(count, seed, config, workers, progress=None, start=0):
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
