"""What is said of one scan of a batch, in the lines of that scan."""

from dataclasses import dataclass, field

import numpy as np

from stm_keras.data.preprocess import line_trend

KEYS = (  # of a record, in this order
    "path",
    "index",
    "class",
    "probabilities",
    "confidence",
    "change_lines",
    "unsure",
    "unknown_surface",
    "lines",
    "error",
)
DIGITS = 6


@dataclass(frozen=True)
class Judged:
    """A scan with its verdict, or a file with what is wrong with it.

    Args:
        path: `Path`.
        classes: tuple of str.
        candidate: `Candidate`, None of a file that could not be read.
        verdict: `ScanVerdict`, likewise.
        tiles: tuple of `ScanVerdict`, one for each tile of the candidate.
        live: tuple of `runtime.verdict.Verdict`, one for each line. Empty where they were
            not asked for.
        error: An exception, or None.
    """

    path: object
    classes: tuple
    candidate: object = None
    verdict: object = None
    tiles: tuple = ()
    live: tuple = ()
    error: Exception | None = None
    _cache: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def index(self):
        """Number of the scan in its file, or None."""
        return None if self.candidate is None else self.candidate.index

    @property
    def number(self):
        """Number of the likeliest class."""
        return int(np.argmax(self.verdict.probabilities))

    @property
    def name(self):
        """The likeliest class."""
        return self.classes[self.number]

    @property
    def lines(self):
        """Lines of the scan that were judged, in the lines of its file."""
        return _reached(self.candidate.bounds, self.verdict.lines)

    @property
    def change_lines(self):
        """First lines with another tip, in the lines of the file; None or tuple of int."""
        return _places(self.candidate.bounds, self.verdict.change_lines)

    def removed(self):
        """Return what preprocessing took out of every line, as of `line_trend`."""
        if "removed" not in self._cache:
            with np.errstate(all="ignore"):
                self._cache["removed"] = line_trend(self.candidate.lines)
        return self._cache["removed"]

    def record(self):
        """Return a dict, JSON-ready, of `KEYS`; and more where there is more to say.

        A scan that was judged in tiles has `tiles`; with verdicts line by line it has
        `unit` and `every_line`.
        """
        record = dict.fromkeys(KEYS)
        record["path"] = str(self.path)
        if self.error is not None:
            return {**record, "error": " ".join(str(self.error).split())}
        record["index"] = self.index
        record |= self._said(self.verdict, self.candidate.bounds)
        if self.tiles:
            record["tiles"] = [
                {
                    "row": tile.row,
                    "column": tile.column,
                    "nm": [round(value, 3) for value in tile.nm],
                    **self._said(verdict, tile.bounds),
                    "lines": list(tile.lines),
                }
                for tile, verdict in zip(self.candidate.tiles, self.tiles, strict=True)
            ]
        if self.live:
            record["unit"] = self.candidate.unit
            record["every_line"] = list(self.line_records())
        return record

    def line_records(self):
        """Yield a dict, JSON-ready, for every verdict line by line."""
        steps, slopes = self.removed()
        for verdict in self.live:
            yield {
                "line": verdict.line,
                "class": verdict.name,
                "probabilities": self._named(verdict.probabilities),
                "confidence": round(verdict.confidence, DIGITS),
                "change": verdict.change,
                "change_line": verdict.change_line,
                "unsure": verdict.unsure,
                "unknown_surface": verdict.unknown,
                "offset_step": _number(steps[verdict.line]),
                "slope": _number(slopes[verdict.line]),
            }

    def _said(self, verdict, bounds):
        changes = _places(bounds, verdict.change_lines)
        return {
            **verdict.record(self.classes),
            "probabilities": self._named(verdict.probabilities),
            "confidence": round(verdict.confidence, DIGITS),
            "change_lines": None if changes is None else list(changes),
            "lines": _reached(bounds, verdict.lines),
        }

    def _named(self, probabilities):
        pairs = zip(self.classes, probabilities, strict=True)
        return {name: round(float(value), DIGITS) for name, value in pairs}


def _places(bounds, places):
    if places is None:
        return None
    return tuple(int(bounds[min(place, len(bounds) - 1)]) for place in places)


def _reached(bounds, lines):
    return 0 if lines < 1 else int(bounds[min(lines, len(bounds) - 1)])


def _number(value):
    return float(f"{value:.6g}") if np.isfinite(value) else None
