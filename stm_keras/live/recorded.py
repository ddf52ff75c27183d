"""Scans that were recorded before, from any file that `predict` reads, as events of a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stm_keras.data.preprocess import recorded_lines
from stm_keras.errors import ScanError
from stm_keras.inference.inputs import check_scan, read_dataset, read_heights
from stm_keras.inference.scan_chain import seconds
from stm_keras.inference.scan_input import why_not_judged
from stm_keras.live.events import (
    BACKWARD,
    COMPLETE,
    FORWARD,
    STOPPED,
    UP,
    Frame,
    Line,
    ScanBegan,
    ScanEnded,
)
from stm_keras.memory import SCANS, one_file
from stm_keras.readers import CURE, each_scan
from stm_keras.readers.formats import scan_format
from stm_keras.scan import Scan

SHAPE = {"pixels": 128, "max_lines": 128}  # of scans in a dataset that does not tell


@dataclass(frozen=True)
class RecordedScan:
    """A scan whose lines are all there.

    Args:
        scan: `Scan`.
        backward: `Scan`. What was recorded on the way back, or None.
        name: str. As in `ScanBegan`.
    """

    scan: Scan
    backward: Scan | None = None
    name: str = ""

    @property
    def frame(self) -> Frame:
        """How it was recorded."""
        scan = self.scan
        lines, pixels = scan.heights.shape
        return Frame(
            pixels=pixels,
            lines=lines,
            channel=scan.channel,
            unit=scan.unit,
            size=scan.size,
            angle=scan.angle,
            slow=scan.slow,
            line_time=scan.line_time,
            bias=scan.bias,
            setpoint=scan.setpoint,
            absolute=scan.absolute,
        )

    def began(self, finished: bool = False, quiet: bool = False) -> ScanBegan:
        """Return its first event; `finished` and `quiet` are as there."""
        return ScanBegan(self.frame, self.name, finished, quiet, seconds(self.scan.started))

    def lines(self, t_end: float = 0.0) -> Iterator[Line]:
        """Yield its lines in the order of acquisition, each forward one before its backward one."""
        images = [(FORWARD, self.scan)] if self.scan.direction != BACKWARD else []
        other = self.backward if images else self.scan
        images += [] if other is None else [(BACKWARD, other)]
        rows = [image.recorded for _, image in images]
        turn = -1 if self.scan.slow == UP else 1
        order = sorted(
            (turn * row, way, number)
            for way, recorded in enumerate(rows)
            for number, row in enumerate(recorded.tolist())
        )
        heights = [image.lines() for _, image in images]
        for _, way, number in order:
            row = int(rows[way][number])
            yield Line(number, row, images[way][0], heights[way][number], t_end)

    def ended(self) -> ScanEnded:
        """Return its last event: it is complete if its last line was recorded."""
        last = 0 if self.scan.slow == UP else len(self.scan.heights) - 1
        reason = COMPLETE if self.scan.valid[last].any() else STOPPED
        return ScanEnded(reason, self.scan.path or None)


def recorded_scans(
    path: Path, channel: str | None = None
) -> Iterator[RecordedScan | ScanError]:
    """Read the scans of a file one after the other, as `predict` does.

    Args:
        path: `Path`. The file of a microscope, an array, a picture or a dataset.
        channel: str. As `read_scan` takes it.

    Yields:
        `RecordedScan`; of a file with several scans the `ScanError` of one that cannot be
        judged comes instead.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
    """
    with one_file(path, CURE, ScanError, SCANS) as account:
        heights = read_heights(path)
    if heights is not None:
        yield from _of_arrays(path, heights, account)
    elif scan_format(path):
        yield from _of_microscope(path, channel)
    else:
        yield from _of_dataset(path)


def _of_microscope(path, channel):
    backward = {}  # label of an image to what gives that of each scan
    for scan in each_scan(path, channel)[1]:
        error = scan if isinstance(scan, ScanError) else why_not_judged(path, scan)
        if error is not None:
            yield error
            continue
        label = " ".join(filter(None, (scan.channel, BACKWARD, scan.slow)))
        other = None
        if scan.direction == FORWARD and label in scan.images:
            if label not in backward:
                backward[label] = _InStep(each_scan(path, label)[1])
            other = backward[label].of(scan)
        yield RecordedScan(scan, other, _name(path, scan.index))


class _InStep:
    """Other images of scans that are read one after the other."""

    def __init__(self, scans):
        self._scans, self._latest = scans, None

    def of(self, scan):
        """Return the image of a scan, or None where it cannot be taken."""
        while self._latest is None or self._latest.index < scan.index:
            each = next(self._scans, None)
            if each is None:
                return None
            if isinstance(each, Scan):
                self._latest = each
        same = self._latest.index == scan.index
        return (
            self._latest
            if same and self._latest.heights.shape == scan.heights.shape
            else None
        )


def _of_arrays(path, heights, account):
    for index in range(len(heights)):
        with account:
            try:
                check_scan(path, index, heights[index])
            except ScanError as error:
                if len(heights) == 1:
                    raise
                yield error
                continue
            image = np.asarray(heights[index], np.float64)
        # pixels are square, so a picture that is wider than high ended early
        yield _of_heights(path, index, image, max(image.shape))


def _of_dataset(path):
    images, lines, _ = read_dataset(path, SHAPE, streamed=True)
    for index, count in enumerate(lines.tolist()):
        image = np.asarray(images[index], np.float64)
        try:
            check_scan(path, index, image[:count])
        except ScanError as error:
            yield error
            continue
        yield _of_heights(path, index, image[:count], len(image))


def _of_heights(path, index, recorded, planned):
    """Make a `RecordedScan` of heights that nobody says more of."""
    count = max(recorded_lines(np.where(np.isfinite(recorded), recorded, 0)[None])[0], 1)
    heights = np.full((planned, recorded.shape[1]), np.nan)
    heights[:count] = recorded[:count]
    valid = np.isfinite(heights)
    scan = Scan(heights, valid, unit="", path=str(path), index=index)
    return RecordedScan(scan, name=_name(path, index))


def _name(path, index):
    return path.name + (f" [{index}]" if index else "")
