"""One image of a microscope, as it lay under the tip and as it was recorded."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

ENOUGH = 0.5  # share of a line that must be there for the gaps to be bridged


@dataclass(frozen=True)
class Scan:
    """One channel of one scan, in one direction.

    Args:
        heights: float64 array of shape `(lines, pixels)`, in `unit`. Row 0 is the top
            of the frame and column 0 its left edge, for both directions.
        valid: bool array of the same shape. False where the tip never was.
        channel: str. "Z", "Current", or what the microscope's software calls it.
        unit: str. SI: "m", "A", "V", "Hz"; "" where the file does not say.
        direction: "forward", "backward", or None where the file does not say.
        slow: "down" or "up", the way the slow axis ran, or None.
        size: tuple (width, height) in m of the whole frame, or None.
        bias: float, V. None where the file does not say, as for those below.
        setpoint: float, A.
        line_time: float, s. Of one line in this direction.
        angle: float, degrees.
        path: str. The file.
        index: int. Number of the scan in its file.
        format: str. Name of its reader.
        images: tuple of str. All images of the file, as `read` takes them.
        channels: tuple of str. All channels of the file, each once.
        warnings: tuple of str. What a user should know.
        started: datetime. When the scan began, by the clock of the microscope.
    """

    heights: np.ndarray
    valid: np.ndarray
    channel: str = "Z"
    unit: str = "m"
    direction: str | None = None
    slow: str | None = None
    size: tuple | None = None
    bias: float | None = None
    setpoint: float | None = None
    line_time: float | None = None
    angle: float | None = None
    path: str = ""
    index: int = 0
    format: str = ""
    images: tuple = ()
    channels: tuple = ()
    warnings: tuple = ()
    started: datetime | None = None

    @property
    def recorded(self):
        """Rows of the frame in the order of acquisition: int array `(recorded lines,)`."""
        rows = np.flatnonzero(self.valid.any(1))
        return rows[::-1] if self.slow == "up" else rows

    @property
    def aspect(self):
        """How much longer a pixel is along the slow axis than along a line: float."""
        if self.size is None:
            return 1.0
        lines, pixels = self.heights.shape
        return (self.size[1] / lines) / (self.size[0] / pixels)

    def lines(self):
        """Return the recorded lines in the order of acquisition.

        An up scan starts at the bottom. Where the file does not tell the way of the slow
        axis, it is taken as down.

        Returns:
            float64 array of shape `(recorded lines, pixels)`, NaN where the tip was not.
        """
        return np.where(self.valid, self.heights, np.nan)[self.recorded]

    def frame(self):
        """Return the whole frame, gaps bridged as by `bridge_gaps`, else NaN."""
        return bridge_gaps(np.where(self.valid, self.heights, np.nan))


def bridge_gaps(lines):
    """Fill gaps in lines of which at least half is there, along the line.

    Args:
        lines: float array of shape `(lines, pixels)`, NaN in gaps.

    Returns:
        float64 array of the same shape. A line of which less is there is all NaN.
    """
    lines = np.array(lines, np.float64)
    there = np.isfinite(lines)
    share = there.mean(1)
    lines[share < ENOUGH] = np.nan
    pixels = np.arange(lines.shape[1])
    for row in np.flatnonzero((share >= ENOUGH) & (share < 1)):
        known = there[row]
        lines[row] = np.interp(pixels, pixels[known], lines[row, known])
    return lines
