"""What is said after a line, and how logits become it."""

from dataclasses import dataclass

import numpy as np

from stm_keras.errors import NotFiniteError

HEADS = ("change", "unknown")  # of networks, beside "state"
TINY = 1e-9
LEAD = 1e-6  # of the likeliest class at least: float32 still tells it from the next


UNSURE, NOT_JUDGED = "unsure", "not judged"
UNKNOWN_SURFACE, UNKNOWN_SIZE = "unknown surface", "unknown size"
NO_SIGNAL = "no line shows more than a straight slope, so there is nothing to judge"


@dataclass(frozen=True)
class Verdict:
    """What a stream says of the tip after a line.

    A line without a signal has no verdict, and neither has any line until there are as many
    as the model needs: then all but `line` and `change_line` is None.

    Args:
        line: int. Number of the line; the first is 0.
        probabilities: tuple of float. Of each class, from all lines so far.
        name: str. The likeliest class.
        confidence: float. Its probability.
        verdict: str. What to act on: the likeliest class, or why it is not to be trusted, see
            `final_verdict`.
        unsure: bool. Whether the confidence is below what the model asks for after so
            many lines. None where the model has no threshold.
        change_probability: float. Of a tip change at this line, None without such a head.
        change: bool. Whether a tip change became certain with this line; it lies a
            few lines back, at `change_line`. None without head or threshold.
        change_line: int. First line with the tip of now, None without a change so far.
        unknown_probability: float. That this is no surface that the model knows, None
            without such a head.
        unknown: bool. Whether that is above its threshold. None without one.
        unknown_size: bool. Whether the scan is wider or narrower than those the model was
            trained on. None where one of the two is not known.
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


def final_verdict(
    name: str | None,
    unsure: bool | None = None,
    unknown_surface: bool | None = None,
    unknown_size: bool | None = None,
) -> str:
    """Return the one word to act on.

    Args:
        name: str. The likeliest class, None where nothing could be judged.
        unsure, unknown_surface, unknown_size: bool, or None where nobody can tell.

    Returns:
        str. The class; or of "unsure", "unknown surface", "unknown size", "not judged" the
        last that holds.
    """
    if name is None:
        return NOT_JUDGED
    if unknown_size:
        return UNKNOWN_SIZE
    if unknown_surface:
        return UNKNOWN_SURFACE
    return UNSURE if unsure else name


def lines_needed(facts: dict) -> int:
    """Return from how many lines on a model's verdict is worth giving: int, 1 or more."""
    return max(1, facts.get("min_lines", 1))


def too_few(usable: int, facts: dict) -> str | None:
    """Say why so few usable lines are not judged; None where they are enough.

    Args:
        usable: int. Lines with a signal, in lines of the model.
        facts: dict of a model file.
    """
    if usable < 1:
        return NO_SIGNAL
    needed = lines_needed(facts)
    if usable >= needed:
        return None
    return f"{usable} of the {needed} lines that the model needs were recorded"


def temperature(facts, lines):
    """Return what logits are divided by after some lines: float array like `lines`.

    Args:
        facts: dict of a model file. Its "temperature" holds `lines` and `values`;
            between them it is interpolated over the logarithm. Without, it is 1.
        lines: int, or int array.
    """
    known = facts.get("temperature")
    if not known:
        return np.ones(np.shape(lines))
    return np.interp(np.log2(lines), np.log2(known["lines"]), known["values"])


def calibrated(logits, facts, lines):
    """Turn logits into probabilities that mean what they say.

    The temperature comes first. Then the probability of the likeliest class becomes the
    share of validation scans that were judged right at such a probability, and the others
    give or take what it loses or gains. The likeliest class stays the likeliest.

    Args:
        logits: array of shape `(..., classes)`.
        facts: dict of a model file. "temperature" and "confidence", each with `lines`, may
            be missing.
        lines: int or int array. Lines seen; its shape goes with that of `logits` without
            the last axis.

    Returns:
        float64 array of the shape of `logits`.

    Raises:
        NotFiniteError: A logit is not finite.
    """
    shares = softmax(check_finite(logits), np.asarray(temperature(facts, lines))[..., None])
    known = facts.get("confidence")
    if not known:
        return shares
    at, places = np.log2(lines), np.log2(known["lines"])
    slope, shift = (np.interp(at, places, known[name]) for name in ("slopes", "shifts"))
    best = shares.argmax(-1)[..., None]
    first = np.take_along_axis(shares, best, -1)[..., 0]
    rest = np.maximum(1 - first, TINY)
    second = np.sort(shares, axis=-1)[..., -2] / rest  # of what is left
    wanted = sigmoid(slope * np.log(np.maximum(first, TINY) / rest) + shift)
    wanted = np.maximum(wanted, second / (1 + second) + LEAD)
    shares = shares * ((1 - wanted) / rest)[..., None]
    np.put_along_axis(shares, best, wanted[..., None], -1)
    return shares


def threshold(facts, name, lines):
    """Return a threshold of a model file after some lines, or None.

    Args:
        facts: dict of a model file. Under `name` it may hold `threshold`, or `lines` and
            `thresholds`.
        name: str. "unsure", "change" or "unknown".
        lines: int.

    Returns:
        float or None.
    """
    known = facts.get(name)
    if not known:
        return None
    if "thresholds" not in known:
        return known.get("threshold")
    places = np.log2(known["lines"])
    return float(np.interp(np.log2(lines), places, known["thresholds"]))


def softmax(logits, temperature=1.0):
    """Turn logits of shape `(..., classes)` into float64 probabilities."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def check_finite(values: np.ndarray) -> np.ndarray:
    """Return what a network gave, unless some of it is no number.

    Raises:
        NotFiniteError: It holds NaN or infinity: no verdict may come of it.
    """
    if not np.isfinite(values).all():
        raise NotFiniteError(
            "The model gives numbers that are not finite, so it is damaged or was never "
            "trained to an end. Export or train it anew."
        )
    return values


def sigmoid(logits):
    """Turn finite logits of any shape into float32 probabilities."""
    logits = np.asarray(check_finite(logits), np.float64)
    return (0.5 + 0.5 * np.tanh(logits / 2)).astype(np.float32)
