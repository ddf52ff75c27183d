"""Load a sharded dataset: small arrays into memory, scans when they are asked for.

In memory are labels, lines and what else has one number or name a scan, and where each scan
lies: about 50 bytes a scan of the simulator, 50 MB for a million. Images, labels of lines and
parameters stay in the shards.
"""

import hashlib
import io
import math
import os
import zlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.dataset import Dataset, LazyArray, merge_labels
from stm_keras.data.hdf5 import FORMAT
from stm_keras.data.hdf5_arrays import member, open_file, values
from stm_keras.data.raw import RawDataset, clean
from stm_keras.data.shard_index import INDEX, read_index
from stm_keras.data.validate import validate_dataset
from stm_keras.errors import DatasetError
from stm_keras.readers.hdf5_open import attribute, child, names_of

MOST_OPEN = 128  # files of a process, half of what macOS allows
GAP = 1 << 14  # bytes between two rows of small arrays that are read rather than skipped

LAZY = ("line_labels",)  # fields that stay in the shards, as parameters do
_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


def load_shards(
    folder: str | Path, merge: bool = True, shape: tuple | str | None = None
) -> Dataset:
    """Load a sharded dataset, arguments as of `load_dataset`.

    Its images, line labels and parameters are read when indexed.

    Raises:
        InputError: The shards cannot be read, or are not complete.
        DatasetError: One is missing, damaged, or not what the index says.
    """
    raw, fields, parameters = read_shards(folder)
    dataset = validate_dataset(folder, raw, merge, shape, 0)
    labels, count = fields.get("line_labels"), len(raw.classes or ())
    if labels is not None and len(dataset.classes) != count:
        # The last entry is that of -1.
        table = merge_labels(np.append(np.arange(count), -1)).astype(np.int8)
        labels = labels.mapped(table)
    return replace(
        dataset, line_labels=labels, parameters={**parameters, **dataset.parameters}
    )


def read_shards(folder: str | Path) -> tuple[RawDataset, dict, dict]:
    """Look into all shards of a dataset; nothing is checked yet.

    Returns:
        Tuple of `RawDataset` and two dicts of str to `ShardedArray`: fields and parameters
        that stay in the shards.
    """
    folder = Path(folder)
    index = read_index(folder)
    parts = [_read_shard(folder / shard.file, index, shard) for shard in index.shards]
    files = ShardFiles(
        [folder / shard.file for shard in index.shards],
        [shard.bytes for shard in index.shards],
        np.cumsum([0, *(shard.scans for shard in index.shards)]),
    )
    heights = [shard.heights for shard in index.shards if shard.heights]
    low, high = zip(*heights, strict=True) if heights else ((), ())
    images = ShardedImages(
        files,
        tuple(index.shape),
        index.dtype,
        offsets=np.concatenate([part["offsets"] for part in parts]),
        sizes=np.concatenate([part["sizes"] for part in parts]),
        shuffled=parts[0]["shuffled"],
        digest=index.digest(),
        heights=[min(low), max(high)] if heights else None,
    )

    def lazy(key):
        offsets, row, dtype = zip(*(part["lazy"][key] for part in parts), strict=True)
        return ShardedArray(files, row[0], dtype[0], offsets=np.array(offsets))

    fields = {key: lazy(key) for key in LAZY if key in index.fields}
    parameters = {key: lazy(f"parameters/{key}") for key in index.parameters}
    raw = RawDataset(
        images=images,
        arrays={
            key: np.concatenate([part["arrays"][key] for part in parts])
            for key in index.fields
            if key not in LAZY
        },
        classes=tuple(index.classes),
        source=index.source,
        own=True,
        keys=("images", *index.fields),
    )
    return raw, fields, parameters


def _read_shard(path, index, shard):
    """Read the small arrays of a shard, and where the rest lies in it."""
    with open_file(path, search=False) as file:
        if attribute(file, "format") != FORMAT:
            raise DatasetError(
                f"{path}: is not a shard that stm-keras wrote. Copy it again."
            )
        images = member(path, file, "images")
        shape, dtype = (shard.scans, *index.shape), np.dtype(index.dtype)
        if (images.shape, images.dtype) != (shape, dtype):
            raise DatasetError(
                f"{path}: holds {images.dtype} images of shape {images.shape}, and {INDEX} "
                f"says {dtype} of {shape}. It is of another dataset: copy the right one."
            )
        expected = {*index.fields, *(f"parameters/{key}" for key in index.parameters)}
        names = {key for key in names_of(file) if key not in ("images", "parameters")}
        group = child(file, "parameters")
        names |= {f"parameters/{key}" for key in names_of(group)} if group else set()
        if names != expected:
            odd = ", ".join(sorted(names ^ expected))
            raise DatasetError(
                f"{path}: differs from {INDEX} in what it holds: {odd}. It is of another "
                "dataset: copy the right one."
            )
        lazy = {key for key in names if key in LAZY or key.startswith("parameters/")}
        return {
            **_locate_scans(path, images),
            "arrays": {key: values(path, file, key) for key in names - lazy},
            "lazy": {key: _locate_array(path, file[key], shard.scans) for key in lazy},
        }


def _locate_scans(path, images):
    """Return offset and size of each scan of a shard, and whether its bytes are shuffled."""
    plist = images.id.get_create_plist()
    filters = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
    offsets = np.zeros(len(images), np.uint64)
    sizes = np.zeros(len(images), np.uint32)
    known = filters in ([_DEFLATE], [_SHUFFLE, _DEFLATE])
    known = known and images.chunks == (1, *images.shape[1:])

    def note(chunk):
        nonlocal known
        scan = chunk.chunk_offset[0]
        offsets[scan], sizes[scan] = chunk.byte_offset, chunk.size
        known = known and not chunk.filter_mask  # else a filter was left out

    if known:
        images.id.chunk_iter(note)
    if not known:
        raise _other_layout(path, "its scans")
    return {"offsets": offsets, "sizes": sizes, "shuffled": _SHUFFLE in filters}


def _locate_array(path, array, scans):
    """Return offset, shape of a row and dtype of an array that lies in one piece."""
    offset = array.id.get_offset()
    if offset is None or array.dtype.kind not in "biuf" or len(array) != scans:
        raise _other_layout(path, f"`{array.name[1:]}`")
    return offset, array.shape[1:], array.dtype


def _other_layout(path, what):
    return DatasetError(
        f"{path}: keeps {what} in another way than stm-keras does. Write the shards "
        "again with `stm-keras convert`."
    )


class ShardFiles:
    """The shards of a dataset, few of them open at a time.

    Each must have so many bytes; `starts`, `(shards + 1,)`, are the first row of each, and
    the end.
    """

    def __init__(self, paths: list, sizes: list, starts: np.ndarray):
        self.paths, self.sizes, self.starts = paths, sizes, starts
        self._file = lru_cache(MOST_OPEN)(self._open)

    def __reduce__(self):
        return type(self), (self.paths, self.sizes, self.starts)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Read `size` bytes of a shard."""
        try:
            data = self._file(shard).read_at(size, offset)
        except OSError as error:
            raise DatasetError(
                f"{self.paths[shard]}: cannot be read ({error.strerror}). Copy it again."
            ) from None
        if len(data) != size:
            raise DatasetError(f"{self.paths[shard]}: is cut short. Copy it again.")
        return data

    def _open(self, shard):
        file = _File(self.paths[shard])
        if os.fstat(file.fileno()).st_size != self.sizes[shard]:
            raise DatasetError(
                f"{self.paths[shard]}: changed since it was loaded. Load it again."
            )
        return file


class _File(io.FileIO):
    """An open file. It closes when nobody reads from it any more."""

    def __del__(self):
        self.close()

    def read_at(self, size, offset):
        if hasattr(os, "pread"):  # moves no position that others share
            return os.pread(self.fileno(), size, offset)
        with io.FileIO(self.name) as own:  # Windows
            own.seek(offset)
            return own.read(size)


class _Sharded(LazyArray):
    """Rows of all shards, or some of them in an order of their own.

    A row has the shape `row`. `layout` is what a child needs to find its rows; it is kept as
    attributes. A child has `_read_part(shard, indices, rows, positions)`, which reads rows
    `indices` of the dataset, all of one shard, to `rows[positions]`.
    """

    def __init__(self, files, row, stored_dtype, **layout):
        self.files = files
        self.stored_dtype = self.dtype = np.dtype(stored_dtype)
        self.selected = None  # the rows that there are: int array, or None for all
        self.shape = (int(files.starts[-1]), *row)
        self.__dict__.update(layout)

    def select(self, indices: np.ndarray) -> "_Sharded":
        """Return the rows at `indices` (int array, any order) without reading them."""
        indices = self._check_indices(np.asarray(indices))
        selected = indices if self.selected is None else self.selected[indices]
        return self._with(selected=selected, shape=(len(selected), *self.shape[1:]))

    def in_dtype(self, dtype: np.dtype) -> "_Sharded":
        """Return the same rows with another dtype."""
        return self._with(dtype=np.dtype(dtype))

    def _with(self, **changes):
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, **changes})
        return other

    def _read_rows(self, indices):
        wanted = indices if self.selected is None else self.selected[indices]
        rows = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        # One shard after the other, and its rows in the order in which they lie there.
        order = np.argsort(wanted, kind="stable")
        shards = np.searchsorted(self.files.starts, wanted[order], side="right") - 1
        for shard in np.unique(shards).tolist():
            part = order[shards == shard]
            self._read_part(shard, wanted[part], rows, part)
        return rows


class ShardedImages(_Sharded):
    """Scans, each deflated into a chunk of its own. Indexing gives 0 for what is not finite."""

    offsets: np.ndarray  # (scans,): where each lies in its shard, in bytes
    sizes: np.ndarray  # (scans,): bytes that it has there
    shuffled: bool  # whether the bytes of its pixels are sorted by their rank
    digest: str  # SHA-256 of all shards
    heights: list | None  # the lowest and the highest that were recorded
    checked = True  # `save_dataset` lets no NaN into recorded lines

    def select(self, indices: np.ndarray) -> "ShardedImages":
        """Return some scans without reading them."""
        some = super().select(indices)
        state = hashlib.sha256(self.digest.encode())
        state.update(np.ascontiguousarray(some.selected, "<i8").data)
        return some._with(digest=state.hexdigest(), heights=None)

    def _read_part(self, shard, indices, rows, positions):
        for scan, position in zip(indices.tolist(), positions.tolist(), strict=True):
            offset, size = int(self.offsets[scan]), int(self.sizes[scan])
            rows[position] = self._unpack(shard, scan, self.files.read(shard, offset, size))

    def _unpack(self, shard, scan, packed):
        size = math.prod(self.shape[1:]) * self.stored_dtype.itemsize
        try:
            data = zlib.decompress(packed, bufsize=size)
            if len(data) != size:
                raise zlib.error(f"{len(data)} of {size} bytes")
        except zlib.error as error:
            raise DatasetError(
                f"{self.files.paths[shard]}: scan {scan - int(self.files.starts[shard])} is "
                f"damaged ({error}). Copy the shard again; `stm-keras info --verify` checks "
                "all."
            ) from None
        if self.shuffled:  # (bytes of a number, pixels): all first bytes come first
            ranks = np.frombuffer(data, np.uint8).reshape(self.stored_dtype.itemsize, -1)
            data = ranks.T.tobytes()
        return clean(np.frombuffer(data, self.stored_dtype).reshape(self.shape[1:]))


class ShardedArray(_Sharded):
    """Rows of a small array, which lie one after the other in each shard."""

    offsets: np.ndarray  # (shards,): where it begins in each
    table: np.ndarray | None = None  # what stored values mean, or None for what they are

    def mapped(self, table: np.ndarray) -> "ShardedArray":
        """Return the same rows with each value replaced by `table[value]`."""
        return self._with(table=table, dtype=table.dtype)

    def _read_part(self, shard, indices, rows, positions):
        size = math.prod(self.shape[1:]) * self.stored_dtype.itemsize
        local = indices - int(self.files.starts[shard])
        cuts = np.flatnonzero(np.diff(local) * size > GAP) + 1
        pieces = zip(np.split(local, cuts), np.split(positions, cuts), strict=True)
        for piece, target in pieces:
            first, count = int(piece[0]), int(piece[-1] - piece[0]) + 1
            offset = int(self.offsets[shard]) + first * size
            block = self.files.read(shard, offset, count * size)
            stored = np.frombuffer(block, self.stored_dtype)
            stored = stored.reshape(count, *self.shape[1:])[piece - first]
            rows[target] = stored if self.table is None else self.table[stored]
