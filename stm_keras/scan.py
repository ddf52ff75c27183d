"""One image of a microscope, as it lay under the tip and as it was recorded."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np

ROW_NM = 0.768  # between dimer rows of H:Si(100): twice the surface lattice constant
NOTEBOOK_WIDTH = 256  # pixels of a picture in a notebook
ENOUGH = 0.5  # share of a line that must be recorded for its gaps to be bridged


@dataclass(frozen=True)
class Scan:
    """One channel of one scan, in one direction.

    Args:
        heights: float64 array of shape `(lines, pixels)`, in `unit`. Row 0 is the top
            of the frame and column 0 its left edge, for both directions.
        valid: bool array of the same shape. False where nothing was recorded.
        channel: "Z", "Current", or what the microscope's software calls it.
        unit: In SI: "m", "A", "V", "Hz"; "" where the file does not say.
        direction: "forward", "backward", or None where the file does not say.
        slow: "down" or "up", the direction of the slow axis, or None.
        size: (width, height) of the whole frame, in m, or None.
        bias: In V. None where the file does not say, as for those below.
        setpoint: In A.
        line_time: Of one line in this direction, in s.
        angle: Of the frame, in degrees.
        path: The file.
        index: Number of the scan in its file, from 0.
        format: Name of its reader.
        images: All images of the file, as `read_scan` takes them.
        channels: All channels of the file, each once.
        warnings: What a user should know.
        asked: Whether this image was asked for by its name.
        started: When the scan began, by the clock of the microscope.
        absolute: Whether heights are positions of the Z piezo, to be compared from scan to
            scan; False where they may have a level of their own.
    """

    heights: np.ndarray
    valid: np.ndarray
    channel: str = "Z"
    unit: str = "m"
    direction: str | None = None
    slow: str | None = None
    size: tuple[float, float] | None = None
    bias: float | None = None
    setpoint: float | None = None
    line_time: float | None = None
    angle: float | None = None
    path: str = ""
    index: int = 0
    format: str = ""
    images: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    asked: bool = False
    started: datetime | None = None
    absolute: bool = False

    @property
    def recorded(self) -> np.ndarray:
        """Rows of the frame in the order of acquisition: int array `(recorded lines,)`."""
        rows = np.flatnonzero(self.valid.any(1))
        return rows[::-1] if self.slow == "up" else rows

    @property
    def aspect(self) -> float:
        """How much longer a pixel is along the slow axis than along a line: float."""
        if self.size is None:
            return 1.0
        lines, pixels = self.heights.shape
        return (self.size[1] / lines) / (self.size[0] / pixels)

    def lines(self) -> np.ndarray:
        """Return the recorded lines in the order of acquisition.

        An up scan starts at the bottom. Where the file does not say the direction of the
        slow axis, it is taken as down.

        Returns:
            float64 array of shape `(recorded lines, pixels)`, NaN where nothing was recorded.
        """
        return np.where(self.valid, self.heights, np.nan)[self.recorded]

    def frame(self) -> np.ndarray:
        """Return the whole frame, gaps bridged as by `bridge_gaps`, else NaN."""
        return bridge_gaps(np.where(self.valid, self.heights, np.nan))

    def __repr__(self) -> str:
        lines, pixels = self.heights.shape
        known = [f"{lines} x {pixels}", f"{self.channel} in {self.unit or 'unknown units'}"]
        known += [self.direction] if self.direction else []
        if self.size is not None:
            width, height = (1e9 * length for length in self.size)
            known.append(f"{width:.4g} x {height:.4g} nm")
        known += [f"{self.bias:.3g} V"] if self.bias is not None else []
        missing = lines - len(self.recorded)
        known += [f"{missing} lines missing"] if missing else []
        return f"Scan({', '.join([*([repr(self.path)] if self.path else []), *known])})"

    def _repr_png_(self) -> bytes:  # a notebook shows it
        import io

        from PIL import Image

        from stm_keras import draw_scan

        frame = self.frame()
        picture = draw_scan(frame, len(frame), width=NOTEBOOK_WIDTH, aspect=self.aspect)
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "PNG")
        return png.getvalue()


def middle(values: np.ndarray) -> float:
    """Return the median of finite values. That of numpy imports `numpy.ma`, 20 ms of a start."""
    ordered = np.sort(values, axis=None)
    return (ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2


def bridge_gaps(lines: np.ndarray) -> np.ndarray:
    """Interpolate gaps along lines `(lines, pixels)` of which at least half is recorded.

    Gaps are NaN; a line of which less is recorded becomes all NaN. float64 is returned.
    """
    lines = np.array(lines, np.float64)
    recorded = np.isfinite(lines)
    share = recorded.mean(1)
    lines[share < ENOUGH] = np.nan
    pixels = np.arange(lines.shape[1])
    for row in np.flatnonzero((share >= ENOUGH) & (share < 1)):
        known = recorded[row]
        lines[row] = np.interp(pixels, pixels[known], lines[row, known])
    return lines


def scan_hash(lines: np.ndarray) -> str:
    """Return what names a scan in records: a SHA-256 of its heights.

    Args:
        lines: real array of shape `(lines, pixels)`, as recorded, in the order of acquisition,
            NaN where nothing was recorded; of a `Scan`, `scan.lines()`.
    """
    heights = np.ascontiguousarray(lines, "<f8") + 0.0  # there are two zeros, and many NaN
    heights[np.isnan(heights)] = np.nan
    head = "{} x {}\n".format(*heights.shape).encode()
    return hashlib.sha256(head + heights.tobytes()).hexdigest()
