"""The lines of a scan as a page draws them: levelled, with their verdicts, ready for JSON."""

import base64
from collections import deque

import numpy as np

from stm_keras.data.preprocess import remove_line_trend
from stm_keras.live.events import Line
from stm_keras.scan import bridge_gaps

MOST_LINES = 2 * 4096  # of both directions; of an endless scan the last are kept
MOST_PIXELS = 1024  # of a line that are drawn
SHARES = (2, 98)  # % of the heights between which the colours lie
RECENT = 512  # lines whose limits are looked at, as this is done anew for each line
OUTER = (10, 90)  # % of the lines whose limits count, so that no single line sets them


class ScanPicture:
    """What is known of a scan for the eye: its `scan` record, and lines in the order they came.

    Each line is a dict:

    - `line`, `row`, `direction`, `lost`, `verdict`, `class`, `change_line`: of its record;
    - `tip`: list of float, the probability of each class for the tip of now, or None;
    - `now`: the verdict on the tip of now;
    - `heights`: levelled heights in the unit of the scan, from left to right, as the Base64 of
      little-endian float32; None of a lost line;
    - `range`: list of two float, the heights of the darkest and the brightest colour when the
      line came;
    - `sent`: float, when the source told of it, in ms since 1970.
    """

    def __init__(self, record: dict):
        self.record = record
        self.lines: deque[dict] = deque(maxlen=MOST_LINES)
        self._limits: dict[str, deque[tuple[float, float]]] = {}  # of lines, by direction

    def add(self, line: Line, record: dict, sent: float) -> dict:
        """Take a line of the source and the record that came of it; return it for a page."""
        now = record.get("since_change") or record
        shares = now.get("probabilities")
        heights, limits = self._draw(line, record.get("lost"))
        drawn = {
            **{key: record.get(key) for key in ("line", "row", "direction", "lost")},
            **{key: record.get(key) for key in ("verdict", "class", "change_line")},
            "now": None if record.get("lost") else now.get("verdict"),
            "tip": shares and [round(each, 4) for each in shares.values()],
            "heights": heights,
            "range": limits,
            "sent": round(1e3 * sent, 1),
        }
        self.lines.append(drawn)
        return drawn

    def _draw(self, line, lost):
        limits = self._limits.setdefault(line.direction, deque(maxlen=RECENT))
        heights = None
        bridged = bridge_gaps(np.asarray(line.heights)[None])[0]
        levelled = remove_line_trend(bridged)[:: -(-bridged.size // MOST_PIXELS)]
        if not lost and np.isfinite(levelled).all():
            limits.append(tuple(np.percentile(levelled, SHARES)))
            heights = base64.b64encode(levelled.astype("<f4").tobytes()).decode("ascii")
        if not limits:
            return heights, None
        low, high = np.transpose(limits)
        low, high = np.percentile(low, OUTER[0]), np.percentile(high, OUTER[1])
        return heights, [float(low), float(max(high, low + np.finfo(np.float32).tiny))]
