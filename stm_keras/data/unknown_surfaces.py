"""Scans of surfaces that a model must not know, with where each comes from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stm_keras.data.hdf5_arrays import member, open_file, values
from stm_keras.data.preprocess import recorded_lines
from stm_keras.data.raw import listed_keys
from stm_keras.errors import DatasetError
from stm_keras.memory import charge
from stm_keras.readers.hdf5_open import names_of
from stm_keras.readers.hdf5_parts import read_values

APART = ("noise/blank", "unclear")  # kinds that neither teach nor score
FULL = 32767.0  # of tiles in 16 bits
TEXTS = ("source", "kind", "licence")


@dataclass(frozen=True)
class UnknownSurfaces:
    """Scans of other surfaces.

    Args:
        images: float32 array of shape `(scans, lines, pixels)`. Heights; lines that were
            not recorded are 0.
        source: str array `(scans,)`. Whose scans they are: no scan of a source both
            teaches and scores.
        kind: str array `(scans,)`. What they show, "" unknown.
        licence: str array `(scans,)`. Of the source, "" unknown.
        part_of: int array `(scans,)`. For a part of another scan, which only teaches, the
            place of that scan; else -1.
        name: str. Of the file.
    """

    images: np.ndarray
    source: np.ndarray
    kind: np.ndarray
    licence: np.ndarray
    part_of: np.ndarray
    name: str = ""

    def __len__(self):
        return len(self.images)

    @property
    def lines(self) -> np.ndarray:
        """Recorded lines of each scan, int array `(scans,)`."""
        return recorded_lines(self.images)

    @property
    def usable(self) -> np.ndarray:
        """Scans that show a surface, bool array `(scans,)`: neither blank nor unclear."""
        return ~np.isin(self.kind, APART) & (self.lines > 0)

    @property
    def whole(self) -> np.ndarray:
        """Scans that are not a part of another, bool array `(scans,)`."""
        return self.part_of < 0

    def licences(self) -> dict:
        """Return the licence of each source, and how many usable scans are of it.

        Returns:
            dict of source to dict of `licence` and `scans`.
        """
        return {
            str(source): {
                "licence": str(self.licence[self.source == source][0]),
                "scans": int(np.sum((self.source == source) & self.whole & self.usable)),
            }
            for source in np.unique(self.source[self.usable])
        }


def names_sources(path: str | Path) -> bool:
    """Tell whether an HDF5 file says of each scan which source it is from."""
    path = Path(path)
    if path.suffix not in (".h5", ".hdf5") or not path.is_file():
        return False
    with open_file(path) as file:
        return {"images", "source"} <= set(names_of(file))


def read_unknown_surfaces(path: str | Path) -> UnknownSurfaces:
    """Read scans of other surfaces from HDF5.

    Args:
        path: str or `Path` of a file with `images` `(scans, lines, pixels)` and `source`
            `(scans,)`; it may hold `kind`, `licence`, and parts of scans that only teach:
            `tiles` `(parts, lines, pixels)` and `tile_of` `(parts,)`.

    Returns:
        `UnknownSurfaces`.

    Raises:
        DatasetError: The file is damaged, lacks something, or its arrays do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Give an HDF5 file with other surfaces.")
    with open_file(path) as file:
        held = set(names_of(file))
        missing = [key for key in ("images", "source") if key not in held]
        if missing:
            raise DatasetError(
                f"{path}: scans of other surfaces need `{missing[0]}`: `images` (scans, "
                "lines, pixels) and `source` (scans,), which says whose each is. "
                f"Found: {listed_keys(held)}."
            )
        images = _heights(path, member(path, file, "images"))
        texts = {
            key: _texts(path, file, key, len(images)) if key in held else None
            for key in TEXTS
        }
        tiles, of = None, None
        if {"tiles", "tile_of"} <= held:
            tiles = _heights(path, member(path, file, "tiles"))
            of = np.asarray(values(path, file, "tile_of"))
    texts = {
        key: np.full(len(images), "") if value is None else value
        for key, value in texts.items()
    }
    part_of = np.full(len(images), -1)
    if tiles is not None:
        fits = of.shape == (len(tiles),) and of.dtype.kind in "iu"
        fits = fits and tiles.shape[1:] == images.shape[1:]
        if not fits or (len(of) and not 0 <= of.min() <= of.max() < len(images)):
            raise DatasetError(
                f"{path}: `tiles` and `tile_of` do not fit `images`: each tile is a scan of "
                "the same size, and `tile_of` is the row of `images` that it is from."
            )
        images = np.concatenate([images, tiles])
        texts = {key: np.concatenate([v, v[of]]) for key, v in texts.items()}
        part_of = np.concatenate([part_of, of])
    return UnknownSurfaces(images, **texts, part_of=part_of, name=path.name)


def _heights(path, stored):
    if len(stored.shape) != 3 or not stored.shape[0] or stored.dtype.kind not in "fiu":
        raise DatasetError(
            f"{path}: {stored.name} must hold numbers of shape (scans, lines, pixels). "
            f"Received: shape {stored.shape}, {stored.dtype}."
        )
    charge(3 * 4 * stored.size, f"`{stored.name}`")
    heights = np.asarray(read_values(stored), np.float32)
    if not np.isfinite(heights).all():
        raise DatasetError(f"{path}: {stored.name} holds NaN or inf. Set such lines to 0.")
    largest = np.abs(heights).max((1, 2), keepdims=True)  # no unit matters
    return heights / np.where(largest > 0, largest, 1)


def _texts(path, file, key, count):
    found = np.asarray(values(path, file, key))
    if found.shape != (count,):
        raise DatasetError(
            f"{path}: `{key}` must hold one text for each of {count} scans. "
            f"Received: shape {found.shape}."
        )
    return np.array(
        [each.decode() if isinstance(each, bytes) else str(each) for each in found.tolist()]
    )
