"""Run commands of ours in processes of their own, several at a time, each with a log."""

import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One command.

    Args:
        key: str. What messages call it.
        words: list of str. Arguments of `stm-keras`.
        log: `Path` that its output is added to.
        done: callable that tells whether its result is there.
    """

    key: str
    words: list
    log: Path
    done: object


def run_all(tasks, at_once=1, say=print):
    """Run tasks, some at a time, and wait for them.

    Whatever ends this, Ctrl-C too, ends them as well: each is asked to leave and keeps
    the epochs that are done.

    Args:
        tasks: list of `Task`.
        at_once: int.
        say: callable of str, told of each as it ends.

    Returns:
        list of bool: whether each is done.
    """
    running, leaving, lock = set(), threading.Event(), threading.Lock()

    def make(task):
        begin = time.perf_counter()
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a", encoding="utf-8") as file:
            with lock:
                if leaving.is_set():
                    return False
                process = start(task.words, file)
                running.add(process)
            code = process.wait()
            with lock:
                running.discard(process)
            file.write(f"ended with exit code {code}\n")
        seconds = time.perf_counter() - begin
        ok = task.done()
        how = "done" if ok else f"failed ({code}), see {task.log}"
        say(f"{task.key}: {how} in {seconds:.0f} s")
        return ok

    with ThreadPoolExecutor(at_once) as pool:
        made = [pool.submit(make, task) for task in tasks]
        try:
            return [each.result() for each in made]
        except BaseException:
            with lock:
                leaving.set()
                for process in running:
                    with contextlib.suppress(OSError):
                        process.terminate()
            raise


def start(words, file):
    """Start `stm-keras` with these arguments in a process of its own.

    Args:
        words: list of str.
        file: open file for its output.

    Returns:
        `subprocess.Popen`.
    """
    command = [sys.executable, "-m", "stm_keras", *words]
    return subprocess.Popen(command, stdout=file, stderr=file)
