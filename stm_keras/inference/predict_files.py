"""Judge the scans of files, one after the other, while the next ones are being read."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from time import monotonic

import numpy as np

from stm_keras.errors import NotFiniteError, ScanError
from stm_keras.inference.context import Context
from stm_keras.inference.find_files import InputFile
from stm_keras.inference.judge import scan_verdicts
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.scan_chain import LAST, Circumstances, ScanChain, seconds
from stm_keras.inference.scan_input import ScanInput, Unread, read_files
from stm_keras.inference.scan_result import ScanResult
from stm_keras.inference.stream import LARGEST, LineStream
from stm_keras.inference.verdict import NO_SIGNAL, ScanContext

BATCH = 64  # scans that Keras judges at once: it compiles for this number
THREADS = 4
PATIENCE = 0.25  # s that a scan may wait for others to be judged with


def predict_files(
    predictor: Predictor,
    files: Iterable[InputFile | None],
    channel: str | None = None,
    every_line: bool = False,
    threads: int | None = None,
    states: bool = True,
) -> Iterator[ScanResult | None]:
    """Judge the scans of files, in their order, and hand out each as soon as it is done.

    Few scans are in memory at a time. A model that threads may share judges several of them
    side by side; Keras takes batches.

    Args:
        files: iterable of `InputFile`, or None where nothing came for a while.
        every_line: bool. Whether to judge after every line as well, as a stream does.
        threads: int, or None for the number of cores, at most 4.
        states: bool. Whether verdicts hold `state`, as of `scan_verdicts`.

    Returns:
        iterator of `ScanResult`; a file that cannot be judged is one as well, with its error.

    Raises:
        MismatchError: `every_line`, and the model judges whole scans only.
        NotFiniteError: The model gives NaN or infinity for every scan: all, those before a
            pause, or the first 64.
    """
    judge = _BatchJudge(predictor, every_line, states)
    return _blame(_results(judge, files, channel, threads))


def _blame(results):
    """Yield results; the model is to blame for NaN if no scan escapes it."""
    held, works = [], False
    with closing(results):
        for each in results:
            works = works or (each is not None and each.error is None)
            held += [] if each is None else [each]
            failed = [one for one in held if isinstance(one.error, NotFiniteError)]
            if not failed or works:
                yield from map(_blame_scan, held)
                held = []
            elif each is None or len(failed) == BATCH:
                break
    failed = [one for one in held if isinstance(one.error, NotFiniteError)]
    if failed:
        yield from (one for one in held if not isinstance(one.error, NotFiniteError))
        raise failed[0].error


def _blame_scan(result):
    if not isinstance(result.error, NotFiniteError):
        return result
    error = ScanError(
        f"{result.path}: scan {result.index} makes the model give numbers that are not "
        "finite, and others do not. Look at its heights and their unit."
    )
    return replace(result, error=error)


def _results(judge, files, channel, threads):
    """Yield results in the order of the files, and None for a pause.

    Batches wait in line as futures: with threads, up to `window` of them compute while the
    next files are read.
    """
    waiting, batch = deque(), []
    count = threads or min(THREADS, len(_cores()))
    parallel = judge.predictor.parallel
    window, limit = (count, judge.limit) if parallel else (0, BATCH)
    pool = ThreadPoolExecutor(count)  # of a model that threads may share
    flushed = monotonic()

    def flush():
        nonlocal flushed
        flushed = monotonic()
        if batch:
            scans = tuple(batch)
            waiting.append(pool.submit(judge, scans) if parallel else _done(judge(scans)))
            batch.clear()

    try:
        for item in _inputs(files, judge.predictor, channel):
            if isinstance(item, ScanResult):
                flush()
                waiting.append(_done([item]))
            elif item is not None:
                if batch and batch[0].heights.shape != item.heights.shape:
                    flush()
                batch.append(item)
            late = parallel and monotonic() - flushed > PATIENCE
            if item is None or len(batch) >= limit or late:
                flush()
            while waiting and (len(waiting) > window or waiting[0].done()):
                yield from waiting.popleft().result()
            if item is None and not waiting:
                yield None
        flush()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def add_scans_before(
    results: Iterable[ScanResult | None], predictor: Predictor
) -> Iterator[ScanResult | None]:
    """Add to the results on scans of files what the scans before them say, in their order.

    Only files that tell when a scan began have scans before them, those of one folder and image.
    The results of a model without such numbers come as they are.
    """
    context = Context.of(predictor.metadata)
    if context is None:
        yield from results
        return
    chain = ScanChain(context, predictor)
    for result in results:
        if result is None or result.error is not None:
            yield result
            continue
        now, ended = _circumstances(result.scan_input)
        chain.begin(now)
        first, last = _edges(result.scan_input)
        for line in first:
            chain.see(line)
        verdict = result.verdict.early or result.verdict
        changed = bool(verdict.change_lines)
        unknown = bool(verdict.unknown_surface or verdict.unknown_size)
        told = ScanContext(absent=NO_SIGNAL)
        if verdict.probabilities is not None:
            told = chain.judge(verdict.probabilities, verdict.lines, changed, unknown)
        lines = tuple(
            chain.judge(
                line.probabilities,
                line.seen,
                line.change_line is not None,
                bool(line.unknown or line.unknown_size),
            )
            for line in (each.early or each for each in result.line_verdicts)
        )
        for line in last:
            chain.see(line)
        chain.end(None if unknown else result.verdict.probabilities, changed, ended)
        yield replace(result, context=told, line_contexts=lines)


def _circumstances(scan_input: ScanInput):
    """Return the `Circumstances` of a scan in a file, and when it ended, or None."""
    scan = scan_input.scan
    if scan is None or scan.started is None:
        return Circumstances(None), None
    began = seconds(scan.started)
    ended = None
    if scan.line_time is not None:
        ended = began + 2 * scan.line_time * len(scan_input.lines)
    place = f"{scan_input.path.parent} {scan.channel} {scan.direction}"
    return Circumstances(began, scan.bias, scan.setpoint, place), ended


def _edges(scan_input):
    """Return lines at the begin and at the end of a scan whose heights are absolute."""
    scan = scan_input.scan
    if scan is None or not scan.absolute:
        return (), ()
    return scan_input.lines[:LAST], scan_input.lines[-LAST:]


class _BatchJudge:
    """Judges a batch of scans, in whatever thread."""

    def __init__(self, predictor, every_line, states):
        self.predictor, self.every_line, self.states = predictor, every_line, states
        self.limit = 1 if every_line else predictor.side_by_side
        if every_line:
            predictor.start_scan()  # fails now if it ever does

    def __call__(self, inputs):
        try:
            return self._judge(inputs)
        except NotFiniteError as error:
            if len(inputs) > 1:
                return [result for each in inputs for result in self([each])]
            (one,) = inputs
            return [
                ScanResult(
                    one.path, self.predictor.classes, error=error, failed_index=one.index
                )
            ]

    def _judge(self, inputs):
        verdicts = scan_verdicts(
            self.predictor,
            np.stack([each.heights for each in inputs]),
            [each.size for each in inputs],
            [each.model_lines for each in inputs],
            [each.pixels for each in inputs],
            states=self.states,
        )
        return [
            ScanResult(
                path=each.path,
                classes=self.predictor.classes,
                scan_input=each,
                verdict=verdict,
                tiles=self._judge_tiles(each.tiles),
                line_verdicts=self._judge_lines(each) if self.every_line else (),
            )
            for each, verdict in zip(inputs, verdicts, strict=True)
        ]

    def _judge_tiles(self, tiles):
        if not tiles:
            return ()
        heights = np.stack([tile.heights for tile in tiles])
        sizes, planned = [tile.size for tile in tiles], [tile.planned for tile in tiles]
        pixels = [tile.pixels for tile in tiles]
        about = sizes, planned, pixels
        return tuple(scan_verdicts(self.predictor, heights, *about, states=self.states))

    def _judge_lines(self, scan_input):
        lines, pixels = scan_input.lines, scan_input.lines.shape[1]
        stream = LineStream(self.predictor, scan_input.planned, pixels, scan_input.size)
        lines = np.where(np.isfinite(lines).all(1)[:, None], lines, 0)
        largest = np.abs(lines).max(initial=0)
        if largest > LARGEST:  # the unit does not matter
            lines = lines / largest
        return tuple(map(stream.push, lines))


def _inputs(files, predictor, channel):
    """Yield each `ScanInput`, files with errors as `ScanResult`, and None for a pause."""
    for item in read_files(files, predictor.metadata, channel):
        if isinstance(item, Unread):
            classes, index = predictor.classes, item.index
            yield ScanResult(item.path, classes, error=item.error, failed_index=index)
        else:
            yield item


def _done(result):
    future = Future()
    future.set_result(result)
    return future


def _cores():
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on Windows and Mac
        return range(os.cpu_count() or 1)
