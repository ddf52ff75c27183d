"""What looks like an array of scans and is read from files when indexed."""

import numpy as np


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
