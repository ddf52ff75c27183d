"""A set of scans with labels, in memory or on disk."""

import hashlib
from dataclasses import dataclass, field, fields, replace

import numpy as np

CLASSES = ("individual atoms", "asymmetries/dimers", "rows", "generic defects")
SIX_CLASSES = (
    "individual atoms",
    "asymmetries",
    "dimers",
    "rows",
    "tip change",
    "bad/blurry",
)
MERGED = ((0,), (1, 2), (3,), (4, 5))  # six classes of each of the four


@dataclass(frozen=True)
class Dataset:
    """Scans, what was seen on them, and where they come from.

    Args:
        images: array-like of shape `(scans, lines, pixels)`. Heights in any unit;
            uint8, float32 or float64. Rows past `lines` were not recorded.
            May be an HDF5 dataset, which is then read when indexed; of a sharded one
            `line_labels` and `parameters` are read when indexed as well.
        labels: int array of shape `(scans,)`. Class of each scan, -1 where no
            single class holds.
        classes: tuple of str. Name of each class.
        lines: int array of shape `(scans,)`. Recorded lines.
        votes: float array of shape `(scans, classes)`. Share of raters, or None.
        raters: int array of shape `(scans,)`, or None.
        unanimous: bool array of shape `(scans,)`. All votes are 0 or 1, before any
            merging of classes. None without votes.
        session, campaign, run, name: str arrays of shape `(scans,)`, or None.
        line_labels: int8 array of shape `(scans, lines)`. Class of each line, -1
            where it was not recorded. None where unknown.
        change_line: int array of shape `(scans,)`. First line with the new tip, -1
            without a change. None where unknown.
        parameters: dict of str to array of shape `(scans, ...)`. What the simulator
            drew.
        source: str. File or command the scans come from.
    """

    images: object
    labels: np.ndarray
    classes: tuple
    lines: np.ndarray
    votes: np.ndarray | None = None
    raters: np.ndarray | None = None
    unanimous: np.ndarray | None = None
    session: np.ndarray | None = None
    campaign: np.ndarray | None = None
    run: np.ndarray | None = None
    name: np.ndarray | None = None
    line_labels: np.ndarray | None = None
    change_line: np.ndarray | None = None
    parameters: dict = field(default_factory=dict)
    source: str = ""

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """Return the scans at `indices` (int array, in any order).

        They are in memory, but for those of a sharded dataset, which stay in its files.
        """
        indices = np.asarray(indices, int)
        changes = {
            f.name: rows_of(value, indices)
            for f in fields(self)
            if f.name != "images" and hasattr(value := getattr(self, f.name), "shape")
        }
        sharded = hasattr(self.images, "rows")
        changes["images"] = (rows_of if sharded else read_images)(self.images, indices)
        changes["parameters"] = {k: rows_of(v, indices) for k, v in self.parameters.items()}
        return replace(self, **changes)

    def single_class(self):
        """Tell which scans are complete and of one class: bool array `(scans,)`."""
        return (self.labels >= 0) & (self.lines == self.images.shape[1])

    def full_agreement(self):
        """Tell which single-class scans have no rater against: bool array."""
        unanimous = True if self.unanimous is None else self.unanimous
        return self.single_class() & unanimous

    def consensus(self):
        """Tell which single-class scans two or more raters agree on: bool array.

        Without votes nothing is known of raters and no scan is one of these.
        """
        if self.unanimous is None or self.raters is None:
            return np.zeros(len(self), bool)
        return self.full_agreement() & (self.raters >= 2)

    def counts(self):
        """Count the single-class scans of each class: int array `(classes,)`."""
        labels = self.labels[self.single_class()]
        return np.bincount(labels, minlength=len(self.classes))

    def digest(self):
        """Return a SHA-256 over images and labels, the same for every file format.

        Of shards it takes those of the files from their index, to read nothing: another
        number than that of one file with the same scans.
        """
        told = getattr(self.images, "digest", None)
        state = hashlib.sha256(b"" if told is None else told.encode())
        for start in range(0, len(self) if told is None else 0, 256):
            chunk = np.asarray(self.images[start : start + 256])
            if chunk.dtype == np.float64 and (chunk == chunk.astype(np.float32)).all():
                chunk = chunk.astype(np.float32)  # as storage keeps such heights
            state.update(np.ascontiguousarray(chunk))
        for array in (self.labels, self.lines):
            state.update(np.ascontiguousarray(array, dtype="<i8"))
        state.update("\n".join(self.classes).encode())
        return state.hexdigest()


def read_images(images, indices):
    """Index images in any order, also where HDF5 wants increasing indices.

    Args:
        images: array-like of shape `(scans, lines, pixels)`.
        indices: int array.

    Returns:
        array of shape `(len(indices), lines, pixels)`.
    """
    if isinstance(images, np.ndarray):
        return images[indices]
    unique, inverse = np.unique(indices, return_inverse=True)
    return images[unique][inverse]


def merge_votes(votes):
    """Merge votes for six classes into votes for four: the larger of each pair.

    Args:
        votes: float array of shape `(scans, 6)`.

    Returns:
        float array of shape `(scans, 4)`.
    """
    return np.stack([votes[:, list(group)].max(1) for group in MERGED], axis=1)


def merge_labels(labels):
    """Map labels of six classes to four; -1 stays -1. int array `(scans,)`."""
    table = np.empty(len(SIX_CLASSES) + 1, int)
    for merged, group in enumerate(MERGED):
        table[list(group)] = merged
    table[-1] = -1
    return table[labels]


def labels_from_votes(votes):
    """Return the class that alone has more than half of the votes, else -1.

    Args:
        votes: float array of shape `(scans, classes)`. A scan may carry several
            classes, or none.

    Returns:
        int array of shape `(scans,)`.
    """
    above = votes > 0.5
    return np.where(above.sum(1) == 1, above.argmax(1), -1)


class StoredRows:
    """Index rows that lie in files: by int, slice, int array or bool mask.

    A child has `shape`, `dtype` and `_pick(positions)`, which reads rows.
    """

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def nbytes(self):
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        index, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(index, int | np.integer):
            row = range(len(self))[index]
            return self._pick(np.array([row]))[0][tuple(rest)]
        if isinstance(index, slice):
            positions = np.asarray(range(len(self))[index], int)
        else:
            positions = self._positions(np.asarray(index))
        return self._pick(positions)[(slice(None), *rest)]

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _positions(self, index):
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"mask of shape {index.shape} for {len(self)} scans")
            return np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(f"scans are indexed by one int array, not {index.dtype}")
        index = index.astype(int)
        if ((index < -len(self)) | (index >= len(self))).any():
            raise IndexError(f"scan out of range for {len(self)} scans")
        return np.where(index < 0, index + len(self), index)


def rows_of(array, indices):
    """Return some scans of an array, of a sharded one without reading them.

    Args:
        array: array-like of shape `(scans, ...)`, or None.
        indices: int array.

    Returns:
        array-like of shape `(len(indices), ...)`, or None for None.
    """
    if array is None:
        return None
    return array.rows(indices) if hasattr(array, "rows") else array[indices]
