"""Judge one scan after the other while the next ones are being read."""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np

from stm_keras.errors import (
    InputError,
    MismatchError,
    NotFiniteError,
    ScanError,
    StmKerasError,
    UsageError,
)
from stm_keras.inference.judge import scan_verdicts
from stm_keras.inference.scan_inputs import read_candidates
from stm_keras.inference.scan_result import Judged
from stm_keras.inference.stream import LARGEST, Stream

BATCH = 64  # scans that Keras judges at once: it compiles for this number
THREADS = 4


def judge(predictor, places, channel=None, every_line=False, threads=None):
    """Judge the scans of files, in their order, and hand out each as soon as it is done.

    Few scans are in memory at a time. A network without Keras judges several of them in
    threads, since it leaves Python to others while it computes; Keras takes batches.

    Args:
        predictor: A `Predictor`.
        places: iterable of `paths.Place`, or None where nothing came for a while.
        channel: str or None. As `read_scan` takes it.
        every_line: bool. Whether to say as well what would have been said live.
        threads: int, or None for the number of cores, at most 4.

    Returns:
        iterator of `Judged`; a file that cannot be judged is one as well, with its error.

    Raises:
        MismatchError: `every_line`, and the model judges whole scans only.
        NotFiniteError: The model gives NaN or infinity for every scan: all, those before a
            pause, or the first 64.
    """
    return _blame(_judged(_Work(predictor, every_line), places, channel, threads))


def _blame(found):
    """Yield what was judged; the model is to blame for NaN if no scan escapes it."""
    held, works = [], False
    with closing(found):
        for each in found:
            works = works or (each is not None and each.error is None)
            held += [] if each is None else [each]
            failed = [one for one in held if isinstance(one.error, NotFiniteError)]
            if not failed or works:
                yield from map(_of_scan, held)
                held = []
            elif each is None or len(failed) == BATCH:
                break
    failed = [one for one in held if isinstance(one.error, NotFiniteError)]
    if failed:
        yield from (one for one in held if not isinstance(one.error, NotFiniteError))
        raise failed[0].error


def _of_scan(judged):
    if not isinstance(judged.error, NotFiniteError):
        return judged
    error = ScanError(
        f"{judged.path}: scan {judged.index} makes the model give numbers that are not "
        "finite, and others do not. Look at its heights and their unit."
    )
    return replace(judged, error=error)


def _judged(work, places, channel, threads):
    predictor, waiting, batch = work.predictor, deque(), []
    with _executor(predictor, threads) as (submit, window):
        limit = 1 if window else BATCH

        def flush():
            if batch:
                waiting.append(submit(work, tuple(batch)))
                batch.clear()

        try:
            for item in _items(places, predictor, channel):
                if isinstance(item, Judged):
                    flush()
                    waiting.append(_done([item]))
                elif item is not None:
                    if batch and batch[0].heights.shape != item.heights.shape:
                        flush()
                    batch.append(item)
                if item is None or len(batch) >= limit:
                    flush()
                while waiting and (len(waiting) > window or waiting[0].done()):
                    yield from waiting.popleft().result()
                if item is None and not waiting:
                    yield None
            flush()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Work:
    """What is done with a batch of candidates, in whatever thread."""

    def __init__(self, predictor, every_line):
        self.predictor = predictor
        self.every_line = every_line
        self._step = _stepper(predictor) if every_line else None

    def __call__(self, candidates):
        try:
            return self._judge(candidates)
        except NotFiniteError as error:
            if len(candidates) > 1:
                return [found for each in candidates for found in self([each])]
            (one,) = candidates
            return [Judged(one.path, self.predictor.classes, error=error, place=one.index)]

    def _judge(self, candidates):
        verdicts = scan_verdicts(
            self.predictor,
            np.stack([each.heights for each in candidates]),
            [each.size for each in candidates],
            [each.wanted for each in candidates],
            [each.lines.shape[1] for each in candidates],
        )
        return [
            Judged(
                path=candidate.path,
                classes=self.predictor.classes,
                candidate=candidate,
                verdict=verdict,
                tiles=self._tiles(candidate),
                live=self._live(candidate),
            )
            for candidate, verdict in zip(candidates, verdicts, strict=True)
        ]

    def _tiles(self, candidate):
        if not candidate.tiles:
            return ()
        tiles = candidate.tiles
        heights = np.stack([tile.heights for tile in tiles])
        sizes, planned = [tile.size for tile in tiles], [tile.planned for tile in tiles]
        pixels = [tile.pixels for tile in tiles]
        return tuple(scan_verdicts(self.predictor, heights, sizes, planned, pixels))

    def _live(self, candidate):
        if not self.every_line:
            return ()
        stream = Stream(
            self.predictor.facts,
            *self._step,
            lines=candidate.planned,
            pixels=candidate.lines.shape[1],
            size=candidate.size,
        )
        lines = np.where(np.isfinite(candidate.lines).all(1)[:, None], candidate.lines, 0)
        largest = np.abs(lines).max(initial=0)
        if largest > LARGEST:  # the unit does not matter
            lines = lines / largest
        return tuple(map(stream.push, lines))


def _items(places, predictor, channel):
    """Yield candidates, files with errors as `Judged`, and None for a pause."""
    for place in places:
        if place is None:
            yield None
            continue
        try:
            if place.error is not None:
                raise place.error
            for index, found in enumerate(
                read_candidates(place.path, predictor.facts, channel)
            ):
                if isinstance(found, StmKerasError):  # one scan of several
                    found = Judged(place.path, predictor.classes, error=found, place=index)
                yield found
        except UsageError:  # of what was asked, not of this file
            raise
        except StmKerasError as error:
            if not place.forgives(error):
                yield Judged(place.path, predictor.classes, error=error)
        except (MemoryError, OSError) as error:
            reason = str(error) or "it does not fit into memory"
            error = InputError(f"{place.path}: cannot be read ({reason}).")
            yield Judged(place.path, predictor.classes, error=error)


def _stepper(predictor):
    """Return the step of a model from line to line, and its first cache."""
    if hasattr(predictor.model, "first_cache"):
        return predictor.model.step, predictor.model.first_cache
    if hasattr(predictor.model, "session"):
        raise MismatchError(
            "The .onnx file judges whole scans. Give one of `stm-keras export --format "
            "onnx-step` for a verdict after every line."
        )
    from stm_keras.inference.predictor import compiled_step

    return compiled_step(predictor.model)


class _executor:
    """Threads for a model without Keras; else work is done when it is handed in."""

    def __init__(self, predictor, threads):
        self.pool = None
        if hasattr(predictor.model, "session"):
            count = threads or min(THREADS, len(_cores()))
            self.pool = ThreadPoolExecutor(count)
            self.window = 2 * count

    def __enter__(self):
        if self.pool is None:
            return lambda work, batch: _done(work(batch)), 0
        return self.pool.submit, self.window

    def __exit__(self, *error):
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)


def _done(found):
    future = Future()
    future.set_result(found)
    return future


def _cores():
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on Windows and Mac
        return range(os.cpu_count() or 1)
