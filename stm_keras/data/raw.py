"""What a file holds before anything is checked, the checks, and how images get into memory.

Every error names the file and what was received.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.data.dataset import SIZES, SQUARE, LazyArray, has_shape, labels_from_votes
from stm_keras.errors import DatasetError
from stm_keras.memory import charge, left
from stm_keras.readers.units import COUNTS

BLOCK_BYTES = 4 << 20
TEXTS = ("session", "campaign", "run", "name", "channel", "direction", "slow", "unit")
ABOUT = ("size_nm", "bias", "channel", "direction", "slow", "unit")  # may be once in a file
# one a scan
FLAT = ("labels", "lines", "raters", "unanimous", "weight", "model_shown", "bias", *TEXTS)
FROM_ONE = (
    "labels seem to count from 1. They count from 0: subtract 1, or name the classes in "
    "`classes` and label scans by their place there."
)
HINTS = {  # what a coding of labels looks like: what to do
    "one-hot": "One-hot labels are `votes`; or save labels.argmax(1) with `classes`.",
    "column": "A list of numbers has one axis: labels.ravel().",
    "text": "Save the number of each scan's class, and the names in `classes`.",
}


@dataclass(frozen=True)
class RawDataset:
    """A dataset as its file holds it, before anything is checked.

    `images` is an array, or has its `shape` (scans, lines, pixels) and `dtype`, and may have
    `blocks()`, which yields tuples (slice of scans, array) as they are stored; `arrays` has
    `labels`, `votes` and any other field of a `Dataset`.
    """

    images: Any
    arrays: dict
    classes: tuple | None = None  # None where the file names none, and so below
    parameters: dict | None = None
    source: str | None = None
    own: bool = False  # whether `save_dataset` wrote the file
    keys: tuple = ()  # names of all that is in the file


def must(
    path: str | Path, key: str, wanted: str, received: object, advice: str = ""
) -> DatasetError:
    """Return the error for an array that is not as it must be."""
    return DatasetError(
        f"{path}: `{key}` must {wanted}. Received: {received}. {advice}".rstrip()
    )


def check_images(path: str | Path, images: Any, shape: tuple | str | None) -> None:
    """See that images are scans of one size, at least one.

    `shape` is (lines, pixels), `SQUARE`, or None for any.
    """
    received = tuple(images.shape)
    if images.dtype.kind not in "biuf":
        raise must(path, "images", "hold real numbers", f"dtype {images.dtype}")
    if len(received) != 3 or not has_shape(received[1:], shape):
        wanted = "have shape (scans, lines, pixels)"
        if shape == SQUARE:
            low, high = SIZES
            wanted = f"have shape (scans, 128, 128), or another square from {low} to {high}"
        elif shape is not None:
            lines, pixels = shape
            wanted = (
                f"have shape (scans, {lines}, {pixels}): {lines} lines of {pixels} pixels"
            )
            wanted += " per scan"
        raise must(path, "images", wanted, f"shape {received}", _cure(received, shape))
    if 0 in received:
        raise DatasetError(
            f"{path}: `images` is empty (shape {received}). A dataset has at least one scan."
        )


def _cure(received, shape):
    if len(received) == 4 and received[-1] == 1:
        return "Drop the last axis: images[..., 0]."
    if len(received) == 3 and scans_last(
        received, shape[1] if isinstance(shape, tuple) else received[1]
    ):
        return "The scans lie along the last axis: numpy.moveaxis(images, -1, 0)."
    return "Resample the scans, or save them as pictures."


def scans_last(shape: tuple, pixels: int) -> bool:
    """Tell whether images seem to have their scans along the last axis, as MATLAB's do."""
    return shape[0] == shape[1] and shape[2] not in (pixels, shape[1])


def check_lengths(path: str | Path, count: int, arrays: Mapping) -> None:
    """See that every array has one entry for each of `count` scans."""
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) != count:
            wanted = f"have one entry for each of the {count} scans of `images`"
            raise must(path, key, wanted, f"shape {array.shape}")
        if array.ndim != 1 and key in FLAT:
            kind = "column" if array.size == count else "one-hot" if key == "labels" else ""
            shape = f"shape {array.shape}"
            raise must(path, key, f"have shape ({count},)", shape, HINTS.get(kind, ""))


def check_votes(path: str | Path, votes: np.ndarray | None) -> Any:
    """Return votes, float `(scans, classes)` from 0 to 1, or None for None."""
    if votes is None:
        return None
    if votes.ndim != 2 or votes.dtype.kind not in "biuf":
        received = f"shape {votes.shape}, dtype {votes.dtype}"
        raise must(path, "votes", "be numbers of shape (scans, classes)", received)
    wrong = ~((votes >= 0) & (votes <= 1)).all(1)
    if wrong.any():
        raise DatasetError(
            f"{path}: `votes` are shares of raters, 0 to 1. Received: "
            f"{listed(votes[wrong][0])} for scan {wrong.argmax()}."
        )
    return votes if votes.dtype in (np.float32, np.float64) else votes.astype(np.float32)


def whole(
    path: str | Path,
    key: str,
    array: np.ndarray | None,
    low: int | None = None,
    high: int | None = None,
) -> Any:
    """Return an int64 array of whole numbers from `low` to `high`, or None for None."""
    if array is None:
        return None
    if array.dtype.kind not in "biuf":
        hint = HINTS["text"] if key == "labels" and array.dtype.kind in "USO" else ""
        raise must(path, key, "be whole numbers", f"dtype {array.dtype}", hint)
    with np.errstate(invalid="ignore"):
        wrong = (array != np.floor(array)) | (abs(array.astype(np.float64)) > 2**53)
    if not wrong.any():
        wrong = np.zeros(array.shape, bool)
        wrong |= False if low is None else array < low
        wrong |= False if high is None else array > high
        if not wrong.any():
            return array.astype(np.int64)
    limits = "" if low is None else f" from {low}" + ("" if high is None else f" to {high}")
    first = np.argwhere(wrong)[0]
    received = f"{array[tuple(first)]} for scan {first[0]}"
    raise must(path, key, f"be whole numbers{limits}", received)


def measured(
    path: str | Path,
    key: str,
    array: np.ndarray | None,
    columns: tuple = (),
    least: float | None = None,
) -> Any:
    """Return float64 numbers, of each scan one or those of `columns`, or None for None.

    They are above `least`, or some may be NaN where there is none.
    """
    if array is None:
        return None
    if array.dtype.kind not in "biuf" or array.shape[1:] != columns:
        wanted = f"be numbers of shape {('scans', *columns)}".replace("'", "")
        raise must(path, key, wanted, f"{array.dtype} of shape {array.shape}")
    array = array.astype(np.float64)
    wrong = np.isinf(array) if least is None else ~(array > least) | np.isinf(array)
    if wrong.any():
        above = "" if least is None else f" above {least:g}"
        received = f"{array[wrong][0]:g} for scan {np.argwhere(wrong)[0][0]}"
        raise must(path, key, f"be finite numbers{above}", received)
    return array


def check_labels(
    path: str | Path, labels: np.ndarray | None, classes: tuple, own: bool
) -> None:
    """See that labels are numbers of classes; in our `own` files also -1, no single class."""
    if labels is None:
        return
    wrong = (labels < (-1 if own else 0)) | (labels >= len(classes))
    if wrong.any():
        from_one = FROM_ONE if (labels.min(), labels.max()) == (1, len(classes)) else ""
        count = len(classes)
        raise must(
            path,
            "labels",
            f"be 0 to {count - 1} for the {count} classes {listed(classes)}",
            f"{labels[wrong][0]} for scan {wrong.argmax()}",
            from_one,
        )


def count_classes(path: str | Path, labels: np.ndarray, known: Mapping) -> int:
    """Count the classes of labels that nobody names: one of the numbers in `known`.

    A coding is never guessed: each class must be there, or it might be another coding.
    """
    there = np.unique(labels).tolist()
    for count in known:
        if there == list(range(count)):
            return count
    received = ", ".join(map(str, there[:8])) + (", ..." if len(there) > 8 else "")
    if there[0] == 1:
        raise DatasetError(f"{path}: {FROM_ONE} Received: {received}.")
    numbers = " or ".join(f"0 to {count - 1}" for count in sorted(known))
    advice = (
        "Add `classes`, the name of each number (in a CSV file: names in place of numbers)."
    )
    raise DatasetError(
        f"{path}: `labels` without `classes` must be {numbers}, each at least once. Received: "
        f"{received}. {advice}"
    )


def check_agreement(
    path: str | Path, labels: np.ndarray | None, votes: np.ndarray | None
) -> None:
    """See that labels count classes from 0, as the columns of votes do."""
    if labels is None or votes is None:
        return
    voted = labels_from_votes(votes)
    clear = (voted >= 0) & (labels >= 0)
    if clear.any() and (labels[clear] == voted[clear] + 1).all():
        raise DatasetError(
            f"{path}: {FROM_ONE} Received: label {labels[clear][0]} for scan "
            f"{clear.argmax()}, and its votes say {voted[clear][0]}."
        )


def listed(values: Iterable) -> str:
    """Return names or numbers as one line of text."""
    return ", ".join(
        f"{value:g}" if isinstance(value, np.floating) else repr(str(value))[1:-1]
        for value in values
    )


def listed_keys(keys: Iterable, most: int = 20) -> str:
    """Return names in backticks as one line of text; of many only the first."""
    keys = list(keys)
    names = [f"`{repr(str(key))[1:-1]}`" for key in keys[:most]]
    more = [f"{len(keys) - most} more"] if len(keys) > most else []
    return ", ".join(names + more) or "nothing"


def block_scans(shape: tuple, itemsize: int) -> int:
    """Count the scans that make a block of about `BLOCK_BYTES`."""
    return int(max(1, BLOCK_BYTES // max(1, itemsize * shape[1] * shape[2])))


def blocks_of(images: Any) -> Iterator[tuple]:
    """Yield (slice of scans, array) for images that can be indexed."""
    step = block_scans(images.shape, images.dtype.itemsize)
    for start in range(0, images.shape[0], step):
        scans = slice(start, min(start + step, images.shape[0]))
        yield scans, images[scans]


def stored_blocks(images: Any) -> Iterator[tuple]:
    """Yield (slice of scans, array) of what a `RawDataset` has: as stored, NaN and all."""
    return images.blocks() if hasattr(images, "blocks") else blocks_of(images)


class StreamedImages(LazyArray):
    """Scans that can only be read from the first to the last, which look like an array.

    Going back means to begin again: for what is written or judged in order.
    """

    def __init__(self, images: Any, dtype: np.dtype):
        self.images, self.shape, self.dtype = images, images.shape, np.dtype(dtype)
        self._blocks, self._scans, self._block = None, slice(0, 0), None

    def _read_rows(self, indices):
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for position in np.argsort(indices, kind="stable"):
            rows[position] = self._scan(indices[position])
        return rows

    def _scan(self, index):
        if self._blocks is None or index < self._scans.start:
            self._blocks, self._scans = stored_blocks(self.images), slice(0, 0)
        while index >= self._scans.stop:
            self._block = None  # before the next one, or two were in memory
            self._scans, self._block = next(self._blocks)
        return clean(self._block[index - self._scans.start].astype(self.dtype))


def clean(heights: np.ndarray) -> np.ndarray:
    """Return heights with 0 for what is not finite."""
    if heights.dtype.kind != "f" or np.isfinite(heights).all():
        return heights
    return np.where(np.isfinite(heights), heights, heights.dtype.type(0))


def loaded_bytes(images: Any) -> int:
    """Return how much memory images may need that are read from a file."""
    exact = images.dtype.kind == "b" or images.dtype == np.uint8
    most = 1 if exact else 4 if images.dtype.itemsize <= 2 or images.dtype == "f4" else 8
    return math.prod(images.shape) * most


def load_images(
    path: str | Path,
    images: Any,
    lines: np.ndarray,
    lazy: bool = False,
    streamed: bool = False,
    most: float = COUNTS,
) -> Any:
    """Read and check images in the smallest dtype that holds them exactly.

    8-bit pictures stay uint8; all else becomes float32, or float64 where float32
    would change a value. So the same scans are the same dataset whether a file
    holds them as float32 or, as MATLAB does, as float64. Pixels of lines that were
    not recorded become 0 where they are not finite.

    Those that are `lazy` stay in their file, to be read when indexed; those that are
    `streamed`, to be read in order, may stay in a file that can only be read so, where they
    need more memory than is left. `most` is the largest height that is believed.

    Raises:
        DatasetError: A recorded line holds NaN, inf or more than is believed.
    """
    checked = lazy and getattr(images, "checked", False)
    if checked and max(map(abs, images.heights or (0,))) <= most:
        return images
    if not lazy and streamed and loaded_bytes(images) > left():
        lazy = True
    if not lazy:
        charge(loaded_bytes(images), "its images")
    if images.dtype.kind == "b" or images.dtype == np.uint8:
        return _load(path, images, lines, np.dtype(np.uint8), lazy, most)
    try:
        return _load(path, images, lines, np.dtype(np.float32), lazy, most)
    except _InexactError:
        pass  # and only then read again: the error keeps the first array in memory
    return _load(path, images, lines, np.dtype(np.float64), lazy, most)


class _InexactError(Exception):
    """A dtype cannot hold a value."""


def bad_scans(
    heights: np.ndarray, lines: np.ndarray, most: float = COUNTS
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which scans hold NaN or inf in recorded lines, and which more than `most`.

    `heights` are `(scans, lines, pixels)`; two bool arrays `(scans,)` come back.
    """
    largest = np.abs(heights).max(initial=0)
    if heights.dtype.kind != "f" or (np.isfinite(largest) and largest <= most):
        return np.zeros(len(heights), bool), np.zeros(len(heights), bool)
    recorded = (np.arange(heights.shape[1]) < lines[:, None])[:, :, None]
    finite = np.isfinite(heights)
    large = finite & (np.abs(heights) > most)
    return (~finite & recorded).any((1, 2)), (large & recorded).any((1, 2))


def _load(path, images, lines, dtype, lazy, most):
    not_finite, too_large = np.zeros((2, images.shape[0]), bool)
    small = images.dtype.kind in "bui" and images.dtype.itemsize <= 2
    out = None if lazy else np.empty(images.shape, dtype)
    for scans, block in () if lazy and small else stored_blocks(images):
        with np.errstate(over="ignore", invalid="ignore"):
            values = block.astype(dtype, copy=False)
        narrowed = not small and dtype == np.float32 and block.dtype.itemsize > 4
        if narrowed and not np.isnan(block[values != block]).all():
            raise _InexactError
        if not small:
            bad = bad_scans(values, lines[scans], most)
            not_finite[scans] |= bad[0]
            too_large[scans] |= bad[1]
        if out is not None:
            out[scans] = clean(values)
    if not_finite.any():
        raise DatasetError(
            f"{path}: {not_finite.sum()} of {len(lines)} scans hold NaN or inf in recorded "
            f"lines; the first is scan {not_finite.argmax()}. Remove them, or tell in `lines` "
            "how many lines were recorded."
        )
    if too_large.any():
        raise DatasetError(
            f"{path}: {too_large.sum()} of {len(lines)} scans hold heights above {most:.2g} "
            f"in recorded lines; the first is scan {too_large.argmax()}. Remove them, or save "
            "heights in metres."
        )
    if lazy and not hasattr(images, "in_dtype"):
        return StreamedImages(images, dtype)
    return images.in_dtype(dtype) if lazy else out
