"""Write sharded datasets, so that a command that was interrupted can go on.

Until all shards are there, the folder has a journal instead of an index: a line with what
was asked for, then a line for every finished shard.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stm_keras.data.hdf5 import ARRAYS
from stm_keras.data.load import save_dataset
from stm_keras.data.shard_index import (
    INDEX,
    JOURNAL,
    LARGEST,
    Shard,
    ShardIndex,
    file_sha256,
    read_index,
)
from stm_keras.data.summary import recorded_heights
from stm_keras.errors import InputError, OutputError, UsageError
from stm_keras.files import atomic, check_folder, locked
from stm_keras.untrusted import parse_json, read_json, read_text

LOCK = ".lock"
SHARD_SIZE = 8192  # scans: about 90 MB of a file, 140 MB of memory of a process


def write_shards(folder, settings, count, shard_size, work, overwrite=False, progress=None):
    """Write the shards of a dataset that are missing, then the index.

    Args:
        folder: str or `Path`. New, empty, or begun by the same command.
        settings: dict, JSON-ready. What was asked for: a folder with other settings is
            left alone.
        count: int. Scans.
        shard_size: int. Scans of a shard; the last may have fewer.
        work: callable of a list of (`Path`, first scan, scans), the shards to write. It
            yields what `write_shard` returns of each, in that order.
        overwrite: bool. Whether a finished dataset, or one begun with other settings, may
            be replaced.
        progress: callable of (scans done, scans in all), or None.

    Returns:
        Tuple of `ShardIndex` and int: the scans that were there already.

    Raises:
        UsageError: `shard_size` is below 1.
        OutputError: The folder holds something else, or cannot be written.
    """
    if shard_size < 1:
        raise UsageError(f"`shard_size` must be 1 or more. Received: {shard_size}.")
    folder = Path(folder)
    settings = _plain({**settings, "shard_size": shard_size})
    check_shards_folder(folder, settings, overwrite)
    check_folder(folder)
    refusal = (
        f"{folder}: another process writes shards here. Wait for it, or choose another "
        "folder."
    )
    with locked(folder / LOCK, refusal):
        try:
            if (folder / INDEX).exists():
                if _asked(folder) == settings and not overwrite:
                    return read_index(folder), count
                _remove(folder)
            elif (folder / JOURNAL).exists() and _asked(folder) != settings:
                _remove(folder)
            facts, shards = _begin(folder, settings)
            done = sum(shard.scans for shard in shards)
            found = done
            jobs = [
                (folder / f"shard-{start // shard_size:06}.h5", start, scans)
                for start in range(done, count, shard_size)
                for scans in [min(shard_size, count - start)]
            ]
            for job, (known, shard) in zip(jobs, work(jobs), strict=True):
                facts = known if facts is None else facts
                if {**known, "source": None} != {**facts, "source": None}:
                    raise OutputError(f"{job[0]}: has other arrays than the first shard.")
                _note(folder, {"facts": known, **asdict(shard)})
                shards.append(shard)
                done += shard.scans
                if progress:
                    progress(done, count)
            index = ShardIndex(**facts, settings=settings, shards=tuple(shards))
            with atomic(folder / INDEX, overwrite=True) as temporary:
                temporary.write_text(index.to_json(), encoding="utf-8")
            (folder / JOURNAL).unlink()
            return index, found
        finally:
            for temporary in folder.glob(".shard-*.h5"):  # of workers that were killed
                temporary.unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)


def write_shard(dataset, path):
    """Write a `Dataset` as one shard.

    Args:
        dataset: `Dataset`, in memory.
        path: `Path`. An existing file is replaced.

    Returns:
        Tuple of dict, what the index says of all shards alike, and `Shard`.
    """
    save_dataset(dataset, path, overwrite=True)
    facts = {
        "shape": list(dataset.images.shape[1:]),
        "dtype": str(dataset.images.dtype),
        "classes": list(dataset.classes),
        "fields": [name for name in ARRAYS if getattr(dataset, name) is not None],
        "parameters": sorted(dataset.parameters),
        "source": dataset.source,
    }
    size = path.stat().st_size
    heights = recorded_heights(dataset)
    return facts, Shard(path.name, len(dataset), size, file_sha256(path), heights)


def save_shards(
    dataset, folder, shard_size=SHARD_SIZE, settings=None, overwrite=False, progress=None
):
    """Write a dataset as shards; one larger than memory is read shard by shard.

    Args:
        dataset: `Dataset`.
        folder: str or `Path`.
        shard_size, overwrite, progress: As for `write_shards`.
        settings: dict, JSON-ready. What the dataset was made from.

    Returns:
        As of `write_shards`.
    """

    def work(jobs):
        for path, start, scans in jobs:
            yield write_shard(dataset.take(np.arange(start, start + scans)), path)

    settings = settings or {"source": dataset.source, "scans": len(dataset)}
    return write_shards(
        folder, settings, len(dataset), shard_size, work, overwrite, progress
    )


def check_shards_folder(folder, settings, overwrite=False):
    """See that shards may be written to a folder.

    Args:
        folder: `Path`.
        settings: dict, JSON-ready, `shard_size` included; as for `write_shards`.
        overwrite: bool.

    Raises:
        OutputError: It holds something else, or shards of other settings.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file. Give a folder for the shards.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    asked = _asked(folder)
    if asked is None:
        if any(path.name != LOCK for path in folder.iterdir()):
            raise OutputError(
                f"{folder}: is not empty and holds no shards. Choose another folder."
            )
        return
    settings = _plain(settings)
    changed = sorted(key for key in asked | settings if asked.get(key) != settings.get(key))
    if changed and not overwrite:
        raise OutputError(
            f"{folder}: holds shards that were asked for differently: "
            f"{', '.join(changed)}. Choose another folder, or add --overwrite to replace "
            "them."
        )


def _asked(folder):
    """Return the settings of the shards in a folder, or None where there are none."""
    index, journal = folder / INDEX, folder / JOURNAL
    try:
        if os.path.lexists(index):
            settings = _object(read_json(index, limit=LARGEST)).get("settings")
        elif os.path.lexists(journal):
            first = read_text(journal, limit=LARGEST).partition("\n")[0]
            settings = parse_json(first, str(journal))
        else:
            return None
    except InputError:
        return {}
    return _object(settings)


def _object(value):
    return value if isinstance(value, dict) else {}


def _plain(settings):
    """Return settings as JSON gives them back: lists instead of tuples."""
    return parse_json(json.dumps(settings, allow_nan=False), "settings")


def _begin(folder, settings):
    """Return the facts and the finished shards of a journal, or begin one."""
    journal = folder / JOURNAL
    facts, shards = None, []
    if not journal.exists():
        with atomic(journal) as temporary:
            temporary.write_text(
                json.dumps(settings, allow_nan=False) + "\n", encoding="utf-8"
            )
        return facts, shards
    from stm_keras.data.shard_index import ShardFacts, ShardFile
    from stm_keras.records import check_record

    lines = read_text(journal, "the journal of a dataset", limit=LARGEST).split("\n")
    good = [lines[0]]
    for line in lines[1:-1]:  # what comes after the last newline was cut off
        try:
            row = parse_json(line, str(journal))
            check_record(ShardFile, row, journal)
            known = row.pop("facts", None)
            check_record(ShardFacts, known, journal)
        except InputError:  # from here on the shards are written again
            break
        path = folder / row["file"]
        if not path.is_file() or path.stat().st_size != row["bytes"]:
            break
        facts = known if facts is None else facts
        shards.append(Shard(**row))
        good.append(line)
    with atomic(journal, overwrite=True) as temporary:
        temporary.write_text("\n".join(good) + "\n", encoding="utf-8")
    return facts, shards


def _note(folder, row):
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(row, allow_nan=False) + "\n")


def _remove(folder):
    """Remove the shards of other settings, index first: half of a dataset is none."""
    for name in (INDEX, JOURNAL):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("shard-*.h5"):
        path.unlink()
