"""Where each pixel of a scan lies on the surface: size, angle, drift, creep, jitter.

A lattice coordinate is a column part plus a line part. Everything that the scanner gets
wrong (creep, hysteresis, jitter) bends one of the two, and the lattice stays a product.
"""

from dataclasses import dataclass

import numpy as np

from stm_keras.scan import ROW_NM
from stm_keras.simulate.config import chance, log_uniform

DIMER_NM = ROW_NM / 2  # between dimers along a row


@dataclass(frozen=True)
class Frame:
    """Geometry of a chunk of scans."""

    size_nm: np.ndarray  # (scans,): width, and height, of the scan
    pixel_nm: np.ndarray  # (scans,)
    angle_deg: np.ndarray  # (scans,): from the fast axis to the rows' normal
    rotation: np.ndarray  # (scans, 2, 2): image axes to lattice axes
    # (scans, 2, 2): lattice periods (row, dimer) for one pixel along the fast and slow axis,
    # the frequencies of the lattice
    per_pixel: np.ndarray
    columns: np.ndarray  # (scans, 2, pixels): column part, in lattice periods
    lines: np.ndarray  # (scans, 2, lines): line part, in lattice periods

    @property
    def large(self):
        """Scans that show an overview: bool array `(scans,)`."""
        return self.size_nm > 8

    def to_pixels(self, offsets_nm):
        """Turn offsets along lattice axes, `(scans, offsets, 2)`, into pixels (fast, slow)."""
        return offsets_nm @ self.rotation / self.pixel_nm[:, None, None]


def draw_frame(rng, count, config):
    """Draw the geometry of `count` scans; return a `Frame`."""
    size_nm = _draw_size(rng, count, config)
    pixel_nm = size_nm / config.size
    angle_deg = rng.uniform(*config.angle_deg, count)
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    rotation = np.stack([[cosine, sine], [-sine, cosine]]).transpose(2, 0, 1)
    # lattice periods for one pixel: turn and shear the image axes, then divide by the periods
    shear = rng.normal(0, 1, (count, 2, 2)) * config.shear * config.has("shear")
    period = np.array([ROW_NM, DIMER_NM])[:, None]
    per_pixel = rotation @ (np.eye(2) + shear) * pixel_nm[:, None, None] / period

    column, across, along = _draw_scanner(rng, count, config)
    origin = rng.uniform(0, 1, (count, 2, 1)) * 50
    # (scans, 2, lines): both image axes move a line, the fast one only a column
    line = per_pixel[:, :, :1] * across[:, None] + per_pixel[:, :, 1:] * along[:, None]
    return Frame(
        size_nm=size_nm,
        pixel_nm=pixel_nm,
        angle_deg=angle_deg,
        rotation=rotation,
        per_pixel=per_pixel,
        columns=per_pixel[:, :, :1] * column[:, None],
        lines=line + origin,
    )


def _draw_size(rng, count, config):
    kind = rng.random(count)
    small = rng.uniform(*config.small_nm, count)
    medium = rng.uniform(*config.medium_nm, count)
    large = log_uniform(rng, *config.large_nm, count)
    is_medium, is_large = kind < config.p_medium, kind >= 1 - config.p_large
    return np.where(is_medium, medium, np.where(is_large, large, small))


def _draw_scanner(rng, count, config):
    """Return where the scanner really is, in pixels: float arrays `(scans, pixels)`.

    They are the fast-axis position of each column, and the offset of each line's start
    along the fast and its position along the slow axis.
    """
    size, scale = config.size, config.size / 128
    index = np.broadcast_to(np.arange(size), (count, size))
    creeps = chance(rng, config.p_creep, count) & config.has("creep")
    distance = np.where(creeps, rng.normal(0, 7, (2, count)), 0) * scale
    # creep dies out over the first lines; hysteresis bows the fast axis by a parabola
    decay = np.exp(-index / (log_uniform(rng, 4, 60, count) * scale)[:, None])
    creep_across, creep_along = distance[:, :, None] * decay
    bow = rng.normal(0, 0.012, count)[:, None] * config.has("creep")
    position = index / size
    column = index + bow * 4 * position * (1 - position) * size
    amount = log_uniform(rng, 0.04, 0.6, count)[:, None] * scale * config.has("jitter")
    across = creep_across + amount * rng.normal(0, 1, (count, size))
    return column, across, index + creep_along
