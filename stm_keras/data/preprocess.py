"""Turn heights into model input, the one way for loader, simulator and live lines."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

QUANTUM = 0.35  # of the step of its numbers: rounding a slope leaves less (1 / sqrt(12))
SPREAD = 16  # of the precision of numbers: rounding a slope leaves steps that differ by 2
CHUNK = 256  # scans looked at at a time
STEEP = 16  # deviations: a line that rises more is levelled in float64, others to 1e-6
UNITS = (1e-15, 1e15)  # deviations whose squares float32 holds with room to spare
LINES = 1024  # at a time, so that they stay in the processor's cache
HALF, SINGLE = (float(np.finfo(kind).eps) for kind in (np.float16, np.float32))
FEW = 17  # pixels in which a line with a signal mostly has a smaller step


def remove_line_trend(heights: ArrayLike) -> np.ndarray:
    """Take the least-squares straight line out of every scan line.

    Each line is treated alone, so a line can be levelled before the next exists. `heights` of
    any unit and real dtype, `(..., pixels)`, become float64 with zero mean and zero slope.
    """
    heights = np.asarray(heights, np.float64)
    mean, slope, ramp = _trend(heights)
    return heights - mean[..., None] - slope[..., None] * ramp


def line_trend(heights: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return what `remove_line_trend` takes out of every line: its height and its slope.

    A tip change often shows there first, as a step from one line to the next.

    Args:
        heights: array of shape `(..., lines, pixels)`, any unit; NaN where not recorded.

    Returns:
        Tuple of float64 arrays of shape `(..., lines)` in that unit: how far the line lies
        above the one before, NaN for the first; and how far it rises from its first pixel
        to its last.
    """
    heights = np.asarray(heights, np.float64)
    mean, slope, ramp = _trend(heights)
    step = np.diff(mean, axis=-1, prepend=np.nan)
    return step, slope * (ramp[-1] - ramp[0])


def recorded_lines(images: ArrayLike) -> np.ndarray:
    """Count the lines up to the last that is not constant: int array `(scans,)`."""
    images = np.asarray(images)
    return last_lines(images != images[:, :, :1])


def pack_lines(images: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Put the lines with a signal one after the other: a lost line changes nothing.

    Returns:
        Tuple of an array like `images`, `(scans, lines, pixels)`, with 0 in the lines that are
        left over at the end; and an int array `(scans, lines)`: how many lines with a signal
        there are up to each.
    """
    images = np.asarray(images)
    there = has_signal(images)
    seen = np.cumsum(there, 1)
    in_order = not (there[:, 1:] > there[:, :-1]).any()
    if in_order:
        return np.where(there[..., None], images, 0), seen
    order = np.argsort(~there, axis=1, kind="stable")
    packed = np.take_along_axis(images, order[..., None], 1)
    packed[np.arange(there.shape[1]) >= seen[:, -1:]] = 0
    return packed, seen


def unpack_lines(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Give each line of a scan what was said after the last line with a signal up to it.

    `values`, `(scans, lines, ...)`, are of packed lines, `seen` as of `pack_lines`; the result
    is 0 before the first line with a signal.
    """
    count = seen.reshape(*seen.shape, *[1] * (values.ndim - 2))
    latest = np.take_along_axis(values, np.maximum(count - 1, 0), 1)
    return np.where(count > 0, latest, 0).astype(values.dtype)


def usable_lines(images: Any, lines: int | None = None) -> np.ndarray:
    """Count the lines with a signal of scans, 1 at least, of some lines or all: int `(scans,)`."""
    parts = [
        has_signal(np.asarray(images[start : start + CHUNK])[:, :lines]).sum(1)
        for start in range(0, len(images), CHUNK)
    ]
    return np.maximum(np.concatenate([np.zeros(0, int), *parts]), 1)


def last_lines(lines):
    """Count the lines up to the last that is not all 0: int array `(scans,)`."""
    there = np.asarray(lines).any(-1)
    last = there.shape[1] - there[:, ::-1].argmax(1)
    return np.where(there.any(1), last, 0)


def _trend(heights):
    """Return mean and slope of every line, and the ramp that the slope multiplies."""
    ramp = _ramp(heights.shape[-1])
    mean = heights.mean(-1)
    levelled = heights - mean[..., None]  # first, or an offset would cost digits
    slope = levelled @ ramp / max(ramp @ ramp, 0.5)
    return mean, slope, ramp


def has_signal(heights: ArrayLike) -> np.ndarray:
    """Tell which lines show more than a straight line and the steps of its numbers.

    A constant and a slope leave no more than rounding, and a slope in whole numbers, of a
    picture or a converter, leaves steps of one: neither tells anything of the tip. Finite
    `heights` of any unit and real dtype, `(..., pixels)`, give a bool array `(...)`.
    """
    return line_shapes(heights, shaped=False)[1] > 0


def line_shapes(heights: ArrayLike, shaped: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised lines, and their standard deviations, 0 where there is no signal.

    Arrays like `heights` and `(...)`: the first as of `standardise_lines`, unless not `shaped`,
    which leaves steep lines as they are; the second in the unit of `heights`.

    Most lines plainly have a signal, and float32 holds it. Those that are steep beside what
    they show are levelled in float64, if their shape matters; and where it is not plain
    whether there is a signal, the numbers are looked at one by one.
    """
    heights = np.asarray(heights)
    lines = heights.reshape(-1, heights.shape[-1])
    if len(lines) == 1 and (found := _standardise_one(lines)) is not None:
        shape, deviation = found
        return shape.reshape(heights.shape), np.full(heights.shape[:-1], deviation)
    shapes, deviation = np.empty(lines.shape, np.float32), np.empty(len(lines))
    plain, steep = np.empty((2, len(lines)), bool)
    work = np.empty_like(shapes[:LINES])  # once: new memory costs as much as to use it
    for start in range(0, len(lines), LINES):
        part = slice(start, start + LINES)
        found = _standardise_plain(lines[part], shapes[part], work)
        deviation[part], plain[part], steep[part] = found
    if shaped and steep.any():
        levelled = remove_line_trend(lines[steep])
        deviation[steep] = levelled.std(-1)
        shapes[steep] = levelled / deviation[steep, None]
    doubtful = ~plain
    if doubtful.any():
        levelled, spread, flat, largest = _level(lines[doubtful])
        shapes[doubtful] = np.where(flat, 0, levelled / np.where(flat, 1, spread))
        deviation[doubtful] = np.where(flat, 0, spread * largest)[:, 0]
    return shapes.reshape(heights.shape), deviation.reshape(heights.shape[:-1])


def _standardise_one(line):
    """Do for one line, `(1, pixels)`, what `line_shapes` does, in a third of the time.

    Returns:
        Tuple of the standardised line and its standard deviation, the numbers that are computed
        of many lines; None where it is not plain how, or whether there is a signal.
    """
    pixels = line.shape[1]
    out = np.empty(line.shape, np.float32)
    with np.errstate(all="ignore"):
        _without_first(line, out)
        steps = np.diff(out[0, :FEW]).tolist()
        trend = _take_trend(out, np.empty_like(out))
        (deviation,) = np.sqrt(np.einsum("lp,lp->l", out, out) / pixels)
        out /= deviation
    step = min((abs(step) for step in steps if step), default=0.0)
    mean, slope = map(abs, trend[0].tolist())
    size, spread = mean + slope * (pixels / 2), float(deviation)
    largest = abs(float(line[0, 0])) + size + math.sqrt(pixels) * spread
    coarsest = HALF if line.dtype == np.float16 else SINGLE
    plain = step > 5 * coarsest * largest and 1.1 * QUANTUM * step < spread
    plain = plain and UNITS[0] < spread < UNITS[1] and size <= STEEP * spread
    return (out, deviation) if plain else None


def _standardise_plain(lines, out, work):
    """Standardise lines into a float32 array, where it is plain how.

    Returns:
        Tuple of arrays `(lines,)`: standard deviations; where it is plain whether a line has
        a signal; and where it has one but is too steep for float32.
    """
    pixels = lines.shape[1]
    with np.errstate(all="ignore"):  # lines with numbers beyond float32 are not plain
        _without_first(lines, out)
        few = out[:, :FEW].T
        steps = np.abs(few[1:] - few[:-1])
        steps[steps == 0] = np.inf
        step = steps.min(0, initial=np.inf)
        trend = _take_trend(out, work[: len(lines)])
        deviation = np.sqrt(np.einsum("lp,lp->l", out, out) / pixels)
        out /= deviation[:, None]
        mean, slope = np.abs(trend).T
        size = mean + slope * (pixels / 2)  # of what was taken out
        first = np.abs(lines[:, 0].astype(np.float32))
        largest = first + size + np.sqrt(pixels) * deviation
        coarsest = HALF if lines.dtype == np.float16 else SINGLE
        # The least step but 0 is one of the gaps that `_in_steps` asks for.
        signal = (step > 5 * coarsest * largest) & (1.1 * QUANTUM * step < deviation)
        signal &= (UNITS[0] < deviation) & (deviation < UNITS[1])
    blank = np.flatnonzero(deviation == 0)
    blank = blank[(lines[blank] == lines[blank, :1]).all(1)]
    out[blank] = 0
    plain = signal.copy()
    plain[blank] = True
    return deviation, plain, signal & (size > STEEP * deviation)


def level_lines(heights: ArrayLike) -> np.ndarray:
    """Take the straight line out of every line as `remove_line_trend`, fast and in float32.

    On steep lines the digits are fewer: the error is some 1e-7 of what a line rises.
    """
    heights = np.asarray(heights)
    levelled = np.empty(heights.shape, np.float32)
    lines, out = (each.reshape(-1, heights.shape[-1]) for each in (heights, levelled))
    work = np.empty_like(out[:LINES])
    for start in range(0, len(lines), LINES):
        part = out[start : start + LINES]
        _without_first(lines[start : start + LINES], part)
        _take_trend(part, work[: len(part)])
    return levelled


def _without_first(lines, out):
    """Put lines into a float32 array, less their first pixel: offsets would cost digits."""
    if lines.dtype.itemsize <= 2:
        np.copyto(out, lines, casting="unsafe")
        out -= out[:, :1].copy()
    else:
        kind = np.result_type(lines, np.float32)  # the precision of the heights
        np.subtract(lines, lines[:, :1], out=out, dtype=kind, casting="unsafe")


def _take_trend(lines, work):
    """Level float32 lines in place; return mean and slope, `(lines, 2)`. `work` is like `lines`."""
    pixels = lines.shape[1]
    both, square = _trends(pixels)
    trend = np.empty((len(lines), 2), np.float32)
    # einsum, as a product of matrices rounds a line by how many others there are.
    np.einsum("lp->l", lines, out=trend[:, 0])
    np.einsum("lp,p->l", lines, both[1], out=trend[:, 1])
    trend /= pixels, square
    lines -= np.einsum("lk,kp->lp", trend, both, out=work)
    return trend


@lru_cache(maxsize=16)
def _trends(pixels):
    """Return a constant and a slope of 1, float32 `(2, pixels)`, and the square of the slope."""
    ramp = _ramp(pixels)
    both = np.stack([np.ones(pixels), ramp]).astype(np.float32)
    both.flags.writeable = False
    return both, max(ramp @ ramp, 0.5)


def _ramp(pixels):
    """Return how many pixels each lies behind the middle of a line."""
    return np.arange(pixels) - (pixels - 1) / 2


def _level(heights):
    """Return levelled lines, their standard deviations, which show nothing, and largest heights.

    The first two are in parts of the largest height of each line, and the last three have the
    shape `(..., 1)`.
    """
    heights = np.asarray(heights)
    precision = _precision(heights)
    heights = heights.astype(np.float64)
    largest = np.abs(heights).max(-1, keepdims=True)  # so that no square can overflow
    scaled = heights / np.where(largest > 0, largest, 1)
    levelled = remove_line_trend(scaled)
    deviation = np.sqrt(np.mean(levelled**2, axis=-1, keepdims=True))
    flat = deviation <= 4 * precision
    flat |= _in_steps(scaled[..., :FEW], deviation, precision)  # cheap, and mostly enough
    doubtful = flat[..., 0]
    if doubtful.any():
        some, limit = deviation[doubtful], precision[doubtful]
        flat[doubtful] &= (some <= 4 * limit) | _in_steps(scaled[doubtful], some, limit)
    return levelled, deviation, flat, largest


def _precision(heights):
    """Return the relative precision of the numbers of each line, shape `(..., 1)`.

    Readers give float64 whatever the file holds, so numbers that float32 holds are taken
    for such.
    """
    shape = (*heights.shape[:-1], 1)
    if heights.dtype != np.float64:
        exact = heights.dtype.kind in "biu"
        return np.full(shape, np.finfo(np.float64 if exact else heights.dtype).eps)
    with np.errstate(over="ignore"):
        single = (heights.astype(np.float32) == heights).all(-1, keepdims=True)
    return np.where(single, np.finfo(np.float32).eps, np.finfo(np.float64).eps)


def _in_steps(scaled, deviation, precision):
    """Tell which lines deviate from a slope by no more than rounding leaves.

    Steps from pixel to pixel are whole multiples of it, and so is what they differ by: on a
    steep slope each of them is large. Far from 0 all differ by the rounding of the numbers
    themselves; then it is their spread that tells a signal from a slope.
    """
    if scaled.shape[-1] < 2:
        return np.ones((*scaled.shape[:-1], 1), bool)
    steps = np.sort(np.diff(scaled, axis=-1), axis=-1)
    spread = steps[..., -1:] - steps[..., :1]
    together = (np.diff(steps, axis=-1) <= 4 * precision).all(-1, keepdims=True)
    zero = np.zeros_like(spread)  # a step of 0 among them
    gaps = np.diff(np.sort(np.concatenate([steps, zero], axis=-1), axis=-1), axis=-1)
    small = ((gaps > 4 * precision) & (gaps * QUANTUM < deviation)).any(-1, keepdims=True)
    return ~small & ~(together & (spread > SPREAD * precision))


def standardise_lines(heights: ArrayLike) -> np.ndarray:
    """Level every line and scale it to mean 0 and standard deviation 1.

    A line without a signal, see `has_signal`, becomes 0, as a line that was not recorded.
    Neither the unit nor the scale of the heights matters, so 8-bit pictures and heights in
    metres give the same input: float32 of the same shape `(..., pixels)`.
    """
    return line_shapes(heights)[0]


def scale_lines(heights: ArrayLike, total: tuple | None = None) -> object:
    """Level every line and divide it by the running scale of the lines so far.

    The scale is the geometric mean of the standard deviations of this line and those
    before it, which one wild line hardly moves. Unlike `standardise_lines` this keeps how
    large a line is beside the others, and still neither unit nor later lines matter.

    Args:
        heights: array of shape `(..., lines, pixels)`, any unit, any real dtype.
        total: tuple of two arrays of shape `(..., 1)`: sum of the logarithms and number
            of the lines before these. None where these are the first.

    Returns:
        float32 array of the same shape; a line without structure is 0. With `total`,
        a tuple of it and the total after these lines.
    """
    return scale_shapes(*line_shapes(heights), total)


def scale_shapes(shapes: np.ndarray, deviation: np.ndarray, total: tuple | None) -> Any:
    """Do what `scale_lines` does, from what `line_shapes` gives."""
    there = deviation > 0
    logarithm = np.log(np.where(there, deviation, 1))
    begun = (0.0, 0.0) if total is None else total
    sums = begun[0] + np.cumsum(logarithm, -1)
    counts = begun[1] + np.cumsum(there, -1)
    ratio = np.exp(logarithm - sums / np.maximum(counts, 1))
    scaled = (shapes * ratio[..., None]).astype(np.float32)
    return scaled if total is None else (scaled, (sums[..., -1:], counts[..., -1:]))


def resample_pixels(lines: ArrayLike, pixels: int, dtype: str = "float32") -> np.ndarray:
    """Resample lines `(..., old pixels)` to so many pixels with a triangle filter.

    Heights as recorded want float64: in float32 an offset of micrometres drowns picometres.

    Going down, the triangle is as wide as two new pixels (antialiased); a box filter would beat
    with the pixel grid and draw stripes. Going up, it is linear interpolation.
    """
    lines = np.asarray(lines, dtype)
    if lines.shape[-1] == pixels:
        return lines
    return lines @ triangle_weights(lines.shape[-1], pixels, dtype)


def resample_scan(heights: ArrayLike, lines: int, pixels: int) -> np.ndarray:
    """Resample scans `(..., lines, pixels)` along both axes with a triangle filter; float32."""
    turned = np.swapaxes(resample_pixels(heights, pixels), -1, -2)
    return np.swapaxes(resample_pixels(turned, lines), -1, -2)


@lru_cache(maxsize=16)
def triangle_weights(old: int, new: int, dtype: str = "float32") -> np.ndarray:
    """Weights of a triangle filter from `old` to `new` samples, `(old, new)`, read only."""
    scale = old / new
    width = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(old)[:, None] - centres) / width
    weights = np.maximum(1 - distance, 0)
    weights = (weights / weights.sum(0)).astype(dtype)
    weights.flags.writeable = False
    return weights


INPUTS: dict[str, Callable[..., Any]] = {  # what models are fed, by the name in their files
    "standardised": standardise_lines,
    "scaled": scale_lines,
}
