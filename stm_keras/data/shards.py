"""Load a sharded dataset: small arrays into memory, scans when they are asked for.

In memory are labels, lines and what else has one number or name a scan, and where each scan
lies: about 50 bytes a scan of the simulator, 50 MB for a million. Images, labels of lines and
parameters stay in the shards.
"""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.dataset import merge_labels
from stm_keras.data.hdf5 import FORMAT
from stm_keras.data.images import Found
from stm_keras.data.members import DAMAGE, damaged, member, open_unlocked, values
from stm_keras.data.shard_index import INDEX, read_index
from stm_keras.data.sharded import ShardedFields, ShardedImages, ShardFiles
from stm_keras.data.validate import assemble
from stm_keras.errors import DatasetError, InputError
from stm_keras.memory import limited
from stm_keras.readers.hdf5_open import attribute, child, names_of

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
