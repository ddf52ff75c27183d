"""A set of scans with labels, in memory or on disk."""

import hashlib
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CLASSES = ("individual atoms", "asymmetries/dimers", "rows", "generic defects")
SIX_CLASSES = (
    "individual atoms",
    "asymmetries",
    "dimers",
    "rows",
    "tip change",
    "bad/blurry",
)
SIZES = (32, 512)  # least and most lines of a scan that trains, and pixels of its lines
SQUARE = "square"  # the shape of scans with as many lines as pixels, within `SIZES`
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
        weight: float array of shape `(scans,)`. How much each counts in training beside
            the others, or None.
        model_shown: bool array of shape `(scans,)`. Whether a rater saw the verdict of a model
            before they labelled the scan, or None.
        size_nm: float array of shape `(scans, 2)`. Width and height of the frame, NaN where
            unknown, as `bias` is. These and the next are None where nothing is known.
        bias: float array of shape `(scans,)`, in V.
        channel, direction, slow, unit: str arrays of shape `(scans,)`. What was recorded, as
            in `Scan`; "" where unknown.
        parameters: dict of str to array of shape `(scans, ...)`. What the simulator
            drew.
        source: str. File or command the scans come from.
    """

    images: Any
    labels: np.ndarray
    classes: tuple[str, ...]
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
    weight: np.ndarray | None = None
    model_shown: np.ndarray | None = None
    size_nm: np.ndarray | None = None
    bias: np.ndarray | None = None
    channel: np.ndarray | None = None
    direction: np.ndarray | None = None
    slow: np.ndarray | None = None
    unit: np.ndarray | None = None
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: ArrayLike) -> "Dataset":
        """Return the scans at `indices` (int array, in any order).

        They are in memory, but for those of a sharded dataset, which stay in its files.
        """
        indices = np.asarray(indices, int)
        changes = {
            f.name: select_rows(value, indices)
            for f in fields(self)
            if f.name != "images" and hasattr(value := getattr(self, f.name), "shape")
        }
        sharded = hasattr(self.images, "select")
        changes["images"] = (select_rows if sharded else read_images)(self.images, indices)
        changes["parameters"] = {
            key: select_rows(value, indices) for key, value in self.parameters.items()
        }
        return replace(self, **changes)

    def single_class(self) -> np.ndarray:
        """Tell which scans are complete and of one class: bool array `(scans,)`."""
        return (self.labels >= 0) & (self.lines == self.images.shape[1])

    def full_agreement(self) -> np.ndarray:
        """Tell which single-class scans have no rater against: bool array."""
        unanimous = True if self.unanimous is None else self.unanimous
        return self.single_class() & unanimous

    def consensus(self) -> np.ndarray:
        """Tell which single-class scans two or more raters agree on: bool array.

        Without votes nothing is known of raters, and no scan is one of these.
        """
        if self.unanimous is None or self.raters is None:
            return np.zeros(len(self), bool)
        return self.full_agreement() & (self.raters >= 2)

    def counts(self) -> np.ndarray:
        """Count the single-class scans of each class: int array `(classes,)`."""
        labels = self.labels[self.single_class()]
        return np.bincount(labels, minlength=len(self.classes))

    def scan_hashes(self) -> list[str]:
        """Return a hash of each scan: what two datasets have in common, whatever their order."""
        images = (np.asarray(self.images[k], np.float32) for k in range(len(self)))
        return [hashlib.sha256(each.tobytes()).hexdigest()[:24] for each in images]

    def digest(self) -> str:
        """Return a SHA-256 over images and labels, the same for every file format.

        That of shards is made of those in their index, so that no image is read: another
        number than that of one file with the same scans.
        """
        indexed = getattr(self.images, "digest", None)
        state = hashlib.sha256(b"" if indexed is None else indexed.encode())
        for start in range(0, len(self) if indexed is None else 0, 256):
            chunk = np.asarray(self.images[start : start + 256])
            if chunk.dtype == np.float64 and (chunk == chunk.astype(np.float32)).all():
                chunk = chunk.astype(np.float32)  # as a file would keep such heights
            state.update(np.ascontiguousarray(chunk).data)
        for array in (self.labels, self.lines):
            state.update(np.ascontiguousarray(array, dtype="<i8").data)
        state.update("\n".join(self.classes).encode())
        return state.hexdigest()


def read_images(images: Any, indices: np.ndarray) -> np.ndarray:
    """Index images `(scans, lines, pixels)` in any order, repeats and all.

    HDF5 wants increasing indices without repeats.
    """
    if isinstance(images, np.ndarray):
        return images[indices]
    unique, inverse = np.unique(indices, return_inverse=True)
    return images[unique][inverse]


def merge_votes(votes: np.ndarray) -> np.ndarray:
    """Merge votes `(scans, 6)` into `(scans, 4)`: the larger of each pair of classes."""
    return np.stack([votes[:, list(group)].max(1) for group in MERGED], axis=1)


def merge_labels(labels: np.ndarray) -> np.ndarray:
    """Map labels of six classes to four; -1 stays -1. int array `(scans,)`."""
    table = np.empty(len(SIX_CLASSES) + 1, int)
    for merged, group in enumerate(MERGED):
        table[list(group)] = merged
    table[-1] = -1
    return table[labels]


def labels_from_votes(votes: np.ndarray) -> np.ndarray:
    """Return the class that alone has more than half of the votes, else -1.

    A scan may carry several classes, or none: `(scans, classes)` to int array `(scans,)`.
    """
    above = votes > 0.5
    return np.where(above.sum(1) == 1, above.argmax(1), -1)


def labels_of_split_votes(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of scans on which raters ticked different boxes of one class.

    Of two raters, one ticks asymmetries and the other dimers: each box has half of the votes, and
    neither has more, so by `merge_votes` the scan has no class, though both raters named the same
    one of four. The rule stays: where something else is ticked as well, shares do not say whether
    two raters named the class or one ticked both boxes, and sums of shares would take the class
    from other scans, which then have two. These scans are scored apart.

    Args:
        votes: float array of shape `(scans, 6)`.

    Returns:
        Tuple of int array `(scans,)`: the class that alone has more than half of the votes when
        those for its boxes are added up, where the larger gives none, else -1; and bool array
        `(scans,)`: whether nothing but that class is ticked, so that all raters did name it.
    """
    sums = np.stack([votes[:, list(group)].sum(1) for group in MERGED], axis=1)
    split = labels_from_votes(merge_votes(votes)) < 0
    labels = np.where(split, labels_from_votes(np.minimum(sums, 1)), -1)
    return labels, (labels >= 0) & ((sums > 0).sum(1) == 1)


class LazyArray:
    """An array whose rows stay in files; indexed by int, slice, int array or bool mask.

    A child has `shape`, `dtype` and `_read_rows(indices)`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def nbytes(self):
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        index, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(index, int | np.integer):
            row = range(len(self))[index]
            return self._read_rows(np.array([row]))[0][tuple(rest)]
        if isinstance(index, slice):
            indices = np.asarray(range(len(self))[index], int)
        else:
            indices = self._check_indices(np.asarray(index))
        return self._read_rows(indices)[(slice(None), *rest)]

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _read_rows(self, indices):
        raise NotImplementedError

    def _check_indices(self, index):
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


def select_rows(array: Any, indices: np.ndarray) -> Any:
    """Return some rows of an array, of a sharded one without reading them; None of None."""
    if array is None:
        return None
    return array.select(indices) if hasattr(array, "select") else array[indices]


def has_shape(scan: tuple, shape: tuple | str | None) -> bool:
    """Tell whether a scan of (lines, pixels) has a shape: a tuple, `SQUARE`, or None for any."""
    if shape == SQUARE:
        return is_square(scan)
    return shape is None or scan == tuple(shape)


def is_square(scan: tuple) -> bool:
    """Tell whether a scan of (lines, pixels) can train, and can be simulated: see `SQUARE`."""
    lines, pixels = scan
    return lines == pixels and SIZES[0] <= pixels <= SIZES[1]
