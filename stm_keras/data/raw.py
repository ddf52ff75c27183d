"""Check the arrays of a dataset; every error names the file and what was received."""

import numpy as np

from stm_keras.data.dataset import labels_from_votes
from stm_keras.errors import DatasetError

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
