"""Load a sharded dataset: small arrays into memory, scans when they are asked for.

In memory are labels, lines and what else has one number or name a scan, and where each scan
lies: about 50 bytes a scan of the simulator, 50 MB for a million. Images, labels of lines and
parameters stay in the shards.
"""

import hashlib
import os
import threading
import zlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.dataset import StoredRows, merge_labels
from stm_keras.data.hdf5 import FORMAT
from stm_keras.data.hdf5_arrays import DAMAGE, damaged, member, open_unlocked, values
from stm_keras.data.raw import Found
from stm_keras.data.shard_index import INDEX, read_index
from stm_keras.data.validate import assemble
from stm_keras.errors import DatasetError, InputError
from stm_keras.memory import limited
from stm_keras.readers.hdf5_open import attribute, child, names_of

MOST_OPEN = 128  # files of a process, half of what macOS allows
GAP = 1 << 14  # bytes between two rows of small arrays that are read rather than skipped

STAY = ("line_labels",)  # fields that stay in the shards, as parameters do
_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


def load_shards(folder, merge=True, shape=None):
    """Load a sharded dataset, see `storage.load_dataset`.

    Args:
        folder: `Path`.
        merge: bool. Whether six classes become four.
        shape: tuple (lines, pixels) that scans must have, or None for any.

    Returns:
        `Dataset` whose images, line labels and parameters are read when indexed.

    Raises:
        InputError: The shards cannot be read, or are not complete.
        DatasetError: One is missing, damaged, or not what the index says.
    """
    found, stay, parameters = find_shards(folder)
    dataset = assemble(folder, found, merge, shape, 0)
    labels = stay.get("line_labels")
    if labels is not None and len(dataset.classes) != len(found.classes):
        count = len(found.classes)  # the last entry is that of -1
        labels = labels.mapped(
            merge_labels(np.append(np.arange(count), -1)).astype(np.int8)
        )
    return replace(
        dataset, line_labels=labels, parameters={**parameters, **dataset.parameters}
    )


def find_shards(folder):
    """Look into all shards of a dataset.

    Args:
        folder: `Path`.

    Returns:
        Tuple of `Found` and two dicts of str to `ShardedFields`: fields and parameters
        that stay in the shards.
    """
    folder = Path(folder)
    index = read_index(folder)
    paths = [folder / shard.file for shard in index.shards]
    starts = np.cumsum([0, *(shard.scans for shard in index.shards)])
    looked = [
        _look(path, index, shard) for path, shard in zip(paths, index.shards, strict=True)
    ]
    files = ShardFiles(paths, [shard.bytes for shard in index.shards])
    places, sizes = (np.concatenate([each["chunks"][n] for each in looked]) for n in (0, 1))
    known = [shard.heights for shard in index.shards if shard.heights]
    low, high = zip(*known, strict=True) if known else ((), ())
    images = ShardedImages(
        places,
        sizes,
        looked[0]["shuffled"],
        index.digest(),
        [min(low), max(high)] if known else None,
        files,
        starts,
        tuple(index.shape),
        index.dtype,
    )
    arrays = {
        key: np.concatenate([each["arrays"][key] for each in looked])
        for key in index.fields
        if key not in STAY
    }

    def stays(key):
        offsets, row, dtype = zip(*(each["stay"][key] for each in looked), strict=True)
        return ShardedFields(np.array(offsets), files, starts, row[0], dtype[0])

    stay = {key: stays(key) for key in STAY if key in index.fields}
    parameters = {key: stays(f"parameters/{key}") for key in index.parameters}
    found = Found(
        images=images,
        arrays=arrays,
        classes=tuple(index.classes),
        source=index.source,
        own=True,
        keys=("images", *index.fields),
    )
    return found, stay, parameters


def _look(path, index, shard):
    """Read the small arrays of a shard, and where the rest lies in it."""
    try:
        with limited(), open_unlocked(path) as file:
            return _inside(path, file, index, shard)
    except (DatasetError, InputError):
        raise
    except PermissionError:
        raise InputError(f"{path}: may not be read. Change its permissions.") from None
    except DAMAGE as error:
        raise damaged(path, error) from None


def _inside(path, file, index, shard):
    if attribute(file, "format") != FORMAT:
        raise DatasetError(f"{path}: is no shard that stm-keras wrote. Copy it again.")
    images = member(path, file, "images")
    told = (shard.scans, *index.shape), np.dtype(index.dtype)
    if (images.shape, images.dtype) != told:
        raise DatasetError(
            f"{path}: holds {images.dtype} images of shape {images.shape}, and {INDEX} says "
            f"{told[1]} of {told[0]}. It is of another dataset: copy the right one."
        )
    names = {*index.fields, *(f"parameters/{key}" for key in index.parameters)}
    there = {key for key in names_of(file) if key not in ("images", "parameters")}
    group = child(file, "parameters")
    there |= {f"parameters/{key}" for key in names_of(group)} if group else set()
    if names != there:
        odd = ", ".join(sorted(names ^ there))
        raise DatasetError(
            f"{path}: differs from {INDEX} in what it holds: {odd}. It is of another "
            "dataset: copy the right one."
        )
    stay = [key for key in names if key in STAY or key.startswith("parameters/")]
    chunks, shuffled = _chunks(path, images)
    return {
        "chunks": chunks,
        "shuffled": shuffled,
        "arrays": {key: values(path, file, key) for key in names if key not in stay},
        "stay": {key: _place(path, file, key, shard.scans) for key in stay},
    }


def _chunks(path, images):
    """Return place and size of each scan of a shard, and whether its bytes are shuffled."""
    plist = images.id.get_create_plist()
    filters = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
    places = np.zeros(len(images), np.uint64)
    sizes = np.zeros(len(images), np.uint32)
    known = filters in ([_DEFLATE], [_SHUFFLE, _DEFLATE])
    known = known and images.chunks == (1, *images.shape[1:])

    def note(chunk):
        nonlocal known
        scan = chunk.chunk_offset[0]
        places[scan], sizes[scan] = chunk.byte_offset, chunk.size
        known = known and not chunk.filter_mask  # else a filter was left out

    if known:
        images.id.chunk_iter(note)
    if not known:
        raise DatasetError(
            f"{path}: keeps its scans in another way than stm-keras does. Write the shards "
            "again with `stm-keras convert`."
        )
    return (places, sizes), _SHUFFLE in filters


def _place(path, file, key, scans):
    stored = file[key]
    place = stored.id.get_offset()
    if place is None or stored.dtype.kind not in "biuf" or len(stored) != scans:
        raise DatasetError(
            f"{path}: keeps `{key}` in another way than stm-keras does. Write the shards "
            "again with `stm-keras convert`."
        )
    return place, stored.shape[1:], stored.dtype


class ShardFiles:
    """The shards of a dataset, few of them open at a time.

    Args:
        paths: list of `Path`.
        sizes: list of int. Bytes that each must have.
    """

    def __init__(self, paths, sizes):
        self.paths = paths
        self.sizes = sizes
        self._begin()

    def _begin(self):
        self._open = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self):
        return {"paths": self.paths, "sizes": self.sizes}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._begin()

    def read(self, shard, place, size):
        """Read `size` bytes at `place` of a shard.

        Raises:
            DatasetError: The shard is gone, has changed or is cut short.
        """
        try:
            found = self._file(shard).read(size, place)
        except OSError as error:
            raise DatasetError(
                f"{self.paths[shard]}: cannot be read ({error.strerror}). Copy it again."
            ) from None
        if len(found) != size:
            raise DatasetError(f"{self.paths[shard]}: is cut short. Copy it again.")
        return found

    def _file(self, shard):
        with self._lock:
            file = self._open.get(shard)
            if file is None:
                path = self.paths[shard]
                file = _File(path)
                if file.size != self.sizes[shard]:
                    raise DatasetError(
                        f"{path}: changed since it was loaded. Load it again."
                    )
                self._open[shard] = file
                while len(self._open) > MOST_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(shard)
            return file


class _File:
    """An open file. It closes when nobody reads from it any more."""

    handle = None

    def __init__(self, path):
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.size = os.fstat(self.handle).st_size

    def __del__(self):
        if self.handle is not None:
            os.close(self.handle)

    def read(self, size, place):
        if hasattr(os, "pread"):  # moves no position that others share
            return os.pread(self.handle, size, place)
        with self.path.open("rb", buffering=0) as own:  # Windows
            own.seek(place)
            return own.read(size)


class _Sharded(StoredRows):
    """Rows of all shards, or some of them in an order of their own.

    Args:
        files: `ShardFiles`.
        starts: int array `(shards + 1,)`. First row of each shard, and the end.
        row: tuple of int. Shape of a row.
        stored_dtype: dtype in the files.
        dtype: dtype that indexing gives, or None for that of the files.
        chosen: int array. The rows that there are, or None for all.
    """

    def __init__(self, files, starts, row, stored_dtype, dtype=None, chosen=None):
        self.files = files
        self.starts = starts
        self.stored_dtype = np.dtype(stored_dtype)
        self.dtype = np.dtype(stored_dtype if dtype is None else dtype)
        self.chosen = chosen
        self.shape = (int(starts[-1]) if chosen is None else len(chosen), *row)

    def rows(self, indices):
        """Return the rows at `indices` (int array, any order) without reading them."""
        indices = self._positions(np.asarray(indices))
        return self._with(chosen=indices if self.chosen is None else self.chosen[indices])

    def in_dtype(self, dtype):
        """Return the same rows with another dtype."""
        return self._with(dtype=np.dtype(dtype))

    def _with(self, **changes):
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, **changes})
        count = int(self.starts[-1]) if other.chosen is None else len(other.chosen)
        other.shape = (count, *self.shape[1:])
        return other

    def _pick(self, positions):
        where = positions if self.chosen is None else self.chosen[positions]
        order = np.argsort(where, kind="stable")
        shards = np.searchsorted(self.starts, where[order], side="right") - 1
        picked = np.empty((len(where), *self.shape[1:]), self.dtype)
        cuts = np.flatnonzero(np.diff(shards)) + 1
        for part in np.split(order, cuts):
            if len(part):
                shard = int(np.searchsorted(self.starts, where[part[0]], side="right")) - 1
                self._read(shard, where[part], picked, part)
        return picked


class ShardedImages(_Sharded):
    """Scans, each deflated into a chunk of its own. Indexing gives 0 for what is not finite.

    Args:
        places: uint64 array `(scans,)`. Where each scan lies in its shard.
        sizes: uint32 array `(scans,)`. Bytes it has there.
        shuffled: bool. Whether the bytes of its pixels are sorted by their rank.
        digest: str. SHA-256 of all shards.
        heights: list of the lowest and the highest recorded height, or None.
        *arguments: As for `_Sharded`.
    """

    checked = True  # `save_dataset` lets no NaN into recorded lines

    def __init__(self, places, sizes, shuffled, digest, heights, *arguments):
        super().__init__(*arguments)
        self.places, self.sizes = places, sizes
        self.shuffled = shuffled
        self.digest = digest
        self.heights = heights

    def blocks(self):
        """Yield (slice of scans, slice of pixels, array)."""
        for start in range(0, len(self), 256):
            scans = slice(start, min(start + 256, len(self)))
            yield scans, slice(None), self[scans]

    def rows(self, indices):
        """Return some scans without reading them."""
        some = super().rows(indices)
        state = hashlib.sha256(self.digest.encode())
        state.update(np.ascontiguousarray(some.chosen, "<i8"))
        return some._with(digest=state.hexdigest(), heights=None)

    def _read(self, shard, scans, picked, places):
        for scan, place in zip(scans.tolist(), places.tolist(), strict=True):
            size = int(self.sizes[scan])
            packed = self.files.read(shard, int(self.places[scan]), size)
            picked[place] = self._unpack(shard, scan, packed)

    def _unpack(self, shard, scan, packed):
        wanted = int(np.prod(self.shape[1:])) * self.stored_dtype.itemsize
        try:
            values = zlib.decompress(packed, bufsize=wanted)
            if len(values) != wanted:
                raise zlib.error(f"{len(values)} of {wanted} bytes")
        except zlib.error as error:
            raise DatasetError(
                f"{self.files.paths[shard]}: scan {scan - int(self.starts[shard])} is damaged "
                f"({error}). Copy the shard again; `stm-keras info --verify` checks all."
            ) from None
        if self.shuffled:
            ranks = np.frombuffer(values, np.uint8).reshape(self.stored_dtype.itemsize, -1)
            values = ranks.T.tobytes()
        heights = np.frombuffer(values, self.stored_dtype).reshape(self.shape[1:])
        if self.stored_dtype.kind != "f" or np.isfinite(heights).all():
            return heights
        return np.where(np.isfinite(heights), heights, heights.dtype.type(0))


class ShardedFields(_Sharded):
    """Rows of a small array, which lie one after the other in each shard.

    Args:
        places: int array `(shards,)`. Where the array begins in each shard.
        *arguments: As for `_Sharded`.
        table: array. What stored values mean, or None for what they are.
    """

    def __init__(self, places, *arguments, table=None):
        super().__init__(*arguments)
        self.places = places
        self.table = table

    def mapped(self, table):
        """Return the same rows with each value replaced by `table[value]`."""
        return self._with(table=table, dtype=table.dtype)

    def _read(self, shard, rows, picked, places):
        size = int(np.prod(self.shape[1:], dtype=int)) * self.stored_dtype.itemsize
        local = rows - int(self.starts[shard])
        cuts = np.flatnonzero(np.diff(local) * size > GAP) + 1
        for some, goal in zip(np.split(local, cuts), np.split(places, cuts), strict=True):
            first, count = int(some[0]), int(some[-1] - some[0]) + 1
            place = int(self.places[shard]) + first * size
            block = self.files.read(shard, place, count * size)
            values = np.frombuffer(block, self.stored_dtype)
            values = values.reshape(count, *self.shape[1:])[some - first]
            picked[goal] = values if self.table is None else self.table[values]
