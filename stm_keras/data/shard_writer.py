"""Write sharded datasets, so that a command that was interrupted can go on.

Until all shards are there, the folder has a file with what was asked for instead of the
index. A shard comes into the folder whole, so one that is there is not made again.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.hdf5 import read_hdf5, small_arrays
from stm_keras.data.load import save_dataset
from stm_keras.data.shard_index import (
    BEGUN,
    INDEX,
    LARGEST,
    Shard,
    ShardIndex,
    ShardLayout,
    file_sha256,
    read_index,
)
from stm_keras.data.summary import recorded_heights
from stm_keras.errors import DatasetError, InputError, OutputError, UsageError
from stm_keras.files import atomic, check_folder
from stm_keras.locks import LOCK, claimed
from stm_keras.records import check_record
from stm_keras.untrusted import parse_json, read_json, read_text

SHARD_SIZE = 8192  # scans: about 90 MB of a file, 140 MB of memory of a process


def write_shards(
    folder: str | Path,
    settings: dict,
    count: int,
    shard_size: int,
    work: Callable[[list[tuple]], Iterable[tuple]],
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ShardIndex, int]:
    """Write the shards of a dataset that are missing, then the index.

    Args:
        folder: New, empty, or begun by the same command.
        settings: What was asked for, JSON-ready: a folder with others is left alone.
        count: Scans.
        shard_size: Scans of a shard; the last may have fewer.
        work: Takes a list of (`Path`, first scan, scans), the shards to write, and yields
            what `write_shard` returns of each, in that order.
        overwrite: Whether a finished dataset, or one begun with other settings, may be
            replaced.
        progress: Takes scans done and scans in all.

    Returns:
        Tuple of `ShardIndex` and int: the scans that were there already.
    """
    if shard_size < 1:
        raise UsageError(f"`shard_size` must be 1 or more. Received: {shard_size}.")
    folder = Path(folder)
    asked = json.dumps({**settings, "shard_size": shard_size}, allow_nan=False)
    # with lists in place of tuples, as it is read
    wanted: Any = parse_json(asked, "settings")
    if folder.is_file():
        raise OutputError(f"{folder}: is a file. Give a folder for the shards.")
    refusal = (
        f"{folder}: another process writes shards here. Wait for it, or choose another "
        "folder."
    )
    stranger = f"{folder}: is not empty and holds no shards. Choose another folder."
    with claimed(folder, "shards.*", refusal, stranger):
        try:
            changed = _changed_settings(folder, wanted)
            if changed and not overwrite:
                raise OutputError(
                    f"{folder}: holds shards that were asked for differently: "
                    f"{', '.join(changed)}. Choose another folder, or add --overwrite to "
                    "replace them."
                )
            check_folder(folder)
            if (folder / INDEX).exists() and not overwrite:
                return read_index(folder), count
            if (folder / INDEX).exists() or changed:
                # index first: half of a dataset is none
                for path in (folder / INDEX, folder / BEGUN, *folder.glob("shard-*.h5")):
                    path.unlink(missing_ok=True)
            if not (folder / BEGUN).exists():
                with atomic(folder / BEGUN) as temporary:
                    temporary.write_text(asked + "\n", encoding="utf-8")
            jobs = [
                (folder / f"shard-{start // shard_size:06}.h5", start, scans)
                for start in range(0, count, shard_size)
                for scans in [min(shard_size, count - start)]
            ]
            done = {path: _read_shard(path, scans) for path, _, scans in jobs}
            missing = [job for job in jobs if done[job[0]] is None]
            before = scans_done = count - sum(scans for _, _, scans in missing)
            for (path, _, scans), written in zip(missing, work(missing), strict=True):
                done[path] = written
                scans_done += scans
                if progress:
                    progress(scans_done, count)
            index = _make_index(done, wanted)
            with atomic(folder / INDEX, overwrite=True) as temporary:
                temporary.write_text(index.to_json(), encoding="utf-8")
            (folder / BEGUN).unlink()
            return index, before
        finally:
            for temporary in folder.glob(".shard-*.h5"):  # of workers that were killed
                temporary.unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)


def write_shard(dataset: Dataset, path: Path) -> tuple[dict, Shard]:
    """Write a `Dataset` in memory as one shard; an existing file is replaced.

    Returns:
        Tuple of dict, a `ShardLayout` as JSON, and `Shard`.
    """
    save_dataset(dataset, path, overwrite=True)
    return _describe(path, dataset, small_arrays(dataset))


def save_shards(
    dataset: Dataset,
    folder: str | Path,
    shard_size: int = SHARD_SIZE,
    settings: dict | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ShardIndex, int]:
    """Write a dataset as shards; one larger than memory is read shard by shard.

    `settings` tell what the dataset was made from; the rest is as for `write_shards`.
    """

    def work(jobs):
        for path, start, scans in jobs:
            yield write_shard(dataset.take(np.arange(start, start + scans)), path)

    settings = settings or {"source": dataset.source, "scans": len(dataset)}
    return write_shards(
        folder, settings, len(dataset), shard_size, work, overwrite, progress
    )


def _changed_settings(folder, wanted):
    """Return the names of settings that shards in a folder have otherwise: list of str."""
    index, begun = folder / INDEX, folder / BEGUN
    settings = None
    try:
        if os.path.lexists(index):
            table = read_json(index, limit=LARGEST)
            settings = table.get("settings") if isinstance(table, dict) else None
        elif os.path.lexists(begun):  # earlier versions added a line for every shard
            first = read_text(begun, limit=LARGEST).partition("\n")[0]
            settings = parse_json(first, str(begun))
        else:
            return []
    except InputError:
        pass
    earlier = settings if isinstance(settings, dict) else {}
    return sorted(k for k in earlier | wanted if earlier.get(k) != wanted.get(k))


def _read_shard(path, scans):
    """Return what `write_shard` did of a shard that is there, whole and of so many scans."""
    if not path.is_file():
        return None
    try:
        raw = read_hdf5(path)
        layout, shard = _describe(path, raw, raw.arrays)
    except (DatasetError, InputError):  # it is written again
        return None
    return (layout, shard) if shard.scans == scans else None


def _describe(path, dataset, arrays):
    """Describe a shard for the index: a `Dataset` or `RawDataset`, and its small arrays."""
    layout = {
        "shape": list(dataset.images.shape[1:]),
        "dtype": str(dataset.images.dtype),
        "classes": list(dataset.classes or ()),
        "fields": list(arrays),
        "parameters": sorted(dataset.parameters),
        "source": dataset.source,
    }
    check_record(ShardLayout, layout, path, DatasetError)
    if "lines" not in arrays:
        raise DatasetError(f"{path}: is not a shard that stm-keras wrote. Copy it again.")
    shard = Shard(
        file=path.name,
        scans=len(dataset.images),
        bytes=path.stat().st_size,
        sha256=file_sha256(path),
        heights=recorded_heights(dataset.images, arrays["lines"]),
    )
    return layout, shard


def _make_index(done, settings):
    first = next(iter(done.values()))[0]
    for path, (layout, _) in done.items():
        if {**layout, "source": None} != {**first, "source": None}:
            raise OutputError(f"{path}: has other arrays than the first shard.")
    shards = [shard for _, shard in done.values()]
    scans = sum(shard.scans for shard in shards)
    return ShardIndex(**first, scans=scans, settings=settings, shards=shards)
