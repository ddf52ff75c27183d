"""What a reader finds in a scan file, and the one image of it that is meant."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from stm_keras.errors import ScanError, UnclearError
from stm_keras.memory import borrow
from stm_keras.readers.file_bytes import check_shape
from stm_keras.readers.units import believable, channel_of, check_heights
from stm_keras.scan import Scan, middle

WAYS = ("forward", "backward", "down", "up")
SAMPLE = 64  # lines that tell whether an image is flat
FLAT = 1e-13  # m: below, heights are those of a scan at constant height
ROUNDING = 1e-12  # of the largest height
FEW = 10  # lines and pixels: below, an array is more likely a set of curves
WIDE = 5e-6  # m: above, a frame is not that of a scan of atoms
WORK = 64  # bytes of memory for a pixel, while a scan is read and judged


@dataclass(frozen=True)
class Image:
    """One image of a file; what is not explained here is as in `Scan`."""

    # array or `Later` of shape (lines, pixels), as stored; row 0 is the top, column 0 the
    # left. Of many images one is taken, and only that is converted
    heights: np.ndarray
    channel: str = "Z"
    unit: str = "m"
    direction: str | None = None
    slow: str | None = None
    valid: np.ndarray | None = None  # None: where heights are finite
    line_time: float | None = None
    size: tuple | None = None  # this and the next four: None where `ScanFile` has it
    bias: float | None = None
    setpoint: float | None = None
    angle: float | None = None
    started: datetime | None = None
    index: int = 0  # number of the scan in a file that holds several
    copy: int = 1  # from 2 on where earlier images of the scan are called the same
    factor: float = 1.0  # stored numbers times it plus `offset` are in `unit`
    offset: float = 0.0

    @property
    def name(self) -> str:
        """The channel, numbered where the file calls others the same: "Z", "Z (2)"."""
        return self.channel if self.copy == 1 else f"{self.channel} ({self.copy})"

    @property
    def label(self) -> str:
        """The name by which `read_scan` knows this image, such as "Z backward up"."""
        words = [self.name, self.direction, self.slow]
        return " ".join(word for word in words if word)

    def recorded(self) -> np.ndarray:
        """Tell which pixels were recorded: bool array of the shape of the heights."""
        finite = np.isfinite(np.asarray(self.heights))
        return finite if self.valid is None else finite & self.valid

    def values(self, rows: object = slice(None)) -> np.ndarray:
        """Return heights in `unit`: a float64 array of its own, of some rows or of all."""
        with np.errstate(all="ignore"):
            values = np.array(np.asarray(self.heights)[rows], np.float64, order="C")
            if self.factor != 1.0:
                values *= self.factor
            if self.offset:
                values += self.offset
        return values

    @property
    def pixels(self) -> int:
        """Number of pixels of the frame."""
        return math.prod(self.heights.shape)

    @property
    def extent(self) -> str:
        """Lines and pixels in words."""
        return "a scan of {} x {} pixels".format(*self.heights.shape)


@dataclass(frozen=True)
class ScanFile:
    """All that a scan file holds; what is not explained here is as in `Scan`."""

    images: tuple
    format: str = ""  # "" for the name in the table of formats
    size: tuple | None = None  # this and the next three: of images without their own
    bias: float | None = None
    setpoint: float | None = None
    angle: float | None = None
    feedback: bool | None = None  # whether the tip followed the surface, if the file says
    warnings: tuple = ()
    doubt: str = ""  # why no image may be taken unless the user names one
    started: datetime | None = None
    absolute: bool = False  # of its "Z" in metres


def choose_each(
    path: str | Path, scan_file: ScanFile, channel: str | None = None
) -> Iterator[Scan | ScanError]:
    """Take one image of each scan of a file, one after the other, as `choose` does.

    Yields:
        `Scan`, one for each `index` in their order; where a scan has no such image, or nothing
        of it was recorded, the `ScanError` that says so.

    Raises:
        ScanError: The file holds no image, or none of its scans can be taken.
    """
    if scan_file.doubt and channel is not None:  # the other arrays are not meant
        label = _named(path, scan_file.images, channel).label
        images = tuple(image for image in scan_file.images if image.label == label)
        scan_file = replace(scan_file, images=images)
    groups, errors = {}, []
    for image in scan_file.images:
        groups.setdefault(image.index, []).append(image)
    for index in sorted(groups) or [0]:
        one_scan = replace(scan_file, images=tuple(groups.get(index, ())))
        try:
            scan = replace(choose(path, one_scan, channel), index=index)
        except ScanError as error:
            scan = error
        if isinstance(scan, ScanError) and errors is not None:
            errors.append(scan)  # until one of the scans can be taken
            continue
        yield from errors or ()
        errors = None
        yield scan
    if errors:
        raise errors[0]


def choose(path: str | Path, scan_file: ScanFile, channel: str | None = None) -> Scan:
    """Take one image of a file, of its first scan that has one.

    `channel` is a channel with or without its ways, such as "Current" or "Z backward up"; of
    several that fit, the forward and first one is taken. None is the topography, or, where
    that is flat because the tip was kept at one height, the current.
    """
    if not scan_file.images:
        raise ScanError(f"{path}: holds no image. Give a scan file.")
    if scan_file.doubt and channel is None:
        raise UnclearError(f"{path}: {scan_file.doubt}.")
    scan_file = replace(scan_file, images=distinct(scan_file.images))
    warnings = list(scan_file.warnings)
    if channel is None:
        image, remark = _preferred(scan_file)
        warnings += [remark] if remark else []
    else:
        image = _named(path, scan_file.images, channel)
    check_shape(path, *image.heights.shape)
    with borrow(image.pixels * WORK, image.extent):
        scan = _scan(path, scan_file, image, warnings)
    return replace(scan, asked=channel is not None)


def _scan(path, scan_file, image, warnings):
    heights = image.values()
    valid = np.isfinite(heights)
    if image.valid is not None:
        valid &= image.valid
    if not valid.any():
        raise ScanError(
            f"{path}: no line of {image.label} was recorded: the scan was stopped before "
            "its first line, or never begun. Give another file or channel."
        )
    scans = len({other.index for other in scan_file.images})
    if scans > 1:
        warnings.append(
            f"the file holds {scans} scans, and this is one: read_scans gives all"
        )
    if image.slow is None:
        warnings.append(
            "the file does not say whether it was scanned downwards or upwards; lines are "
            "taken from the top"
        )
    size, bias, setpoint, angle, started = (
        getattr(scan_file if getattr(image, name) is None else image, name)
        for name in ("size", "bias", "setpoint", "angle", "started")
    )
    metadata, notes = believable(
        size=size, bias=bias, setpoint=setpoint, line_time=image.line_time, angle=angle
    )
    check_heights(path, image.label, heights[valid], image.unit)
    same_scan = [other for other in scan_file.images if other.index == image.index]
    warnings += notes + _oddities(image, metadata["size"])
    return Scan(
        heights=heights,
        valid=valid,
        channel=image.name,
        unit=image.unit,
        direction=image.direction,
        slow=image.slow,
        **metadata,
        path=str(path),
        index=image.index,
        format=scan_file.format,
        images=tuple(other.label for other in same_scan),
        channels=tuple(dict.fromkeys(other.name for other in same_scan)),
        warnings=tuple(warnings),
        started=started,
        absolute=scan_file.absolute and (image.name, image.unit) == ("Z", "m"),
    )


def distinct(images: tuple) -> tuple:
    """Number images of one scan that a file calls the same, so that each has its own label."""
    taken, numbered = set(), []
    for image in images:
        while (image.index, image.label.lower()) in taken:
            image = replace(image, copy=image.copy + 1)
        taken.add((image.index, image.label.lower()))
        numbered.append(image)
    return tuple(numbered)


def _oddities(image, size):
    """Return what makes an image unlike a scan of a surface by its tip: list of str."""
    lines, pixels = image.heights.shape
    odd = []
    if min(lines, pixels) < FEW:
        odd.append(
            f"{lines} lines of {pixels} pixels are hardly a frame; they may be curves"
        )
    if size and max(size) > WIDE:
        width, height = (f"{value * 1e6:.3g}" for value in size)
        odd.append(
            f"the frame is {width} x {height} \N{MICRO SIGN}m wide, too large to show atoms: "
            "it may be from another microscope"
        )
    if image.unit not in ("m", "A", ""):
        odd.append(
            f"{image.label} is in {image.unit}: neither heights nor a tunnelling current"
        )
    return odd


def zero_filled(heights: np.ndarray) -> np.ndarray:
    """Tell which pixels were recorded where a program fills up with zeros.

    Only lines of nothing but exact zeros were not. Takes and returns an array of shape
    `(lines, pixels)`.
    """
    heights = np.asarray(heights)
    return np.broadcast_to((heights != 0).any(1)[:, None], heights.shape)


def _preferred(scan_file):
    """Return the image to take, and why if it is not the topography."""
    images = sorted(scan_file.images, key=_rank)
    topography = [image for image in images if image.channel == "Z"]
    topography = topography or [  # heights by another name: "Height Sensor", "ZSensor"
        image
        for image in images
        if image.unit == "m" and not re.search("error|amplitude", image.channel, re.I)
    ]
    if not topography:
        best = _other(images) or images[0]
        return best, f"there is no topography; {best.label} is taken"
    first, reason = topography[0], None
    if scan_file.feedback is False:
        reason = "the feedback was off (constant height)"
    elif not first.recorded().any():
        reason = "no line of the topography was recorded"
    elif not _varies(first):
        reason = "the topography is flat (constant height)"
    other = reason and _other(images)
    if not other:
        recorded = [image for image in topography if image.recorded().any()]
        return (recorded or topography)[0], None
    return other, f"{reason}; {other.label} is taken"


def _other(images):
    """Return the first image of another channel that shows something, Current before all."""
    others = [image for image in images if image.channel != "Z"]
    others.sort(key=lambda image: image.channel != "Current")
    return next(filter(_varies, others), None)


def _named(path, images, channel):
    """Return the first image of this label, else of this channel and these ways.

    What no image is called may be a title as the microscope writes it: "Topography",
    "[P1]_Z".
    """
    words = channel.split()
    ways = {word.lower() for word in words if word.lower() in WAYS}
    name = " ".join(word for word in words if word.lower() not in WAYS)
    title, *title_ways = channel_of(re.sub("^p1 ", "", channel, flags=re.I))
    ordered = sorted(images, key=_rank)
    matches = [image for image in ordered if image.label.lower() == channel.lower()]
    for wanted, needed in ((name, ways), (title, set(title_ways) - {None})):
        matches = matches or [
            image
            for image in ordered
            if wanted.lower() in ("", image.name.lower())
            and needed <= {image.direction, image.slow}
        ]
    if not matches:
        raise ScanError(
            f"{path}: no channel {channel!r}. Channels: "
            f"{', '.join(image.label for image in images)}."
        )
    return matches[0]


def _rank(image):
    """Forward first, backward last; sorting keeps the order of the file otherwise."""
    return ("forward", None, "backward").index(image.direction)


def _varies(image):
    """Tell whether recorded lines, some of all, hold more than a straight line each."""
    with borrow(image.pixels * WORK, image.extent):
        rows = np.flatnonzero(image.recorded().all(1))
        lines = image.values(rows[:: -(-len(rows) // SAMPLE) or 1])
        largest = np.abs(lines).max(initial=0.0)
        if not largest:
            return False
        if not np.isfinite(largest):
            return True  # taking it says so
        lines = levelled(lines / largest)  # so that no square can overflow
        least = FLAT / largest if image.unit == "m" else 0.0
        return bool(middle(lines.std(1)) > max(least, ROUNDING))


def levelled(lines: np.ndarray) -> np.ndarray:
    """Take the mean and the slope out of each line of an array `(lines, pixels)`."""
    lines = lines - lines.mean(1, keepdims=True)
    ramp = np.linspace(-1, 1, lines.shape[1])
    return lines - (lines @ ramp / (ramp @ ramp))[:, None] * ramp
