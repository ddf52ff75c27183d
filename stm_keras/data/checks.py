"""Check the arrays of a dataset; every error names the file and what was received."""

import numpy as np

from stm_keras.errors import DatasetError

TEXTS = ("session", "campaign", "run", "name")


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
            f"{tuple(images.shape)}. Resample the scans, or save them as pictures."
        )
    if 0 in images.shape:
        raise DatasetError(
            f"{path}: `images` is empty (shape {tuple(images.shape)}). A dataset has at "
            "least one scan."
        )


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
            raise DatasetError(
                f"{path}: `{key}` must have shape ({count},). Received: shape "
                f"{array.shape}."
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
        raise DatasetError(
            f"{path}: `{key}` must be whole numbers. Received: dtype {array.dtype}."
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
        raise DatasetError(
            f"{path}: `labels` must be 0 to {len(classes) - 1} for the {len(classes)} "
            f"classes {listed(classes)}. Received: {labels[wrong][0]} for scan "
            f"{wrong.argmax()}."
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
