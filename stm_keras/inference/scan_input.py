"""The scans in a file: as they were recorded, and as a model takes them."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stm_keras.data.preprocess import recorded_lines
from stm_keras.errors import (
    InputError,
    NoImageError,
    ScanError,
    StmKerasError,
    UsageError,
)
from stm_keras.inference.find_files import InputFile
from stm_keras.inference.inputs import (
    check_scan,
    fit_array,
    fit_lines,
    read_dataset,
    read_heights,
    recorded,
    square_lines,
    unfit,
)
from stm_keras.inference.predictor import check_size
from stm_keras.inference.sizes import (
    NANO,
    ROW_NM,
    Tile,
    cut_tiles,
    too_coarse,
    trained_sizes,
    widest_nm,
)
from stm_keras.memory import SCANS, borrow, one_file
from stm_keras.readers import CURE, each_scan
from stm_keras.readers.formats import scan_format
from stm_keras.readers.info import image_name
from stm_keras.readers.scan_file import FEW, WORK
from stm_keras.scan import Scan, bridge_gaps, scan_hash


@dataclass(frozen=True)
class ScanInput:
    """A scan to judge."""

    path: Path
    index: int  # of the scan in its file
    heights: np.ndarray  # (lines, pixels) of the model
    # (lines of the model there are + 1,): line of the scan at which each of these begins, and
    # at which the last ends
    bounds: np.ndarray
    # (lines, pixels) as recorded, in the order of acquisition; NaN where nothing was
    lines: np.ndarray
    planned: int  # lines that the complete scan has
    model_lines: int  # lines of the model that the complete scan has
    scan: Scan | None = None  # of a microscope's file
    size: tuple | None = None  # width and height of the frame in m; None where nobody says
    scale: float = 1.0  # times it, heights are from their median in the unit of the lines
    tiles: list[Tile] = field(default_factory=list)
    remarks: tuple = ()  # what a user should know of it, in few words
    resampled: bool = (
        False  # whether the lines have other pixels than were recorded: a dataset
    )

    @property
    def pixels(self) -> int | None:
        """Pixels of a line as it was recorded; None where nobody says."""
        return None if self.resampled else self.lines.shape[1]

    @property
    def hash(self) -> str:
        """What names it in the records of raters."""
        return scan_hash(self.lines if self.scan is None else self.scan.lines())

    @property
    def complete(self) -> bool:
        """Whether it was recorded to its last line."""
        return len(self.lines) >= self.planned

    @property
    def unit(self) -> str:
        """Unit of the lines: "m", "A" ...; "" where nobody says."""
        return "" if self.scan is None else self.scan.unit

    def frame(self) -> tuple[np.ndarray, float]:
        """Return the scan as it lay under the tip, `(lines, pixels)` with NaN in lines that were
        not recorded, and how much higher than wide its pixels are.
        """
        if self.scan is not None:
            return self.scan.frame(), self.scan.aspect
        missing = np.full((self.planned - len(self.lines), self.lines.shape[1]), np.nan)
        return np.concatenate([self.lines, missing]), 1.0

    def row_of(self, line: int) -> float:
        """Return where a line begins, in rows of the frame from its top.

        Lines come in the order of acquisition; the number of lines is their end.
        """
        if self.scan is None:
            return float(line)
        recorded = self.scan.recorded
        row = recorded[min(line, len(recorded) - 1)]
        ends = line >= len(recorded)
        return float(row + (ends if self.scan.slow != "up" else not ends))


@dataclass(frozen=True)
class Unread:
    """A file that cannot be read, or the scan of that `index` in it, and why."""

    path: Path
    error: Exception
    index: int | None = None


def read_files(
    files: Iterable[InputFile | None], metadata: dict, channel: str | None = None
) -> Iterator[ScanInput | Unread | None]:
    """Yield the scans of files, one after the other, and what cannot be read.

    None comes where there was no file for a while; a file of a folder that turns out not to be a
    scan is left out and noted.

    Raises:
        UsageError: Of what was asked, not of a file.
    """
    for file in files:
        if file is None:
            yield None
            continue
        try:
            if file.error is not None:
                raise file.error
            for index, scan in enumerate(read_scan_inputs(file.path, metadata, channel)):
                failed = isinstance(scan, StmKerasError)  # one scan of several
                yield Unread(file.path, scan, index) if failed else scan
        except UsageError:
            raise
        except StmKerasError as error:
            if not file.leave_out(error):
                yield Unread(file.path, error)
        except (MemoryError, OSError) as error:
            reason = str(error) or "it does not fit into memory"
            error = InputError(f"{file.path}: cannot be read ({reason}).")
            yield Unread(file.path, error)


def read_scan_inputs(
    path: Path, metadata: dict, channel: str | None = None
) -> Iterator[ScanInput | ScanError]:
    """Yield the scans of a file, one after the other.

    Of a file with several scans the `ScanError` of one that cannot be read comes instead.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
        MismatchError: Its scans are of another size than the model's.
    """
    with one_file(path, CURE, ScanError, SCANS) as account:
        heights = read_heights(path)
    if heights is not None:
        yield from _of_arrays(path, heights, metadata, account)
    elif scan_format(path):
        for index, scan in enumerate(each_scan(path, channel)[1]):
            error = scan if isinstance(scan, ScanError) else why_not_judged(path, scan)
            yield error or _of_scan(path, index, scan, metadata)
    else:
        yield from _of_dataset(path, metadata)


def _of_arrays(path, heights, metadata, account):
    for index in range(len(heights)):
        with account:
            try:
                scan_input = _of_array(path, index, heights[index], metadata)
            except ScanError as error:
                if len(heights) == 1:
                    raise
                scan_input = error
            if isinstance(heights, np.memmap):  # a new one: the old keeps what was read
                heights = read_heights(path)
        yield scan_input


def _of_array(path, index, raw, metadata):
    lines, pixels = raw.shape
    with borrow(raw.size * WORK, f"a scan of {lines} x {pixels} pixels"):
        check_scan(path, index, raw)
        raw = recorded(path, raw)
    fitted = fit_array(path, raw, metadata, lines)
    raw = raw[: max(recorded_lines(raw[None])[0], 1)]
    return ScanInput(
        path=path,
        index=index,
        heights=fitted.heights,
        bounds=fitted.bounds,
        lines=raw,
        planned=max(lines, square_lines(metadata, pixels)),
        model_lines=fitted.planned,
        scale=fitted.scale,
    )


def _of_dataset(path, metadata):
    images, lines, sizes = read_dataset(path, metadata, streamed=True)
    check_size(metadata, images.shape, path)
    for index, count in enumerate(lines.tolist()):
        image = np.array(images[index])
        image[count:] = 0
        recorded = image[: max(recorded_lines(image[None])[0], 1)]
        try:
            check_scan(path, index, recorded)
        except ScanError as error:
            yield error
            continue
        yield ScanInput(
            path=path,
            index=index,
            heights=image,
            bounds=np.arange(len(image) + 1),
            lines=recorded,
            planned=len(image),
            model_lines=len(image),
            size=sizes[index],
            remarks=_remarks(path, sizes[index], metadata),
            resampled=True,
        )


def why_not_judged(path: Path, scan: Scan) -> ScanError | None:
    """Return why a scan is not judged, and what to do: an error, or None."""
    reason = unfit(scan)
    if reason is None:
        return None
    if min(scan.heights.shape) < FEW:
        return NoImageError(f"{path}: {reason}. Give one of at least {FEW} x {FEW}.")
    return ScanError(
        f'{path}: {reason}. Judge it all the same with --channel "{image_name(scan)}".'
    )


def _of_scan(path, index, scan, metadata):
    for text in scan.warnings:
        warnings.warn(f"{path}: {text}.", stacklevel=2)
    lines = bridge_gaps(scan.lines())
    fitted = fit_lines(scan, metadata, lines)
    return ScanInput(
        path=path,
        index=index,
        heights=fitted.heights,
        bounds=fitted.bounds,
        lines=lines,
        planned=len(scan.heights),
        model_lines=fitted.planned,
        scan=scan,
        size=scan.size,
        scale=fitted.scale,
        tiles=cut_tiles(scan, metadata, widest_nm(metadata)),
        remarks=_remarks(path, scan.size, metadata, scan.heights.shape[1]),
    )


def _remarks(path, size, metadata, pixels=None):
    """Say what is odd about the size of a scan: tuple of str; warn where it is unknown."""
    remarks = []
    trained = trained_sizes(metadata)
    remark = None if trained is None else trained.remark(size)
    if remark:
        remarks.append(remark)
        warnings.warn(
            f"{path}: is outside what the model was trained on: {remark} ({trained.source}).",
            stacklevel=2,
        )
    if too_coarse(metadata, size, pixels):
        pitch = size[0] * NANO / pixels
        remarks.append(f"{pitch:.2g} nm a pixel: too coarse for a lattice of {ROW_NM:g} nm")
    return tuple(remarks)
