"""Do jobs in processes of their own, and hand out the results in order."""

import multiprocessing
import signal
import threading
from collections import deque
from contextlib import contextmanager, suppress
from itertools import cycle, islice

from threadpoolctl import threadpool_limits

from stm_keras.errors import StmKerasError


def run_jobs(work, jobs, workers):
    """Yield the result of each job, in order, few of them in memory.

    Args:
        work: function of a module, which a process can import.
        jobs: iterator of tuples, the arguments of `work`.
        workers: int. Processes; 1 is this one.

    Yields:
        What `work` returns.

    Raises:
        StmKerasError: A worker process died.
    """
    if workers == 1:
        with threadpool_limits(1):
            for job in jobs:
                yield work(*job)
        return
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        with _no_interrupt():
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
            "A worker process of `simulate` died: memory is short, or the script lacks "
            '`if __name__ == "__main__":`. Use workers=1.'
        ) from None
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()


def _received(pipe):
    """Return what a worker sends, or raise it."""
    result = pipe.recv()
    if isinstance(result, BaseException):
        raise result
    return result


def _work(work, pipe):
    """Do the jobs that come through a pipe of this worker alone, until it ends.

    A pool of processes shares one pipe for all results: where one is killed while it
    writes, the others and the parent wait for ever (seen with Python 3.11).
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
    """Let processes start deaf to Ctrl-C: the parent alone answers it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
