"""One JSON object a line, from any program: what a request means, as events.

    {"scan": {"lines": 256, "pixels": 256, "size": [2e-8, 2e-8], "slow": "up"}}
    {"line": [1.2e-10, 1.3e-10, ...], "row": 12, "direction": "forward"}
    {"end": true}

docs/live.md ("Lines from any program") is the description for users.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Real

import numpy as np

from stm_keras.errors import InputError
from stm_keras.live.events import (
    BACKWARD,
    COMPLETE,
    DOWN,
    FORWARD,
    STOPPED,
    UP,
    Event,
    Frame,
    Line,
    ScanBegan,
    ScanEnded,
)
from stm_keras.untrusted import parse_json

LONGEST = 1 << 20  # bytes of a request
MOST_LINES = 1 << 20  # of a scan
LARGEST = 1e18  # of a height, whose square float32 still holds
LONGEST_TEXT = 1000  # characters of a name or path
BLANK = b"\xef\xbb\xbf \t\r\n"  # bytes of lines without a request
NUMBERS = ("angle", "line_time", "bias", "setpoint")  # of a frame, in degrees, s, V, A
KINDS = ("scan", "line", "end")


def parse_request(text: bytes) -> dict:
    """Read one request.

    Raises:
        InputError: It is not a JSON object.
    """
    try:
        decoded = text.decode("utf-8-sig")  # programs on Windows mark texts so
    except UnicodeDecodeError as error:
        raise InputError(
            f"A request is text in UTF-8. Received: byte {error.start} is not in UTF-8."
        ) from None
    form = "{} is a line of JSON, and this is not ({})."
    request = parse_json(decoded, "A request", limit=LONGEST, form=form, gaps=True)
    if not isinstance(request, dict):
        raise InputError(
            'A request is a JSON object with "scan", "line" or "end". '
            f"Received: {type(request).__name__}."
        )
    return request


class PushProtocol:
    """What requests mean, one after the other.

    Args:
        clock: callable that returns the time, in s since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._frame: Frame | None = None  # of the scan that is on
        self._came = {FORWARD: 0, BACKWARD: 0}

    @property
    def scanning(self) -> bool:
        """Whether a scan is on."""
        return self._frame is not None

    def events(self, request: dict) -> Iterator[Event]:
        """Yield what a request tells. One that is refused changes nothing.

        Raises:
            InputError: It makes no sense.
        """
        kinds = [kind for kind in KINDS if kind in request]
        if len(kinds) != 1:
            raise InputError(
                'A request has one of "scan", "line" and "end". Received: '
                f"{', '.join(map(repr, list(request)[:5])) or 'none'}."
            )
        return {"scan": self._scan, "line": self._line, "end": self._end}[kinds[0]](request)

    def left(self, reason: str) -> Iterator[Event]:
        """Yield the end of the scan that is on, if any, since nobody sends its lines."""
        if self._frame is not None:
            yield self._ended(reason)

    def _scan(self, request):
        frame, name = _frame(request["scan"]), _text(request["scan"], "name", "")
        yield from self._another("restarted", frame, name)

    def _another(self, reason, frame, name=""):
        if self._frame is not None:
            yield self._ended(reason)
        self._frame, self._came = frame, {FORWARD: 0, BACKWARD: 0}
        yield ScanBegan(frame, name)

    def _line(self, request):
        heights = _heights(request["line"])
        direction = request.get("direction", FORWARD)
        _check(
            direction in (FORWARD, BACKWARD),
            "direction",
            '"forward" or "backward"',
            direction,
        )
        frame = self._frame or Frame(unit="")
        if frame.pixels not in (None, len(heights)):
            raise InputError(
                f"Lines of {frame.pixels} pixels were announced. Received: {len(heights)}. "
                'Begin another "scan".'
            )
        row = request.get("row")
        fits = row is None or _is_count(row, 0, (frame.lines or MOST_LINES) - 1)
        _check(fits, "row", "a row of the scan, from 0 at its top", row)
        number = self._came[direction]
        frame = replace(frame, pixels=len(heights))
        if self._frame is None or number == frame.lines:  # the next of a continuous scan
            yield from self._another(COMPLETE, frame)
            number = 0
        self._frame = frame
        self._came[direction] += 1
        if row is None:
            row = frame.lines - 1 - number if frame.slow == UP and frame.lines else number
        yield Line(number, row, direction, heights, self._clock())

    def _end(self, request):
        _check(request["end"] is True, "end", "true", request["end"])
        path = _text(request, "path")
        if self._frame is None:
            raise InputError("No scan is on that could end.")
        yield self._ended(STOPPED if self._frame.lines else COMPLETE, path)

    def _ended(self, reason, path=None):
        """End the scan: for that reason, unless all of its lines came."""
        came, planned = max(self._came.values()), self._frame.lines
        self._frame = None
        return ScanEnded(COMPLETE if came == planned else reason, path)


def _frame(told):
    if not isinstance(told, dict):
        raise InputError(f'"scan" is an object, {{}} where nothing is known. {_got(told)}')
    lines, pixels, size = (told.get(key) for key in ("lines", "pixels", "size"))
    _check(
        lines is None or _is_count(lines, 1, MOST_LINES),
        "lines",
        "a number of lines",
        lines,
    )
    _check(pixels is None or _is_count(pixels, 2, LONGEST), "pixels", "2 or more", pixels)
    slow = told.get("slow")
    _check(slow in (None, UP, DOWN), "slow", '"up" or "down"', slow)
    size, center = _pair(told, "size"), _pair(told, "center")
    _check(size is None or min(size) > 0, "size", "[width, height] in m", told.get("size"))
    numbers = {key: told.get(key) for key in NUMBERS}
    for key, value in numbers.items():
        _check(value is None or _is_number(value), key, "a number", value)
    return Frame(
        pixels=pixels,
        lines=lines,
        channel=_text(told, "channel", "Z"),
        unit=_text(told, "unit", ""),
        size=size,
        center=center,
        slow=slow,
        **numbers,
    )


def _pair(told, key):
    value = told.get(key)
    fine = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    _check(value is None or fine, key, "a list of two numbers, in m", value)
    return None if value is None else (float(value[0]), float(value[1]))


def _text(told, key, otherwise=None):
    value = told.get(key, otherwise)
    fine = isinstance(value, str) and len(value) <= LONGEST_TEXT
    _check(
        value is otherwise or fine,
        key,
        f"a text of {LONGEST_TEXT} characters at most",
        value,
    )
    return value


def _heights(line):
    """Return the heights of a line: float64 array `(pixels,)`, NaN in its gaps."""
    if not isinstance(line, list) or len(line) < 2:
        raise InputError(f'"line" is a list of 2 heights or more. {_got(line)}')
    for value in line:
        if value is not None and (not isinstance(value, Real) or isinstance(value, bool)):
            raise InputError(
                f'"line" holds numbers, and null where nothing was recorded. {_got(value)}'
            )
    heights = np.array([math.nan if value is None else value for value in line], np.float64)
    if np.abs(heights).max(initial=0, where=np.isfinite(heights)) > LARGEST:
        raise InputError(f'"line" holds heights beyond {LARGEST:g}. Use another unit.')
    return heights


def _is_count(value, least, most):
    return type(value) is int and least <= value <= most


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


def _check(fine, key, wanted, value):
    if not fine:
        raise InputError(f'"{key}" is {wanted}. {_got(value)}')


def _got(value):
    text = repr(value)
    return f"Received: {text if len(text) <= 40 else type(value).__name__}."
