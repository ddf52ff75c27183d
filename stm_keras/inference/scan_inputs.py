"""Everything in a file that is to be judged: as it was recorded, and as a model takes it."""

import warnings
from dataclasses import dataclass, field

import numpy as np

from stm_keras.data.preprocess import recorded_lines
from stm_keras.errors import NoImageError, ScanError
from stm_keras.inference.inputs import (
    check_scan,
    fit_array,
    read_dataset,
    read_heights,
    recorded,
)
from stm_keras.inference.predictor import check_size
from stm_keras.inference.resample import cut_tiles, fit_lines
from stm_keras.inference.sizes import NANO, ROW_NM, taught_sizes, too_coarse, widest_nm
from stm_keras.memory import SCANS, borrow, one_file
from stm_keras.readers import CURE, each_scan
from stm_keras.readers.formats import scan_format
from stm_keras.readers.info import image_name
from stm_keras.readers.scan_file import FEW, WORK
from stm_keras.scan import Scan, bridge_gaps

UNITS = ("m", "A", "")  # of what is judged without being asked for by its name


@dataclass(frozen=True)
class Candidate:
    """A scan to judge.

    Args:
        path: `Path`.
        index: int. Number of the scan in its file.
        heights: float array of shape `(lines, pixels)` in the model's pixels.
        bounds: int array of shape `(lines that are there + 1,)`. Line of the scan at which
            each of these begins, and at which the last ends.
        lines: float array of shape `(lines, pixels)`. The scan as it was recorded, lines
            in the order of acquisition; NaN where it was not.
        planned: int. Lines that the complete scan has.
        wanted: int. Lines of the model that the complete scan has.
        scan: `Scan` of a microscope's file, else None.
        tiles: list of `Tile`.
        remarks: tuple of str. What a user should know of it, in few words.
    """

    path: object
    index: int
    heights: np.ndarray
    bounds: np.ndarray
    lines: np.ndarray
    planned: int
    wanted: int
    scan: Scan | None = None
    tiles: list = field(default_factory=list)
    remarks: tuple = ()

    @property
    def size(self) -> tuple | None:
        """Width and height of the frame in m, None where nobody says."""
        return None if self.scan is None else self.scan.size

    @property
    def unit(self):
        """Unit of the lines: "m", "A" ...; "" where nobody says."""
        return "" if self.scan is None else self.scan.unit

    def frame(self):
        """Return the scan as it lay under the tip, and how much higher than wide pixels are.

        Returns:
            Tuple of float array `(lines, pixels)`, NaN in lines that are not there, and
            float.
        """
        if self.scan is not None:
            return self.scan.frame(), self.scan.aspect
        missing = np.full((self.planned - len(self.lines), self.lines.shape[1]), np.nan)
        return np.concatenate([self.lines, missing]), 1.0

    def row_of(self, line):
        """Return where a line begins, in rows of the frame from its top: float.

        Args:
            line: int, in the order of acquisition; the number of lines is their end.
        """
        if self.scan is None:
            return float(line)
        recorded = self.scan.recorded
        row = recorded[min(line, len(recorded) - 1)]
        ends = line >= len(recorded)
        return float(row + (ends if self.scan.slow != "up" else not ends))


def read_candidates(path, facts, channel=None):
    """Yield the scans of a file, one after the other.

    Args:
        path: `Path`. Anything that `scans.read_scans` reads.
        facts: dict of the model.
        channel: str or None. As `read_scan` takes it.

    Yields:
        `Candidate`; of a file with several scans, the `ScanError` of one that cannot be read.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
        MismatchError: Its scans are of another size than the model's.
    """
    with one_file(path, CURE, ScanError, SCANS) as account:
        heights = read_heights(path)
    if heights is not None:
        for index in range(len(heights)):
            with account:
                try:
                    found = _of_array(path, index, heights[index], facts)
                except ScanError as error:
                    if len(heights) == 1:
                        raise
                    found = error
                if isinstance(heights, np.memmap):  # a new one: the old keeps what was read
                    heights = read_heights(path)
            yield found
    elif scan_format(path):
        for index, scan in enumerate(each_scan(path, channel)[1]):
            wrong = scan if isinstance(scan, ScanError) else _no_frame(path, scan, channel)
            yield wrong or _of_scan(path, index, scan, facts)
    else:
        images, lines = read_dataset(path, facts, streamed=True)
        check_size(facts, images.shape, path)
        for index, count in enumerate(lines.tolist()):
            image = np.array(images[index])
            image[count:] = 0
            there = image[: max(recorded_lines(image[None])[0], 1)]
            bounds = np.arange(len(image) + 1)
            try:
                check_scan(path, index, there)
            except ScanError as error:
                yield error
                continue
            yield Candidate(path, index, image, bounds, there, len(image), len(image))


def _of_array(path, index, raw, facts):
    lines, pixels = raw.shape
    with borrow(raw.size * WORK, f"a scan of {lines} x {pixels} pixels"):
        check_scan(path, index, raw)
        raw = recorded(path, raw)
    fitted = fit_array(path, raw, facts, lines)
    planned = max(lines, round(facts["max_lines"] * pixels / facts["pixels"]))
    raw = raw[: max(recorded_lines(raw[None])[0], 1)]
    return Candidate(
        path, index, fitted.heights, fitted.bounds, raw, planned, fitted.planned
    )


def _no_frame(path, scan, channel):
    """Return why a scan is not to be judged unless the user asks for it, or None."""
    lines, pixels = scan.heights.shape
    if min(lines, pixels) < FEW:
        return NoImageError(
            f"{path}: {lines} lines of {pixels} pixels are not the frame of a scan. Give one of "
            f"at least {FEW} x {FEW}."
        )
    if channel is None and scan.unit not in UNITS:
        return ScanError(
            f"{path}: {image_name(scan)} is in {scan.unit}, neither heights nor a tunnelling "
            f'current. Judge it all the same with --channel "{image_name(scan)}".'
        )
    return None


def _of_scan(path, index, scan, facts):
    for text in scan.warnings:
        warnings.warn(f"{path}: {text}.", stacklevel=2)
    lines = bridge_gaps(scan.lines())
    fitted = fit_lines(scan, facts, lines)
    trained, remarks = taught_sizes(facts), ()
    remark = trained and trained.remark(scan.size)
    if too_coarse(facts, scan.size, lines.shape[1]):
        pitch = scan.size[0] * NANO / lines.shape[1]
        remarks = (f"{pitch:.2g} nm a pixel: too coarse for a lattice of {ROW_NM:g} nm",)
    if remark:
        remarks = (remark, *remarks)
        warnings.warn(
            f"{path}: is outside what the model was trained on: {remark} ({trained.source}).",
            stacklevel=2,
        )
    return Candidate(
        path,
        index,
        fitted.heights,
        fitted.bounds,
        lines,
        len(scan.heights),
        fitted.planned,
        scan,
        cut_tiles(scan, facts, widest_nm(facts)),
        remarks,
    )
