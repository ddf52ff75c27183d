"""Verdicts on lines and scans, and how logits become calibrated probabilities."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stm_keras.data.resample import lines_of, lines_seen
from stm_keras.errors import NotFiniteError

HEADS = ("change", "unknown")  # of networks, beside "state"
TINY = 1e-9
LEAD = 1e-6  # of the likeliest class at least: float32 still tells it from the next
UNSURE, NOT_JUDGED = "unsure", "not judged"
UNKNOWN_SURFACE, UNKNOWN_SIZE = "unknown surface", "unknown size"
FADED = "the scan has enough lines of its own"
NO_SIGNAL = "no line shows more than a straight slope, so there is nothing to judge"


@dataclass(frozen=True)
class Verdict:
    """The verdict on the tip after a line of a scan that is being recorded.

    A line without a signal has no verdict, and neither has any line until there are as many
    as the model needs: then all but `line`, `change_line` and `early` are None.

    Args:
        line: int. Number of the line; the first is 0.
        probabilities: tuple of float. Of each class, from all lines so far.
        name: str. The likeliest class.
        confidence: float. Its probability.
        verdict: str. What to act on: the likeliest class, or why it is not reliable, see
            `final_verdict`.
        unsure: bool. Whether the confidence is below what the model asks for after so
            many lines. None where the model has no threshold.
        change_probability: float. Of a tip change at this line, None without such a head.
        change: bool. Whether a tip change became certain with this line; it lies a
            few lines back, at `change_line`. None without head or threshold.
        change_line: int. First line with the present tip, None without a change so far.
        unknown_probability: float. That the model does not know this surface, None
            without such a head.
        unknown: bool. Whether that is above its threshold. None without one.
        unknown_size: bool. Whether the scan is wider or narrower than those the model was
            trained on. None where one of the two is not known.
        seen: int. Lines of the model behind the verdict.
        early: `Verdict`. What the model answers where it has too few lines for a verdict: of use
            only with the scans before, which tell the surface.
    """

    line: int
    probabilities: tuple | None = None
    name: str | None = None
    confidence: float | None = None
    verdict: str | None = None
    unsure: bool | None = None
    change_probability: float | None = None
    change: bool | None = None
    change_line: int | None = None
    unknown_probability: float | None = None
    unknown: bool | None = None
    unknown_size: bool | None = None
    seen: int | None = None
    early: "Verdict | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ScanContext:
    """The verdict on a scan with the scans before it, beside the verdict on the scan alone.

    Args:
        absent: str. Why there is none: what the scans before say does not hold for this one, or
            counts no more. Then all others but `scans` are None.
        scans: int. How many scans before are behind it.
        classes: tuple of str. Names of the classes.
        probabilities: tuple of float. Of each class; None before the first verdict on the scan.
        name: str. The likeliest class.
        confidence: float. Its probability.
        verdict: str. What to act on, see `final_verdict`.
    """

    absent: str | None = None
    scans: int = 0
    classes: tuple = ()
    probabilities: tuple | None = None
    name: str | None = None
    confidence: float | None = None
    verdict: str | None = None

    @property
    def remarks(self) -> tuple:
        """What a person is told beside the verdict on the scan alone: tuple of str."""
        if self.verdict is None:
            return ()
        sure = "" if self.confidence is None else f" ({100 * self.confidence:.0f}%)"
        return (
            f"with the scans before: {self.verdict}{sure * (self.verdict == self.name)}",
        )

    @property
    def words(self) -> str | None:
        """What a report says of it; None where nobody misses it: of many lines, or of too few."""
        nothing = self.absent is None and self.verdict is None
        missed = not nothing and self.absent not in (FADED, NO_SIGNAL)
        return context_words(self.record()) if missed else None

    def record(self, digits: int | None = None) -> dict:
        """Return the key "context" of JSON records, rounded to some digits or not at all."""

        def rounded(value: float) -> float:
            return value if digits is None else round(value, digits)

        shares, named = self.probabilities, None
        if shares is not None:
            named = dict(zip(self.classes, map(rounded, shares), strict=True))
        return {
            "verdict": self.verdict,
            "class": self.name,
            "probabilities": named,
            "confidence": None if self.confidence is None else rounded(self.confidence),
            "scans": self.scans,
            "absent": self.absent,
        }


@dataclass(frozen=True)
class ScanVerdict:
    """The verdict on one scan.

    Args:
        classes: tuple of str. Names of the classes, in the model's order.
        probabilities: tuple of float. Of each class; None where nothing could be judged.
        lines: int. Lines up to the last with a signal.
        unsure: bool. The confidence is below what the model asks for after so many
            lines. None where the model has no threshold, or nothing could be judged.
        unknown_surface: bool. The model does not know this surface. None likewise.
        unknown_size: bool. The scan is wider or narrower than those the model was trained
            on. None where one of the two is not known.
        change_lines: tuple of int. First lines with another tip. None as for `unsure`.
        reason: str. Why nothing could be judged, else None.
        state: float array of shape `(lines, classes)`. Probabilities after each line,
            None of a model that judges whole scans.
        change: float array of shape `(lines,)`. Probability of a tip change at each
            line, None of a model without such a head.
        early: `ScanVerdict`. As of `Verdict`.
    """

    classes: tuple
    probabilities: tuple | None
    lines: int
    unsure: bool | None = None
    unknown_surface: bool | None = None
    unknown_size: bool | None = None
    change_lines: tuple | None = None
    reason: str | None = None
    state: np.ndarray | None = field(default=None, compare=False, repr=False)
    change: np.ndarray | None = field(default=None, compare=False, repr=False)
    early: "ScanVerdict | None" = field(default=None, compare=False, repr=False)

    @property
    def number(self) -> int | None:
        """Number of the likeliest class; None where nothing could be judged."""
        return None if self.probabilities is None else int(np.argmax(self.probabilities))

    @property
    def name(self) -> str | None:
        """The likeliest class; None where nothing could be judged."""
        return None if self.number is None else self.classes[self.number]

    @property
    def confidence(self) -> float | None:
        """Probability of the likeliest class; None where nothing could be judged."""
        return None if self.probabilities is None else max(self.probabilities)

    @property
    def verdict(self) -> str:
        """What to act on: the likeliest class, or why not to, see `final_verdict`."""
        return final_verdict(
            self.name, self.unsure, self.unknown_surface, self.unknown_size
        )

    def in_scan(self, bounds: np.ndarray) -> "ScanVerdict":
        """Return the verdict in lines of the scan, from lines of the model; see `Fitted`."""
        return replace(
            self,
            lines=lines_seen(bounds, self.lines),
            change_lines=lines_of(bounds, self.change_lines),
        )

    def record(self) -> dict:
        """Return the verdict keys of `stm-keras predict --json`, JSON-ready."""
        shares, changes = self.probabilities, self.change_lines
        return {
            "verdict": self.verdict,
            "class": self.name,
            "probabilities": shares and dict(zip(self.classes, shares, strict=True)),
            "confidence": self.confidence,
            "change_lines": None if changes is None else list(changes),
            "unsure": self.unsure,
            "unknown_surface": self.unknown_surface,
            "unknown_size": self.unknown_size,
            "lines": self.lines,
            "error": self.reason,
        }


def final_verdict(
    name: str | None,
    unsure: bool | None = None,
    unknown_surface: bool | None = None,
    unknown_size: bool | None = None,
) -> str:
    """Return what to act on: the likeliest class, or why it is not reliable.

    Of "unsure", "unknown surface", "unknown size", "not judged" the last that holds. None
    means that nobody can tell, and of the class that nothing could be judged.
    """
    if name is None:
        return NOT_JUDGED
    if unknown_size:
        return UNKNOWN_SIZE
    if unknown_surface:
        return UNKNOWN_SURFACE
    return UNSURE if unsure else name


def verdict_words(record: dict) -> str:
    """Say a verdict: `rows 0.93`, `unsure (perhaps rows 0.41)`, `unknown surface`.

    `record` is that of a line, or its `since_change`.
    """
    verdict, name = record.get("verdict"), record.get("class")
    if verdict is None:
        return "no verdict yet"
    p = record.get("confidence") or (record.get("probabilities") or {}).get(name)
    likeliest = f"{name} {p:.2f}" if name is not None and p is not None else name
    if verdict == name:
        return str(likeliest)
    return f"unsure (perhaps {likeliest})" if verdict == "unsure" and likeliest else verdict


def context_words(context: dict) -> str:
    """Say the verdict with the scans before, or why there is none.

    `context` is that of the record of a line.
    """
    if context.get("absent") is not None:
        return f"Not judged with the scans before: {context['absent']}."
    scans = context.get("scans")
    before = "the scan before" if scans == 1 else f"the {scans} scans before"
    return f"With {before}: {verdict_words(context)}."


def lines_needed(metadata: dict) -> int:
    """Return after how many lines a model's first verdict is given: 1 or more."""
    return max(1, metadata.get("min_lines", 1))


def too_few(usable: int, metadata: dict) -> str | None:
    """Say why so few lines with a signal are not judged; None where they are enough."""
    if usable < 1:
        return NO_SIGNAL
    needed = lines_needed(metadata)
    if usable >= needed:
        return None
    return f"{usable} of the {needed} lines that the model needs were recorded"


def temperature(metadata: dict, lines: int | np.ndarray) -> np.ndarray:
    """Return what logits are divided by after some lines: float array like `lines`.

    Args:
        metadata: dict of a model file. Its "temperature" holds `lines` and `values`;
            between them it is interpolated over the logarithm. Without, it is 1.
    """
    table = metadata.get("temperature")
    return _at_lines(table, "values", lines) if table else np.ones(np.shape(lines))


def _at_lines(table, column, lines):
    """Interpolate a column of a table of the metadata over the logarithm of lines."""
    return np.interp(np.log2(lines), np.log2(table["lines"]), table[column])


def calibrated(logits: np.ndarray, metadata: dict, lines: int | np.ndarray) -> np.ndarray:
    """Turn logits into calibrated probabilities.

    The temperature comes first. Then the probability of the likeliest class becomes the
    share of validation scans that were judged right at such a probability (a logistic
    regression on its log-odds), and the other classes share the rest as before. The
    likeliest class stays the likeliest.

    Args:
        logits: array of shape `(..., classes)`.
        metadata: dict of a model file. "temperature" and "confidence", each with `lines`, may
            be missing.
        lines: int or int array. Lines seen; its shape goes with that of `logits` without
            the last axis.

    Returns:
        float64 array of the shape of `logits`.

    Raises:
        NotFiniteError: A logit is not finite.
    """
    return calibrated_by(logits, *calibration_at(metadata, lines))


def calibration_at(metadata: dict, lines: int | np.ndarray) -> tuple:
    """Return what `calibrated_by` asks for after some lines: temperature, slope and shift.

    Each is like `lines`; slope and shift are None where the model has no "confidence".
    """
    table = metadata.get("confidence")
    if not table:
        return temperature(metadata, lines), None, None
    slope, shift = (_at_lines(table, name, lines) for name in ("slopes", "shifts"))
    return temperature(metadata, lines), slope, shift


def calibrated_by(logits: np.ndarray, warmth: Any, slope: Any, shift: Any) -> np.ndarray:
    """Do what `calibrated` does by numbers as of `calibration_at`."""
    shares = softmax(check_finite(logits), np.asarray(warmth)[..., None])
    if slope is None:
        return shares
    best = np.arange(shares.shape[-1]) == shares.argmax(-1)[..., None]
    first = shares.max(-1)  # the shape of `lines`
    rest = np.maximum(1 - first, TINY)
    second = np.sort(shares, axis=-1)[..., -2] / rest  # its part of the rest
    confidence = sigmoid(slope * np.log(np.maximum(first, TINY) / rest) + shift)
    # at c = second / (1 + second) the second class, (1 - c) * second, would be as likely
    confidence = np.maximum(confidence, second / (1 + second) + LEAD)
    shares *= ((1 - confidence) / rest)[..., None]
    return np.where(best, confidence[..., None], shares)


def threshold(metadata: dict, name: str, lines: int | np.ndarray) -> Any:
    """Return a threshold of a model file after some lines, float or like `lines`, or None.

    Args:
        metadata: dict of a model file. Under `name` it may hold `threshold`, or `lines` and
            `thresholds`.
        name: str. "unsure", "change" or "unknown".
    """
    table = metadata.get(name)
    if not table:
        return None
    if "thresholds" not in table:
        return table.get("threshold")
    return _at_lines(table, "thresholds", lines)


def softmax(logits: Any, temperature: Any = 1.0) -> np.ndarray:
    """Turn logits of shape `(..., classes)` into float64 probabilities."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def check_finite(values: np.ndarray) -> np.ndarray:
    """Return the answers of a network, or raise a `NotFiniteError` for NaN and infinity."""
    if not np.isfinite(values).all():
        raise NotFiniteError(
            "The model gives numbers that are not finite, so it is damaged or was never "
            "trained to an end. Export or train it anew."
        )
    return values


def sigmoid(logits: Any) -> np.ndarray:
    """Turn finite logits of any shape into float32 probabilities."""
    logits = np.asarray(check_finite(logits), np.float64)
    return (0.5 + 0.5 * np.tanh(logits / 2)).astype(np.float32)
