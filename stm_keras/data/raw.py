"""Check the arrays of a dataset; every error names the file and what was received."""

import math
from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import StoredRows, labels_from_votes
from stm_keras.errors import DatasetError
from stm_keras.memory import charge, left, shown
from stm_keras.readers.units import COUNTS

BLOCK_BYTES = 4 << 20
TEXTS = ("session", "campaign", "run", "name")
FROM_ONE = (
    "labels seem to count from 1. They count from 0: subtract 1, or name the classes in "
    "`classes` and label scans by their place there."
)
HINTS = {  # what a coding of labels looks like: what to do
    "one-hot": "One-hot labels are `votes`; or save labels.argmax(1) with `classes`.",
    "column": "A list of numbers has one axis: labels.ravel().",
    "text": "Save the number of each scan's class, and the names in `classes`.",
}


def check_images(path, images, shape):
    """See that images are scans of one size, at least one.

    Args:
        path: str or `Path`. Named in errors, here and below.
        images: array-like with `shape` and `dtype`.
        shape: tuple (lines, pixels), or None for any.

    Raises:
        DatasetError: They are not.
    """
    wanted = (
        "(scans, lines, pixels)" if shape is None else f"(scans, {shape[0]}, {shape[1]})"
    )
    if images.dtype.kind not in "biuf":
        raise DatasetError(
            f"{path}: `images` must hold real numbers. Received: dtype {images.dtype}."
        )
    if len(images.shape) != 3 or (shape is not None and images.shape[1:] != tuple(shape)):
        size = "" if shape is None else f": {shape[0]} lines of {shape[1]} pixels per scan"
        raise DatasetError(
            f"{path}: `images` must have shape {wanted}{size}. Received: shape "
            f"{tuple(images.shape)}. {_cure(tuple(images.shape), shape)}"
        )
    if 0 in images.shape:
        raise DatasetError(
            f"{path}: `images` is empty (shape {tuple(images.shape)}). A dataset has at "
            "least one scan."
        )


def _cure(received, shape):
    if len(received) == 4 and received[-1] == 1:
        return "Drop the last axis: images[..., 0]."
    if len(received) == 3 and scans_last(
        received, received[1] if shape is None else shape[1]
    ):
        return "The scans lie along the last axis: numpy.moveaxis(images, -1, 0)."
    return "Resample the scans, or save them as pictures."


def scans_last(shape: tuple, pixels: int) -> bool:
    """Tell whether images seem to have their scans along the last axis, as MATLAB's do."""
    return shape[0] == shape[1] and shape[2] != pixels


def check_lengths(path, count, arrays):
    """See that every array has one entry per scan.

    Args:
        path: str or `Path`. Named in errors.
        count: int. Number of scans.
        arrays: dict of str to array.

    Raises:
        DatasetError: The length of an array is another.
    """
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) != count:
            raise DatasetError(
                f"{path}: `{key}` must have one entry for each of the {count} scans of "
                f"`images`. Received: shape {array.shape}."
            )
        if array.ndim != 1 and key in ("labels", "lines", "raters", "unanimous", *TEXTS):
            kind = "column" if array.size == count else "one-hot" if key == "labels" else ""
            raise DatasetError(
                f"{path}: `{key}` must have shape ({count},). Received: shape "
                f"{array.shape}. {HINTS.get(kind, '')}".rstrip()
            )


def check_votes(path, votes):
    """Return votes, float `(scans, classes)` from 0 to 1, or None for None."""
    if votes is None:
        return None
    if votes.ndim != 2 or votes.dtype.kind not in "biuf":
        raise DatasetError(
            f"{path}: `votes` must be numbers of shape (scans, classes). Received: shape "
            f"{votes.shape}, dtype {votes.dtype}."
        )
    wrong = ~((votes >= 0) & (votes <= 1)).all(1)
    if wrong.any():
        raise DatasetError(
            f"{path}: `votes` are shares of raters, 0 to 1. Received: "
            f"{listed(votes[wrong][0])} for scan {wrong.argmax()}."
        )
    return votes if votes.dtype in (np.float32, np.float64) else votes.astype(np.float32)


def whole(path, key, array, low=None, high=None):
    """Return an int64 array of whole numbers from `low` to `high`, or None for None."""
    if array is None:
        return None
    if array.dtype.kind not in "biuf":
        hint = HINTS["text"] if key == "labels" and array.dtype.kind in "USO" else ""
        raise DatasetError(
            f"{path}: `{key}` must be whole numbers. Received: dtype {array.dtype}. "
            f"{hint}".rstrip()
        )
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
    raise DatasetError(
        f"{path}: `{key}` must be whole numbers{limits}. Received: "
        f"{array[tuple(first)]} for scan {first[0]}."
    )


def check_labels(path, labels, classes, own):
    """See that labels are numbers of classes.

    Args:
        labels: int array, or None.
        classes: tuple of str.
        own: bool. Whether -1, "no single class", may be there.

    Raises:
        DatasetError: A label is out of range.
    """
    if labels is None:
        return
    wrong = (labels < (-1 if own else 0)) | (labels >= len(classes))
    if wrong.any():
        from_one = FROM_ONE if (labels.min(), labels.max()) == (1, len(classes)) else ""
        raise DatasetError(
            f"{path}: `labels` must be 0 to {len(classes) - 1} for the {len(classes)} "
            f"classes {listed(classes)}. Received: {labels[wrong][0]} for scan "
            f"{wrong.argmax()}. {from_one}".rstrip()
        )


def count_classes(path: object, labels: np.ndarray, known: dict) -> int:
    """Tell how many classes labels have that nobody names: as many as there are in all.

    A coding is never guessed: where a class has no scan, it might be another coding.

    Args:
        path: str or `Path`. Named in errors.
        labels: int array of shape `(scans,)`.
        known: dict of int, number of classes, to their names.

    Raises:
        DatasetError: They are not the numbers 0 to 3, or 0 to 5, each at least once.
    """
    there = np.unique(labels).tolist()
    for count in known:
        if there == list(range(count)):
            return count
    shown = ", ".join(map(str, there[:8])) + (", ..." if len(there) > 8 else "")
    if there[0] == 1:
        raise DatasetError(f"{path}: {FROM_ONE} Received: {shown}.")
    numbers = " or ".join(f"0 to {count - 1}" for count in sorted(known))
    raise DatasetError(
        f"{path}: `labels` without `classes` must be {numbers}, each at least once. Received: "
        f"{shown}. Add "
        "`classes`, the name of each number (in a CSV file: names in place of numbers)."
    )


def check_agreement(path: object, labels: np.ndarray | None, votes: object) -> None:
    """See that labels count classes as the columns of votes do.

    Args:
        path: str or `Path`. Named in errors.
        labels: int array of shape `(scans,)`, or None.
        votes: float array of shape `(scans, classes)`, or None.

    Raises:
        DatasetError: Every label is one more than what its votes say.
    """
    if labels is None or votes is None:
        return
    voted = labels_from_votes(votes)
    clear = (voted >= 0) & (labels >= 0)
    if clear.any() and (labels[clear] == voted[clear] + 1).all():
        raise DatasetError(
            f"{path}: {FROM_ONE} Received: label {labels[clear][0]} for scan "
            f"{clear.argmax()}, and its votes say {voted[clear][0]}."
        )


def listed(values):
    """Return names or numbers as one line of text."""
    return ", ".join(
        f"{value:g}" if isinstance(value, np.floating) else repr(str(value))[1:-1]
        for value in values
    )


def listed_keys(keys, most=20):
    """Return names in backticks as one line of text; of many only the first."""
    keys = list(keys)
    shown = [f"`{repr(str(key))[1:-1]}`" for key in keys[:most]]
    more = [f"{len(keys) - most} more"] if len(keys) > most else []
    return ", ".join(shown + more) or "nothing"


@dataclass(frozen=True)
class Found:
    """What a reader found in a file, before anything was checked.

    Args:
        images: an object with `shape`, `dtype` and `blocks()`, which yields tuples
            (slice of scans, slice of pixels, array) that cover all images.
        arrays: dict of str to array. `labels`, `votes` and any other field of a
            `Dataset`, as the file has them.
        classes: sequence of str, or None where the file names none.
        parameters: dict of str to array.
        source: str. Where the scans come from, or None where the file does not say.
        own: bool. Whether `save_dataset` wrote the file.
        keys: tuple of str. Names of all that is in the file.
    """

    images: object
    arrays: dict
    classes: tuple | None = None
    parameters: dict | None = None
    source: str | None = None
    own: bool = False
    keys: tuple = ()


def block_scans(shape, itemsize):
    """Number of scans that make a block of about `BLOCK_BYTES`."""
    return int(max(1, BLOCK_BYTES // max(1, itemsize * shape[1] * shape[2])))


def blocks_of(images):
    """Yield (slice of scans, slice of pixels, array) for images that can be indexed."""
    step = block_scans(images.shape, images.dtype.itemsize)
    for start in range(0, images.shape[0], step):
        scans = slice(start, min(start + step, images.shape[0]))
        yield scans, slice(None), images[scans]


class StreamedImages(StoredRows):
    """Scans that can only be read from the first to the last, which look like an array.

    Going back means to begin again: for what is written or judged in order.

    Args:
        images: as in `Found`.
        dtype: dtype that indexing gives.
    """

    def __init__(self, images, dtype):
        self.images, self.shape, self.dtype = images, images.shape, np.dtype(dtype)
        self._rest, self._scans, self._block = None, slice(0, 0), None

    def _pick(self, positions):
        picked = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for place in np.argsort(positions, kind="stable"):
            picked[place] = self._scan(positions[place])
        return picked

    def _scan(self, position):
        if self._rest is None or position < self._scans.start:
            self._rest, self._scans = self.images.blocks(), slice(0, 0)
        while position >= self._scans.stop:
            self._block = None  # before the next one
            self._scans, _, self._block = next(self._rest)
        scan = self._block[position - self._scans.start].astype(self.dtype)
        return scan if scan.dtype.kind != "f" else np.where(np.isfinite(scan), scan, 0)


def loaded_bytes(images) -> int:
    """Return how much memory images may need that are read from a file."""
    exact = images.dtype.kind == "b" or images.dtype == np.uint8
    most = 1 if exact else 4 if images.dtype.itemsize <= 2 or images.dtype == "f4" else 8
    return math.prod(images.shape) * most


def load_images(path, images, lines, lazy=False, streamed=False, most=COUNTS):
    """Read and check images in the smallest dtype that holds them exactly.

    8-bit pictures stay uint8; all else becomes float32, or float64 where float32
    would change a value. So the same scans are the same dataset whether a file
    holds them as float32 or, as MATLAB does, as float64. Pixels of lines that were
    not recorded become 0 where they are not finite.

    Args:
        path: str or `Path`. Named in errors.
        images: as in `Found`.
        lines: int array of shape `(scans,)`. Recorded lines.
        lazy: bool. Leave the images in their file.
        streamed: bool. Whether they will be read in order, so that they may stay in a file
            that can only be read so, where they need more memory than is left.
        most: float. The largest height that is believed.

    Returns:
        array of shape `(scans, lines, pixels)`, or, if lazy, an object that reads
        them when indexed.

    Raises:
        DatasetError: A recorded line holds NaN, inf or more than is believed.
    """
    checked = lazy and getattr(images, "checked", False)
    if checked and max(map(abs, images.heights or (0,))) <= most:
        return images
    if not lazy and streamed and loaded_bytes(images) > left():
        if getattr(images, "fortran", False):  # its blocks are of pixels, not of scans
            raise DatasetError(
                f"{path}: has its images column by column, so they cannot be read scan by "
                "scan. Save numpy.ascontiguousarray(images), or set STM_KERAS_MEMORY="
                f"{shown(2 * loaded_bytes(images)).replace(' ', '')}."
            )
        lazy = True
    if not lazy:
        charge(loaded_bytes(images), "its images")
    if images.dtype.kind == "b" or images.dtype == np.uint8:
        return _load(path, images, lines, np.dtype(np.uint8), lazy, most)
    try:
        return _load(path, images, lines, np.dtype(np.float32), lazy, most)
    except _Inexact:
        pass  # and only then read again: the error keeps the first array in memory
    return _load(path, images, lines, np.dtype(np.float64), lazy, most)


class _Inexact(Exception):
    """A dtype cannot hold a value."""


def _load(path, images, lines, dtype, lazy, most):
    recorded = np.arange(images.shape[1]) < lines[:, None]
    bad, huge = np.zeros((2, images.shape[0]), bool)
    small = images.dtype.kind in "bui" and images.dtype.itemsize <= 2
    out = None if lazy else np.empty(images.shape, dtype)
    for scans, pixels, block in () if lazy and small else images.blocks():
        with np.errstate(over="ignore", invalid="ignore"):
            values = block.astype(dtype, copy=False)
        if not small and dtype == np.float32 and block.dtype.itemsize > 4:
            _check_exact(values, block)
        if dtype.kind == "f" and not small:
            values, wrong = _fill_gaps(values)
            if wrong is not None:
                bad[scans] |= (wrong & recorded[scans][:, :, None]).any((1, 2))
            if np.abs(values).max(initial=0) > most:
                wrong = np.abs(values) > most
                huge[scans] |= (wrong & recorded[scans][:, :, None]).any((1, 2))
        if out is not None:
            out[scans, :, pixels] = values
    if bad.any():
        raise DatasetError(
            f"{path}: {bad.sum()} of {len(bad)} scans hold NaN or inf in recorded lines; "
            f"the first is scan {bad.argmax()}. Remove them, or tell in `lines` how many "
            "lines were recorded."
        )
    if huge.any():
        raise DatasetError(
            f"{path}: {huge.sum()} of {len(huge)} scans hold heights above {most:.2g} in "
            f"recorded lines; the first is scan {huge.argmax()}. Remove them, or save heights "
            "in metres."
        )
    if lazy and not hasattr(images, "in_dtype"):
        return StreamedImages(images, dtype)
    return images.in_dtype(dtype) if lazy else out


def _check_exact(values, block):
    same = values == block
    if not same.all() and not np.isnan(block[~same]).all():
        raise _Inexact


def _fill_gaps(values):
    finite = np.isfinite(values)
    if finite.all():
        return values, None
    return np.where(finite, values, values.dtype.type(0)), ~finite
