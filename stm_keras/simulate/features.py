"""What lies on the lattice: dangling bonds, adsorbates, vacancies, background hills.

After the scan is scaled to 255 levels, a tall feature leaves the lattice only a few of
them: no other effect matters so much for what a scan shows.

Every object is a separable Gaussian, drawn once by each mini-tip, so that a scan is the
product of a matrix (lines, objects) with a matrix (objects, pixels).
"""

from dataclasses import dataclass

import numpy as np

from stm_keras.simulate.config import chance, log_uniform

_MOST = 18  # features of one scan
_HILLS = 6
# tallest feature over the lattice's standard deviation, measured for each class
_HEIGHT = ((8, 60), (3, 45), (2.5, 45), (50, 400))
_MEAN_COUNT = np.array([2.0, 2.0, 1.5, 1.2])


@dataclass(frozen=True)
class Features:
    """Features of a chunk of scans; positions and widths in pixels."""

    tallest_pm: np.ndarray  # (scans,): height of the tallest, 0 without features
    height_pm: np.ndarray  # (scans, features): 0 where there is none; so are those below
    x: np.ndarray  # column of the centre
    y: np.ndarray  # line of the centre
    width: np.ndarray
    present: np.ndarray  # bool


def draw_features(rng, frame, states, lattice_pm, config):
    """Draw number, position, height and width of the features of each scan.

    `lattice_pm` is the standard deviation of each lattice, float array `(scans,)`: what a
    feature does to a picture depends on its height over that.
    """
    count = len(lattice_pm)
    many, large = (count, _MOST), frame.large[:, None]
    present = np.arange(_MOST) < _draw_number(rng, frame, states)[:, None]
    present &= config.has("features")

    low, high = np.moveaxis(np.array(_HEIGHT, float)[states.surface_class], -1, 0)
    tallest = np.where(
        states.is_kind("cluster"),
        log_uniform(rng, 18, 120, count),
        log_uniform(rng, low, high),
    )
    tallest = tallest * np.maximum(lattice_pm, 0.5)
    tallest = np.where(frame.large, np.maximum(tallest, 90), tallest)
    height = tallest[:, None] * rng.uniform(0.15, 1, many)
    height[:, 0] = tallest
    dark = chance(rng, np.where(large, 0.35, 0.2), many)
    height = np.where(dark, -0.45 * height, height)

    width_nm = log_uniform(rng, 0.24, 0.65, many)
    scale = np.where(frame.large, log_uniform(rng, 0.8, 2.2, count), 1)
    clustered = log_uniform(rng, 0.22, 0.75, many)
    is_cluster = states.is_kind("cluster")[:, None]
    width_nm = np.where(is_cluster, clustered, width_nm * scale[:, None])

    point = (~frame.large & chance(rng, 0.28, count))[:, None] & config.has("point_defects")
    height[:, 1:] = np.where(point, height[:, 1:] / 2, height[:, 1:])
    width_nm = np.where(point, rng.uniform(0.14, 0.26, many), width_nm)
    x, y = _draw_positions(rng, large, many)
    return Features(
        tallest_pm=np.where(present[:, 0], tallest, 0),
        height_pm=np.where(present, height, 0),
        x=x * config.size,
        y=y * config.size,
        width=width_nm / frame.pixel_nm[:, None],
        present=present,
    )


def add_features(heights, rng, features, frame, states, tips, lattice_pm, config):
    """Add the features to `heights`, whose lattice is not resolved on top of a tall one."""
    count, size = heights.shape[:2]
    many = features.x.shape
    index = np.arange(size, dtype=np.float32)
    stays = np.ones((*many, size), bool)  # (scans, features, lines)
    dragged = chance(rng, 0.12, many) & config.has("dragging")
    end = features.y + rng.normal(0, 0.3, many) * features.width
    stays[dragged] = index <= end[dragged][:, None]

    # a far mini-tip doubles tall objects, and most of all those of a generic scan
    reach = np.where(states.surface_class == 3, rng.uniform(1, 2.5, count), 1)
    offset = frame.to_pixels(tips.offset_nm[:, 0]) * reach[:, None, None]
    share = tips.weight[:, 0] / tips.weight[:, 0].sum(1, keepdims=True)
    oblong = rng.uniform(0.75, 1.33, many)
    left, right = [], []  # of (scans, objects, lines) and (scans, objects, pixels)

    def add(amount, x, width_x, y, width_y):
        left.append(_bump(index, y, width_y) * stays * amount.astype(np.float32)[..., None])
        right.append(_bump(index, x, width_x))

    for tip in range(share.shape[1]):
        add(
            features.height_pm * share[:, tip, None],
            features.x + offset[:, tip, None, 0],
            features.width * oblong,
            features.y + offset[:, tip, None, 1],
            features.width / oblong,
        )
    # a halo of the other sign beside some features
    shade = chance(rng, 0.5, many) * rng.uniform(0.15, 0.7, many) * config.has("shadows")
    width = features.width * np.sqrt(1.3)
    beside_x = features.x + rng.normal(0, 1.6, many) * features.width
    beside_y = features.y + rng.normal(0, 0.6, many) * features.width
    add(-shade * features.height_pm * share[:, :1], beside_x, width, beside_y, width)

    objects = _product(left, right)
    # a blunt object images the apex, not the lattice: above 4 lattice deviations it fades
    tall = objects / (4 * lattice_pm[:, None, None] + 1).astype(np.float32)
    heights /= 1 + 0.5 * tall * tall
    heights += objects


def add_background(heights, rng, states, frame, lattice_pm, config):
    """Add smooth hills and hollows to `heights`, wider than any feature."""
    count, size = heights.shape[:2]
    many = (count, _HILLS)
    index = np.arange(size, dtype=np.float32)
    width = log_uniform(rng, 0.5, 1.6, many) / np.minimum(frame.pixel_nm, 0.06)[:, None]
    atoms = states.surface_class == 0
    relative = np.where(
        atoms, log_uniform(rng, 0.15, 3, count), log_uniform(rng, 0.08, 2, count)
    )
    amount = rng.normal(0, 1, many) * (relative * np.maximum(lattice_pm, 0.5))[:, None]
    x, y = rng.uniform(-0.1, 1.1, (2, *many)) * size
    if not config.has("background"):
        return
    left = _bump(index, y, width) * amount.astype(np.float32)[..., None]
    heights += _product([left], [_bump(index, x, width)])


def _draw_number(rng, frame, states):
    count = len(frame.size_nm)
    number = rng.poisson(_MEAN_COUNT[states.surface_class])
    blob = chance(rng, 0.9, count)  # next to every scan with atoms has a bright one
    number = np.where(states.surface_class == 0, 1 + number * blob, number)
    many = rng.integers(6, _MOST, count)
    clustered = rng.integers(5, _MOST, count)
    number = np.where(frame.large, many, number)
    number = np.where(states.is_kind("cluster"), clustered, number)
    return np.where(states.is_kind("faint", "smear"), np.maximum(number, 1), number)


def _draw_positions(rng, large, many):
    """Draw x and y in widths of the scan; half lie at the rim: operators avoid tall ones."""
    x, y = rng.uniform(-0.08, 1.08, (2, *many))
    rim = chance(rng, 0.5, many) & ~large
    side = rng.integers(0, 4, many)
    depth = rng.normal(0, 0.06, many)
    edge = np.where(side % 2 == 0, depth, 1 - depth)
    return np.where(rim & (side < 2), edge, x), np.where(rim & (side >= 2), edge, y)


def _bump(index, centre, width):
    centre, width = centre.astype(np.float32), width.astype(np.float32)
    return np.exp(-0.5 * ((index - centre[..., None]) / width[..., None]) ** 2)


def _product(left, right):
    """Sum all objects: `(scans, lines, objects)` times `(scans, objects, pixels)`."""
    left, right = np.concatenate(left, 1), np.concatenate(right, 1)
    return left.transpose(0, 2, 1) @ right
