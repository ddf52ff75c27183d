"""The result on one scan of a file, in the lines of that file, and its JSON record."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import numpy as np

from stm_keras.data.preprocess import has_signal, line_trend
from stm_keras.data.resample import lines_of, lines_seen
from stm_keras.inference.scan_input import ScanInput
from stm_keras.inference.verdict import NOT_JUDGED, ScanContext, ScanVerdict, Verdict
from stm_keras.readers.info import scan_source

SCHEMA = 2  # of a record; 1 had no `verdict`
KEYS = (  # of a record, in this order
    "schema",
    "path",
    "index",
    "verdict",
    "class",
    "probabilities",
    "confidence",
    "change_lines",
    "unsure",
    "unknown_surface",
    "unknown_size",
    "lines",
    "error",
    *scan_source(None),
)
DIGITS = 6


@dataclass(frozen=True)
class ScanResult:
    """A scan with its verdict, or a file with the error that kept it from having one."""

    path: Path
    classes: tuple
    scan_input: ScanInput | None = None  # None of a file that could not be read
    verdict: ScanVerdict | None = None  # likewise
    tiles: tuple[ScanVerdict, ...] = ()  # one for each tile of the scan
    line_verdicts: tuple[Verdict, ...] = ()  # one for each line, where they were asked for
    context: ScanContext | None = None  # with the scans before, where that was asked for
    line_contexts: tuple[ScanContext, ...] = ()  # likewise, one for each line
    error: Exception | None = None
    failed_index: int | None = None  # of the scan in its file, where there is an error

    @property
    def index(self) -> int | None:
        """Number of the scan in its file, or None."""
        return self.failed_index if self.scan_input is None else self.scan_input.index

    @property
    def reason(self) -> str | None:
        """Why there is no verdict, in one line; None where there is one."""
        if self.error is not None:
            return " ".join(str(self.error).split())
        if self.verdict.reason is None:
            return None
        return f"{self.path}: {self.verdict.reason}."

    @property
    def outcome(self) -> str:
        """The verdict to act on, "not judged" of what could not be read, too."""
        return NOT_JUDGED if self.error is not None else self.verdict.verdict

    @property
    def number(self) -> int | None:
        """Number of the class that is the verdict; None where the verdict is no class."""
        name = self.outcome
        return self.classes.index(name) if name in self.classes else None

    @property
    def lines(self) -> int:
        """Lines of the scan that were judged, in the lines of its file."""
        return lines_seen(self.scan_input.bounds, self.verdict.lines)

    @property
    def change_lines(self) -> tuple | None:
        """First lines with another tip, in the lines of the file."""
        return lines_of(self.scan_input.bounds, self.verdict.change_lines)

    @cached_property
    def line_trends(self) -> tuple[np.ndarray, np.ndarray]:
        """The step to each line and its slope, which preprocessing removes: `line_trend`.

        Both are NaN of a line without a signal, and so is the step to the next.
        """
        lines = self.scan_input.lines
        usable = np.isfinite(lines).all(1)
        usable[usable] = has_signal(lines[usable])
        with np.errstate(all="ignore"):
            return line_trend(np.where(usable[:, None], lines, np.nan))

    def record(self) -> dict:
        """Return a dict, JSON-ready, of `KEYS`; and more where there is more to say.

        Where a scan was judged with the scans before as well it has `context`; in tiles, it has
        `tiles`; with verdicts line by line, `every_line`.
        """
        record = dict.fromkeys(KEYS)
        record |= {"schema": SCHEMA, "path": str(self.path), "index": self.index}
        if self.error is not None:
            return record | {"verdict": NOT_JUDGED, "error": self.reason}
        record |= self._verdict_record(self.verdict, self.scan_input.bounds)
        record["error"] = self.reason
        record |= scan_source(self.scan_input.scan)
        if self.context is not None:
            record["context"] = self.context.record(DIGITS)
        if self.tiles:
            record["tiles"] = [
                {
                    "row": tile.row,
                    "column": tile.column,
                    "nm": [round(value, 3) for value in tile.nm],
                    **self._verdict_record(verdict, tile.bounds),
                    "lines": list(tile.lines),
                }
                for tile, verdict in zip(self.scan_input.tiles, self.tiles, strict=True)
            ]
        if self.line_verdicts:
            record["every_line"] = list(self.line_records())
        return record

    def line_records(self) -> Iterator[dict]:
        """Yield a dict, JSON-ready, for every verdict line by line."""
        steps, slopes = self.line_trends
        for verdict, context in zip_longest(self.line_verdicts, self.line_contexts):
            yield {
                "line": verdict.line,
                "verdict": verdict.verdict,
                "class": verdict.name,
                "probabilities": self._named(verdict.probabilities),
                "confidence": _rounded(verdict.confidence),
                "change": verdict.change,
                "change_line": verdict.change_line,
                "unsure": verdict.unsure,
                "unknown_surface": verdict.unknown,
                "unknown_size": verdict.unknown_size,
                "offset_step": _number(steps[verdict.line]),
                "slope": _number(slopes[verdict.line]),
                **({} if context is None else {"context": context.record(DIGITS)}),
            }

    def _verdict_record(self, verdict, bounds):
        return {
            **verdict.in_scan(bounds).record(),
            "probabilities": self._named(verdict.probabilities),
            "confidence": _rounded(verdict.confidence),
        }

    def _named(self, probabilities):
        if probabilities is None:
            return None
        pairs = zip(self.classes, probabilities, strict=True)
        return {name: round(float(value), DIGITS) for name, value in pairs}


def _rounded(value):
    return None if value is None else round(value, DIGITS)


def _number(value):
    return float(f"{value:.6g}") if np.isfinite(value) else None
