"""Which arrays of a file are frames of scans: of one scan, of many, or of none.

An array names neither its axes nor what it holds. What its shape leaves open is refused, with
the way to say it: a guess would judge one scan of many, or a table of colours.
"""

import re
from dataclasses import replace

import numpy as np

from stm_keras.errors import NoImageError, UnclearError
from stm_keras.readers.units import CHANNELS, channel_of

FEWEST = 16  # lines and pixels of a frame: tables, curves and lines of spectra have fewer
TALL = 2  # times as many lines as pixels are several scans, one below the other
COLOURS = (3, 4)
DATASET = {"images", "x_raw", "labels", "votes"}  # names that datasets have, scans do not
OTHER_UNITS = (  # of axes that are not lengths
    "eV meV keV V mV deg degree degrees rad s ms Hz kHz 1/angstrom Å^-1".lower().split()
)
OTHER_AXES = ("energy", "angle", "theta", "phi", "kx", "ky", "bias", "voltage", "time")
OTHER_AXES += ("frequency", "wavelength")  # where they name no unit
SHAPES = "(lines, pixels) or (scans, lines, pixels)"
ORDER = "Give it as (scans, lines, pixels)"


def is_dataset(names: set) -> bool:
    """Tell whether a file whose arrays have these names is a dataset, not a file of scans."""
    return bool(names & DATASET)


def as_frames(
    path: object, key: str, array: np.ndarray, matlab: bool = False
) -> np.ndarray:
    """Look at an array of any shape as scans: a view of shape `(scans, lines, pixels)`.

    `array` may be anything that has `shape`, `reshape` and `transpose`. Takes and raises what
    `frame_axes` does.
    """
    axes = frame_axes(path, key, array.shape, matlab)
    return array[None] if array.ndim == 2 else array.transpose(axes)


def frame_axes(path: object, key: str, shape: tuple, matlab: bool = False) -> tuple:
    """Tell which axes of an array are scans, lines and pixels.

    Args:
        key: str. Name of the array, named in errors; "" where it has none.
        matlab: bool. Whether it is as MATLAB shows it: scans may lie along the last axis.

    Returns:
        tuple of int: axes in the order (scans, lines, pixels), or (lines, pixels).

    Raises:
        NoImageError: It has no frame: too few lines or pixels, or another number of axes.
        UnclearError: It does not say where one scan ends and the next begins.
    """
    name = f"{path}: `{key}`" if key else f"{path}:"
    received = f"Received: shape {tuple(map(int, shape))}."
    if len(shape) == 4 and shape[-1] == 1:
        raise UnclearError(f"{name} has an axis too many. Drop the last one. {received}")
    if len(shape) not in (2, 3) or 0 in shape:
        raise NoImageError(f"{name} needs numbers of shape {SHAPES}. {received}")
    colours = len(shape) == 3 and min(shape[:2]) >= FEWEST and shape[2] in COLOURS
    if colours and key != "images":  # which are scans, also three or four of them
        raise UnclearError(
            f"{name} is either a picture in colour or has its scans along the last axis. "
            f"{ORDER}, or a picture in grey. {received}"
        )
    axes = tuple(range(len(shape)))
    if len(shape) == 3:
        axes = _stack_axes(name, shape, matlab, received)
    lines, pixels = (shape[axis] for axis in axes[-2:])
    if min(lines, pixels) < FEWEST:
        raise NoImageError(
            f"{name} is not the frame of a scan: {lines} lines of {pixels} pixels. It needs "
            f"numbers of shape {SHAPES}, at least {FEWEST} lines of {FEWEST} pixels. {received}"
        )
    if len(shape) == 3 and lines > pixels:
        raise UnclearError(
            f"{name} is {shape[axes[0]]} scans that are higher than wide, or its axes are in "
            f"another order. {ORDER}: lines run along the last axis. {received}"
        )
    return axes


def _stack_axes(name, shape, matlab, received):
    """Choose the axis of the scans: frames are square, or the scans come first."""
    first, last = shape[1] == shape[2], shape[0] == shape[1]
    if matlab and last and not first:
        return 2, 0, 1
    if matlab and first == last:
        raise UnclearError(
            f"{name} does not say which axis counts the scans. Save scans of as many lines as "
            f"pixels, such as 128 x 128 x scans, or as `images` in HDF5. {received}"
        )
    if last and not first:
        raise UnclearError(
            f"{name} seems to have its scans along the last axis. {ORDER}: "
            f"numpy.moveaxis(array, -1, 0). {received}"
        )
    if shape[2] < FEWEST <= min(shape[:2]):
        raise UnclearError(
            f"{name} has lines of {shape[2]} pixels, or its scans along the last axis. {ORDER}. "
            f"{received}"
        )
    return 0, 1, 2


def other_than_length(axis: str | None, unit: str) -> str | None:
    """Say what an axis is if not a length: "in eV", or "`energy`" without a unit; else None.

    `axis` is its name, None where the file gives none.
    """
    if unit.lower() in OTHER_UNITS:
        return f"in {unit}"
    name = (axis or "").lower()
    return f"`{name}`" if not unit and name in OTHER_AXES else None


def is_tall(lines: int, pixels: int, size: tuple | None) -> bool:
    """Tell whether a frame of no known size may be several scans, one below the other."""
    return size is None and lines >= TALL * pixels


def number_scans(arrays: dict) -> tuple:
    """Tell which images of a file are channels of one scan, and which are several scans.

    Names of channels make one scan of several arrays; numbers in their names, or folders
    within the file, make several.

    `arrays` is a dict of names of arrays to lists of `Image`, one for each scan in them.
    Returns a tuple of `Image` with their `index`, and why no image may be taken unless the
    user names one, "" where it is clear.
    """
    if len(arrays) == 1 or _is_one_scan(arrays):
        return _indexed(arrays, dict.fromkeys(arrays, 0)), ""
    single = all(len(images) == 1 for images in arrays.values())
    for key, renamed in ((_numbers, _without_numbers(arrays)), (_folder, arrays)):
        scans = {}
        for name, images in renamed.items():
            scans.setdefault(key(name), {})[name] = images
        if None in scans or len(scans) < 2 or not single:
            continue
        if all(len(group) == 1 or _is_one_scan(group) for group in scans.values()):
            order = sorted(scans)
            starts = {n: order.index(k) for k, group in scans.items() for n in group}
            return _indexed(renamed, starts), ""
    starts, end = {}, 0
    for name, images in arrays.items():
        starts[name] = end
        end += len(images)
    shown = []
    for images in arrays.values():
        shape = images[0].heights.shape
        shape = shape if len(images) == 1 else (len(images), *shape)
        shown.append(f"{images[0].label!r} {shape}")
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return _indexed(arrays, starts), (
        f"holds several arrays that may be scans: {', '.join(shown[:8])}{more}. Put all scans "
        "into one array `images` of shape (scans, lines, pixels), or say which array is meant "
        "with --channel"
    )


def _indexed(arrays, starts):
    return tuple(
        replace(image, index=starts[name] + number)
        for name, images in arrays.items()
        for number, image in enumerate(images)
    )


def _is_one_scan(arrays):
    """Tell whether arrays are channels of the same scan or scans, by their names."""
    labels = {images[0].label for images in arrays.values()}
    known = any(images[0].channel in CHANNELS for images in arrays.values())
    counts = {len(images) for images in arrays.values()}
    return known and len(labels) == len(arrays) and len(counts) == 1


def _numbers(name):
    """Return the numbers in a name, None where it has none."""
    return tuple(int(digits) for digits in re.findall(r"\d+", name)) or None


def _without_numbers(arrays):
    """Name channels by what is left of a name without its numbers: "Z_forward_3" is Z."""
    renamed = {}
    for name, images in arrays.items():
        title = re.sub(r"[\s_-]*\d+", "", name.rpartition("/")[2])
        channel, direction, slow = channel_of(title)
        if channel in CHANNELS:
            own = {"channel": channel, "direction": direction}
            own["slow"] = slow or images[0].slow
            images = [replace(image, **own) for image in images]
        renamed[name] = images
    return renamed


def _folder(name):
    folder, _, title = name.rpartition("/")
    return folder if folder and channel_of(title)[0] in CHANNELS else None
