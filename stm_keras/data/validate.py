"""Turn what a file holds into a checked `Dataset`."""

import re
from pathlib import Path

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
    ABOUT,
    TEXTS,
    RawDataset,
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
    measured,
    must,
    whole,
)
from stm_keras.errors import DatasetError
from stm_keras.memory import left


def validate_dataset(
    path: str | Path,
    raw: RawDataset,
    merge: bool,
    shape: tuple | str | None,
    lazy_above: int | None = None,
    streamed: bool = False,
) -> Dataset:
    """Check everything a file holds and make a `Dataset` of it.

    `path` is named in errors, and is the source where the file names none; all else is as
    for `load_dataset`.
    """
    images = raw.images
    check_images(path, images, shape)
    arrays = {key: _each(key, value, images.shape[0]) for key, value in raw.arrays.items()}
    parameters = dict(raw.parameters or {})
    check_lengths(path, images.shape[0], {**arrays, **parameters})
    votes = check_votes(path, arrays.get("votes"))
    labels = whole(path, "labels", arrays.get("labels"))
    if votes is None and labels is None:
        raise DatasetError(
            f"{path}: has neither `labels` nor `votes`. Found: {listed_keys(raw.keys)}. "
            "Add one of them."
        )
    classes, order = _class_names(path, raw.classes, votes, labels)
    check_labels(path, labels, classes, raw.own)
    check_agreement(path, labels, votes)
    lines = whole(path, "lines", arrays.get("lines"), 0, images.shape[1])
    if lines is None:
        lines = np.full(images.shape[0], images.shape[1], np.int64)
    unanimous = whole(path, "unanimous", arrays.get("unanimous"), 0, 1)
    model_shown = whole(path, "model_shown", arrays.get("model_shown"), 0, 1)
    if unanimous is not None:
        unanimous = unanimous.astype(bool)
    elif votes is not None:
        unanimous = ((votes == 0) | (votes == 1)).all(1)
    line_labels = whole(
        path, "line_labels", arrays.get("line_labels"), -1, len(classes) - 1
    )
    if line_labels is not None and line_labels.shape != images.shape[:2]:
        wanted = f"have shape {images.shape[:2]}"
        raise must(path, "line_labels", wanted, line_labels.shape)
    if order is not None:
        votes = None if votes is None else votes[:, np.argsort(order)]
        table = np.append(order, -1)  # the last entry is that of -1
        labels, line_labels = (
            None if each is None else table[each] for each in (labels, line_labels)
        )
    if labels is None:
        labels = labels_from_votes(votes)
    if merge and classes == SIX_CLASSES:
        classes = CLASSES
        labels = merge_labels(labels)
        line_labels = None if line_labels is None else merge_labels(line_labels)
        if votes is not None:
            # They are merged with those for "bad/blurry", and asked for apart.
            parameters["tip_change_votes"] = votes[:, SIX_CLASSES.index("tip change")]
            votes = merge_votes(votes)
            # Two of six classes, neither with more than half, may be one of four.
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
        weight=measured(path, "weight", arrays.get("weight"), least=0),
        model_shown=None if model_shown is None else model_shown.astype(bool),
        size_nm=measured(path, "size_nm", arrays.get("size_nm"), columns=(2,)),
        bias=measured(path, "bias", arrays.get("bias")),
        parameters=parameters,
        source=str(path) if raw.source is None else raw.source,
    )


def _each(key, array, count):
    """Repeat what a file says once of all its scans, such as their size."""
    once = {"size_nm": 1}.get(key, 0) if key in ABOUT else -1
    return np.repeat(array[None], count, axis=0) if array.ndim == once else array


def canonical(name: object) -> str:
    """Return a class name as names are compared: letters and digits only."""
    return re.sub(r"[^a-z0-9]+", " ", str(name).lower()).strip()


def _class_names(path, names, votes, labels):
    """Return the names of the classes, and the number that each of the file's has there."""
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
        raise must(path, "classes", "be two or more different names", listed(names))
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


def _text(array):
    if array is None or array.dtype.kind == "U":
        return array
    return np.char.decode(array) if array.dtype.kind == "S" else array.astype(np.str_)
