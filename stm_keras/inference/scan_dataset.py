"""Make a dataset of scans with labels, as they lie in the files of microscopes.

Each scan is read once, and brought to the lines and pixels of a dataset as `predict` brings it to
those of a model; few are in memory at a time.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from stm_keras.data.dataset import Dataset, LazyArray
from stm_keras.data.raw import TEXTS, RawDataset
from stm_keras.data.validate import validate_dataset
from stm_keras.errors import DatasetError, InputError, OutputError, StmKerasError
from stm_keras.files import why_unwritten
from stm_keras.inference.scan_input import ScanInput, Unread, read_files
from stm_keras.inference.scan_labels import LabelledFiles
from stm_keras.inference.verdict import NO_SIGNAL
from stm_keras.readers.info import NANO

NONE = "none of its scans has a label. Look at the paths, or the records."


@dataclass(frozen=True)
class Converted:
    """A dataset, and what did not get into it."""

    dataset: Dataset | None  # its images in a `ScanStore`; None where there is no scan
    errors: list[StmKerasError]  # of files, scans and labels
    notes: list[str]  # what else the user should know


class ScanStore(LazyArray):
    """Scans in a temporary file of a folder, which look like an array `(scans, lines, pixels)`."""

    dtype = np.dtype(np.float32)

    def __init__(self, folder: Path, shape: tuple[int, int]):
        self.shape = (0, *shape)
        self._folder = folder
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it ends with us
        except OSError as error:
            raise OutputError(why_unwritten(folder, error)) from None

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def append(self, heights: np.ndarray) -> None:
        """Add a scan at the end."""
        try:
            self._file.seek(0, 2)
            self._file.write(heights.astype(self.dtype).tobytes())
        except OSError as error:
            raise OutputError(why_unwritten(self._folder, error)) from None
        self.shape = (len(self) + 1, *self.shape[1:])

    def in_dtype(self, dtype: np.dtype) -> "ScanStore":
        """Return the scans themselves: they fit in float32."""
        return self

    def _read_rows(self, indices):
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for row, index in zip(rows, indices, strict=True):
            self._file.seek(int(index) * row.nbytes)
            self._file.readinto(row)
        return rows


def make_dataset(
    labelled: LabelledFiles,
    store: ScanStore,
    channel: str | None = None,
    merge: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Read scans and make a dataset of those that have a label.

    Args:
        labelled: `LabelledFiles`.
        store: Empty `ScanStore` for its images, of the lines and pixels that scans are brought
            to; to be closed when they are not needed any more.
        channel: As `read_scan` takes it.
        merge: Whether six classes become four.
        progress: Takes files done and files in all.

    Raises:
        DatasetError: A label makes no sense.
        OutputError: The folder is full.
    """
    errors, notes = list(labelled.errors), list(labelled.notes)
    rows, used, unlabelled = [], set(), labelled.unlabelled
    shape = store.shape[1:]
    facts = {"max_lines": shape[0], "pixels": shape[1], "classes": []}  # as of a model
    for scan in read_files(_counted(labelled.files, progress), facts, channel):
        if isinstance(scan, Unread):
            errors.append(scan.error)
        elif isinstance(scan, ScanInput):
            key = next((k for k in labelled.keys_of(scan) if k in labelled.labels), None)
            used.add(key)
            if key is None:
                unlabelled += 1
            elif len(scan.bounds) < 2:
                errors.append(DatasetError(f"{scan.path}: {NO_SIGNAL}."))
            else:
                rows.append(_row(scan, labelled.labels[key], labelled))
                store.append(scan.heights * scan.scale)
    for key, label in labelled.labels.items():
        if key not in used and (labelled.by_hash or key[1] is not None):
            errors.append(
                InputError(f"{label.place}: there is no such scan in {labelled.source}.")
            )
    if unlabelled:
        notes.append(f"Scans without a label, which were left out: {unlabelled}.")
    if not rows:
        return Converted(
            None, errors or [DatasetError(f"{labelled.source}: {NONE}")], notes
        )
    raw = RawDataset(
        images=store,
        arrays=_arrays(rows, labelled.voted),
        classes=labelled.classes,
        source=f"scans of {labelled.source}",
    )
    dataset = validate_dataset(labelled.source, raw, merge, shape, lazy_above=0)
    dated = sum(row["dated"] for row in rows)
    return Converted(dataset, errors, [*notes, *_notes(dataset, dated)])


def _counted(files, progress):
    """Yield files, and tell of each that is done."""
    for done, file in enumerate(files, 1):
        yield file
        if progress:
            progress(done, len(files))


def _row(scan, label, labelled):
    """Return what a dataset says of one scan: dict of its fields, and `dated`."""
    source, change_line = scan.scan, label.change_line
    if change_line is not None and change_line >= 0:  # as the nearest line of the dataset
        seen = change_line < scan.bounds[-1]
        begins = np.abs(scan.bounds[:-1] - change_line)
        change_line = int(begins.argmin()) if seen else -1
    session, dated = _session(scan, labelled)
    row = {
        "votes": label.votes,
        "raters": label.raters,
        "lines": scan.model_lines if scan.complete else len(scan.bounds) - 1,
        "change_line": change_line,
        "weight": label.weight,
        "model_shown": label.model_shown,
        "session": session,
        "dated": dated and not label.about.get("session"),
        "name": labelled.name_of(scan.path) + (f" [{scan.index}]" if scan.index else ""),
        "size_nm": [np.nan] * 2 if scan.size is None else np.multiply(scan.size, NANO),
        "bias": None if source is None else source.bias,
        "channel": None if source is None else source.channel,
        "direction": None if source is None else source.direction,
        "slow": None if source is None else source.slow,
        "unit": scan.unit,
    }
    return row | {key: text for key, text in label.about.items() if text}


def _session(scan, labelled):
    """Return the session of a scan: its folder, else its day; and whether its file gave that."""
    folder = labelled.folder_of(scan.path)
    if folder:
        return folder, False
    if scan.scan is not None and scan.scan.started is not None:
        return scan.scan.started.date().isoformat(), False
    return datetime.fromtimestamp(scan.path.stat().st_mtime).date().isoformat(), True


def _arrays(rows, voted):
    """Turn the rows of scans into the arrays of a dataset: those that say something."""
    keys = dict.fromkeys(key for row in rows for key in row if key != "dated")
    columns = {key: [row.get(key) for row in rows] for key in keys}
    votes = np.array(columns.pop("votes"))
    if voted:
        columns["votes"] = votes.astype(np.float32)
    else:
        del columns["raters"]
        columns["labels"] = votes.argmax(1)
    known = {k: v for k, v in columns.items() if any(each is not None for each in v)}
    return {key: _array(key, values) for key, values in known.items()}


def _array(key, values):
    if key in TEXTS:
        return np.array([each or "" for each in values], np.str_)
    gap = {"weight": 1.0, "change_line": -1}.get(key, np.nan)
    return np.array([gap if each is None else each for each in values])


def _notes(dataset, dated):
    """Say what is odd about a dataset."""
    counts = np.bincount(
        dataset.labels[dataset.labels >= 0], minlength=len(dataset.classes)
    )
    for name, count in zip(dataset.classes, counts, strict=True):
        if count == 1:
            yield f"Only one scan is of class {name!r}: too few to train and to test."
    partial = int((dataset.lines < dataset.images.shape[1]).sum())
    if partial:
        yield (
            "Scans that were stopped early or are wider than high, and so take part in neither "
            f"training nor scores: {partial}."
        )
    if dated:
        yield (
            "Scans whose session is the date of their file, as they lie in no folder of a session "
            f"and do not tell when they began: {dated}."
        )
