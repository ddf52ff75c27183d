"""Scans of surfaces that a model must not know, with where each comes from."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.hdf5_arrays import member, open_file, values
from stm_keras.data.preprocess import recorded_lines
from stm_keras.data.raw import listed_keys, must
from stm_keras.errors import DatasetError
from stm_keras.memory import charge
from stm_keras.readers.hdf5_open import names_of
from stm_keras.readers.hdf5_parts import read_values

EXCLUDED = ("noise/blank", "unclear")  # kinds that neither train nor score
PROVENANCE = ("source", "kind", "licence")


@dataclass(frozen=True)
class UnknownSurfaces:
    """Scans of other surfaces."""

    images: np.ndarray  # float32 (scans, lines, pixels): heights, 0 where not recorded
    source: np.ndarray  # str (scans,): whose they are; no source both trains and scores
    kind: np.ndarray  # str (scans,): what they show, "" unknown
    licence: np.ndarray  # str (scans,): of the source, "" unknown
    # int (scans,): for a part of another scan, which only trains, that scan; else -1
    part_of: np.ndarray
    name: str = ""  # of the file

    def __len__(self):
        return len(self.images)

    @property
    def lines(self) -> np.ndarray:
        """Recorded lines of each scan, int array `(scans,)`."""
        return recorded_lines(self.images)

    @property
    def usable(self) -> np.ndarray:
        """Scans that show a surface, bool array `(scans,)`: neither blank nor unclear."""
        return ~np.isin(self.kind, EXCLUDED) & (self.lines > 0)

    @property
    def whole(self) -> np.ndarray:
        """Scans that are not a part of another, bool array `(scans,)`."""
        return self.part_of < 0

    def licences(self) -> dict:
        """Return a dict of source to `licence` and `scans`, the number of its usable ones."""
        usable = self.usable
        return {
            str(source): {
                "licence": str(self.licence[self.source == source][0]),
                "scans": int(np.sum((self.source == source) & self.whole & usable)),
            }
            for source in np.unique(self.source[usable])
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

    The file has `images` `(scans, lines, pixels)` and `source` `(scans,)`; it may hold
    `kind`, `licence`, and parts of scans that only train: `tiles` `(parts, lines, pixels)`
    and `tile_of` `(parts,)`.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Give an HDF5 file with other surfaces.")
    with open_file(path) as file:
        names = set(names_of(file))
        missing = [key for key in ("images", "source") if key not in names]
        if missing:
            raise DatasetError(
                f"{path}: scans of other surfaces need `{missing[0]}`: `images` (scans, "
                "lines, pixels) and `source` (scans,), which says whose each is (docs/surface.md). "
                f"Found: {listed_keys(names)}."
            )
        images = _read_heights(path, file, "images")
        texts = {
            key: _read_texts(path, file, key, len(images))
            if key in names
            else np.full(len(images), "")
            for key in PROVENANCE
        }
        tiles, tile_of = images[:0], np.zeros(0, int)
        if {"tiles", "tile_of"} <= names:
            tiles = _read_heights(path, file, "tiles")
            tile_of = np.asarray(values(path, file, "tile_of"))
    fits = tile_of.shape == (len(tiles),) and tile_of.dtype.kind in "iu"
    fits = fits and tiles.shape[1:] == images.shape[1:]
    if not fits or ((tile_of < 0) | (tile_of >= len(images))).any():
        raise DatasetError(
            f"{path}: `tiles` and `tile_of` do not fit `images`: each tile is a scan of "
            "the same size, and `tile_of` is the row of `images` that it is from."
        )
    return UnknownSurfaces(
        images=np.concatenate([images, tiles]) if len(tiles) else images,
        **{key: np.concatenate([text, text[tile_of]]) for key, text in texts.items()},
        part_of=np.concatenate([np.full(len(images), -1), tile_of]),
        name=path.name,
    )


def _read_heights(path, file: h5py.Group, key):
    array = member(path, file, key)
    if array.ndim != 3 or not array.shape[0] or array.dtype.kind not in "fiu":
        wanted = "hold numbers of shape (scans, lines, pixels)"
        raise must(path, key, wanted, f"shape {array.shape}, {array.dtype}")
    charge(3 * 4 * array.size, f"`{key}`")
    heights = np.asarray(read_values(array), np.float32)
    if not np.isfinite(heights).all():
        raise DatasetError(f"{path}: `{key}` holds NaN or inf. Set such lines to 0.")
    largest = np.abs(heights).max((1, 2), keepdims=True)  # no unit matters
    return heights / np.where(largest > 0, largest, 1)


def _read_texts(path, file: h5py.Group, key, count):
    texts = values(path, file, key).astype(str)
    if texts.shape != (count,):
        wanted = f"hold one text for each of {count} scans"
        raise must(path, key, wanted, f"shape {texts.shape}")
    return texts
