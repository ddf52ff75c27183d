"""Turn what a reader found into a checked `Dataset`."""

import re

import numpy as np

from stm_keras.data.dataset import (
    CLASSES,
    SIX_CLASSES,
    Dataset,
    labels_from_votes,
    merge_labels,
    merge_votes,
)
from stm_keras.data.raw import (
    TEXTS,
    check_agreement,
    check_images,
    check_labels,
    check_lengths,
    check_votes,
    count_classes,
    listed,
    listed_keys,
    load_images,
    loaded_bytes,
    whole,
)
from stm_keras.errors import DatasetError
from stm_keras.memory import left


def assemble(path, found, merge, shape, lazy_above=None, streamed=False):
    """Check everything a file holds and make a `Dataset` of it.

    Args:
        path: `Path`. Named in errors, and the source where the file names none.
        found: `Found`.
        merge: bool. Whether six classes become four.
        shape: tuple (lines, pixels) of every scan, or None for any.
        lazy_above: int. Images of more bytes stay in their file, if it is HDF5; None for
            those that need more memory than the file may take.
        streamed: bool. As for `load_images`.

    Returns:
        `Dataset`.

    Raises:
        DatasetError: Anything does not fit.
    """
    images, arrays = found.images, dict(found.arrays)
    check_images(path, images, shape)
    check_lengths(path, images.shape[0], {**arrays, **(found.parameters or {})})
    votes = check_votes(path, arrays.get("votes"))
    labels = whole(path, "labels", arrays.get("labels"))
    if votes is None and labels is None:
        raise DatasetError(
            f"{path}: has neither `labels` nor `votes`. Found: {listed_keys(found.keys)}. "
            "Add one of them."
        )
    classes, order = _class_names(path, found.classes, votes, labels)
    check_labels(path, labels, classes, found.own)
    check_agreement(path, labels, votes)
    lines = _lines(path, arrays.get("lines"), images.shape)
    unanimous = arrays.get("unanimous")
    if unanimous is not None:
        unanimous = whole(path, "unanimous", unanimous, 0, 1).astype(bool)
    elif votes is not None:
        unanimous = ((votes == 0) | (votes == 1)).all(1)
    line_labels = whole(
        path, "line_labels", arrays.get("line_labels"), -1, len(classes) - 1
    )
    if line_labels is not None and line_labels.shape != images.shape[:2]:
        raise DatasetError(
            f"{path}: `line_labels` must have shape {images.shape[:2]}. Received: "
            f"{line_labels.shape}."
        )
    if order is not None:
        votes, labels, line_labels = _reorder(order, votes, labels, line_labels)
    if labels is None:
        labels = labels_from_votes(votes)
    parameters = dict(found.parameters or {})
    if merge and classes == SIX_CLASSES:
        classes = CLASSES
        if votes is not None:  # merged with "bad/blurry", and asked for apart
            parameters["tip_change_votes"] = votes[:, SIX_CLASSES.index("tip change")]
        votes = None if votes is None else merge_votes(votes)
        labels = merge_labels(labels)
        line_labels = None if line_labels is None else merge_labels(line_labels)
        if votes is not None:  # two of six classes may be one of four
            labels = np.where(labels < 0, labels_from_votes(votes), labels)
    change_line = whole(path, "change_line", arrays.get("change_line"), -1, images.shape[1])
    lazy_above = left() if lazy_above is None else lazy_above
    lazy = hasattr(images, "in_dtype") and loaded_bytes(images) > lazy_above
    return Dataset(
        images=load_images(path, images, lines, lazy, streamed),
        labels=labels.astype(np.int64),
        classes=classes,
        lines=lines,
        votes=votes,
        raters=whole(path, "raters", arrays.get("raters"), 0),
        unanimous=unanimous,
        **{key: _text(arrays.get(key)) for key in TEXTS},
        line_labels=None if line_labels is None else line_labels.astype(np.int8),
        change_line=change_line,
        parameters=parameters,
        source=str(path) if found.source is None else found.source,
    )


def canonical(name):
    """Return a class name as names are compared: letters and digits only."""
    return re.sub(r"[^a-z0-9]+", " ", str(name).lower()).strip()


def _class_names(path, names, votes, labels):
    """Return the names of the classes and how to put the file's into their order."""
    count = None if votes is None else votes.shape[1]
    if names is None:
        known = {len(SIX_CLASSES): SIX_CLASSES, len(CLASSES): CLASSES}
        if count is None:
            count = count_classes(path, labels, known)
        if count not in known:
            raise DatasetError(
                f"{path}: `votes` has {count} columns, 6 or 4 are known. Name other "
                "classes in `classes`."
            )
        return known[count], None
    names = tuple(str(name) for name in names)
    keys = [canonical(name) for name in names]
    if len(set(keys)) < max(2, len(keys)) or "" in keys:
        raise DatasetError(
            f"{path}: `classes` must be two or more different names. Received: "
            f"{listed(names)}."
        )
    if count not in (None, len(names)):
        raise DatasetError(
            f"{path}: `votes` has {count} columns for {len(names)} classes. They must be "
            "as many."
        )
    for known in (SIX_CLASSES, CLASSES):
        wanted = [canonical(name) for name in known]
        if keys == wanted:
            return known, None
        if sorted(keys) == sorted(wanted):
            return known, np.array([wanted.index(key) for key in keys])
    return names, None


def _lines(path, lines, shape):
    if lines is None:
        return np.full(shape[0], shape[1], np.int64)
    return whole(path, "lines", lines, 0, shape[1])


def _reorder(order, votes, labels, line_labels):
    table = np.append(order, -1)
    if votes is not None:
        votes = votes[:, np.argsort(order)]
    labels, line_labels = (None if a is None else table[a] for a in (labels, line_labels))
    return votes, labels, line_labels


def _text(array):
    if array is None or array.dtype.kind == "U":
        return array
    return np.char.decode(array) if array.dtype.kind == "S" else array.astype(np.str_)
