"""A process that runs cases one after another, and does not outlive one that hangs.

    python child.py TARGET FOLDER FIRST LAST [SEED]

Seeds take turns. What happens to one in its Nth turn is always the same, whatever others
there are; in its first it is whole, and must be taken if we made it up. The kernel ends the process
when a case takes too long, in whichever library; what ran is in the file `at`, and where it
hung on stderr. Files that fail stay in FOLDER/failed.
"""

import contextlib
import faulthandler
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.mutations import mutate  # noqa: E402
from fuzz.targets import TARGETS, check_line  # noqa: E402

from stm_keras.errors import StmKerasError  # noqa: E402

SECONDS = 5  # of processor time, and twelve times that by the clock
MOST = 1200 << 20  # bytes in memory
MOST_KEPT = 200  # files
ADDRESSES = 8 << 30  # bytes: what asks for more gets a MemoryError, the machine lives on


def own_peak():
    """Return the most bytes that this process had; `getrusage` counts its parent's, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(target: str, folder: Path, first: int, last: int, only: str = "") -> None:
    """Run the cases from `first` up to `last`, and print a line of JSON for each failure.

    Args:
        target: str. A name of `TARGETS`.
        folder: `Path` of a folder with the pickled `seeds`.
        first, last: int.
        only: str. The seed to damage; "" for one after another. A case is a turn then.
    """
    for number in (signal.SIGPROF, signal.SIGALRM):
        faulthandler.register(number, chain=True)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what others print is lost
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    shutil.rmtree(folder / "cases", ignore_errors=True)  # what the last one left
    made = pickle.loads((folder / "seeds").read_bytes())
    at = os.open(folder / "at", os.O_WRONLY | os.O_CREAT, 0o600)
    counts, children = {"read": 0, "refused": 0}, 0
    name = only or min(made)  # once unseen: what is imported takes its time
    path, _ = prepare(made, name, random.Random(0), folder / "cases" / name, whole=True)
    outcome(TARGETS[target], path, 1)
    for number in range(first, last):
        turn = number if only else number // len(made)
        name = only or sorted(made)[number % len(made)]
        draw = random.Random(f"{target} {name} {turn}")
        place = folder / "cases" / name
        path, damaged = prepare(made, name, draw, place, whole=turn == 0)
        row = [number, turn, *counts.values(), name, str(place / damaged)]
        os.pwrite(at, json.dumps(row).ljust(4096).encode(), 0)
        begin = time.perf_counter()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(12 * SECONDS)
        kind = outcome(TARGETS[target], path, turn)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.perf_counter() - begin
        peak = own_peak()
        more = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10  # only rises
        if peak > MOST or more > max(children, MOST):
            kind = f"{max(peak, more) >> 20} MB in memory"
        children = more
        if turn == 0 and not name.startswith("shared") and kind == "refused":
            kind = "refused though it is whole"
        if kind in counts:
            counts[kind] += 1
        else:
            row = {"turn": turn, "seed": name, "kind": kind, "seconds": seconds}
            print(json.dumps(row), file=told, flush=True)
            keep(folder, turn, place / damaged)
        if peak > MOST:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        (place / damaged).write_bytes(made[name].files[damaged])
    print(json.dumps(counts), file=told, flush=True)


def keep(folder: Path, turn: int, path: Path) -> None:
    """Copy a file that failed to where it can be looked at."""
    folder = folder / "failed"
    folder.mkdir(exist_ok=True)
    if len(list(folder.iterdir())) < MOST_KEPT:
        shutil.copyfile(path, folder / f"{turn}-{path.name}")


def prepare(made, name, draw, folder, whole):
    """Write a seed, one file of it damaged; return what is given and that file's name."""
    seed = made[name]
    for file, data in seed.files.items():
        path = folder / file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    chosen = draw.choice(seed.damaged or sorted(seed.files))
    ours = sorted(each for each in made if not each.startswith("shared"))
    other = draw.choice(list(made[draw.choice(ours)].files.values()))
    if whole:
        return folder / seed.start, chosen
    (folder / chosen).write_bytes(mutate(seed.files[chosen], draw, other))
    return folder / seed.start, chosen


def outcome(target, path, turn):
    """Return "read", "refused", or what went wrong and where."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter(target.warnings)
            target.run(path, turn)
        return "read"
    except StmKerasError as error:
        try:
            check_line(error)
        except AssertionError as wrong:
            return str(wrong)
        return "refused"
    except AssertionError as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename.startswith(TESTS):
            return str(error) or "assertion"
        return where(error)
    except BaseException as error:
        return where(error)


def where(error):
    """Name an exception and the last line of stm-keras that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/stm_keras/" in frame.filename]
    last = (ours or list(frames))[-1]
    place = f"{last.filename.rpartition('/stm_keras/')[2]}:{last.lineno} {last.name}"
    return f"{type(error).__name__} at {place}: {str(error)[:120]}"


TESTS = str(Path(__file__).parent)

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5]), *sys.argv[5:])
