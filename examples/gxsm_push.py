"""GXSM 4: every line of the scan that runs, to `stm-keras watch`; runs inside GXSM.

Put push_lines.py into a folder and its name into FOLDER. Start
`stm-keras watch push://127.0.0.1:4000` in a terminal, set *Script Control* to 1 in GXSM, and run
this file in its *Pyremote Console*. Script Control 0 ends it.

GXSM is only asked: `waitscan(False)`, -1 or the line that is recorded, twice a second;
`y_current()` after the end; `get_dimensions` and `get_geometry` once a scan; and `get_slice` for
rows that are new. Heights come in Angstrom, line 0 on top, whichever way the scan goes.

Written from the public sources (github.com/pyzahl/Gxsm4, plug-ins/common/pyremote.cpp) and not
tried in a real GXSM. A line is taken when the next one is recorded, or the scan is over. Where
scans follow one another without a pause, the last line of each is left out; where only a part of
the frame is scanned, what the rest holds is pushed as well. Backward lines are a channel of their
own and are left out.
"""

import sys

FOLDER = ""  # that holds push_lines.py; "" where Python finds it
PORT = 4000
CHANNEL = 0  # the topography, counted from 0
ANGSTROM = 1e-10
TENTHS = 5  # of a second between two questions

if FOLDER:
    sys.path.append(FOLDER)

import gxsm  # noqa: E402
from push_lines import Push, summary  # noqa: E402


class Follower:
    """Pushes the scans of GXSM.

    Args:
        push: `Push`.
    """

    def __init__(self, push):
        self.push = push
        self.line = -1  # that was recorded at the last look; -1 without a scan
        self.slow = None  # "up" or "down", once the line has moved
        self.lines, self.done = 0, 0
        self.pace = 0  # most lines from one look to the next

    def look(self):
        """Push the lines that are complete since the last call."""
        line = int(gxsm.waitscan(False))
        if self.line < 0:
            if line >= 0:
                self.begin(line)
            return
        if line < 0:
            self.finish()
            return
        moved = "down" if line > self.line else "up"
        if line != self.line and self.slow not in (None, moved):  # the next scan
            self.push.end()
            self.begin(line)
        elif line != self.line:
            self.pace = max(self.pace, abs(line - self.line))
            self.slow, self.line = moved, line
            self.take(line if moved == "down" else self.lines - 1 - line)

    def begin(self, line):
        """Announce a scan."""
        pixels, self.lines = map(int, gxsm.get_dimensions(CHANNEL)[:2])
        width, height = gxsm.get_geometry(CHANNEL)[:2]
        size = [width * ANGSTROM, height * ANGSTROM] if min(width, height) > 0 else None
        self.push.begin(lines=self.lines, pixels=pixels, size=size, channel="Z", unit="m")
        self.line, self.slow, self.done, self.pace = line, None, 0, 0

    def finish(self):
        """Push the last lines of a scan that is over."""
        line = int(gxsm.y_current())
        passed = line if self.slow == "down" else self.lines - 1 - line
        if self.slow and abs(line - self.line) <= 2 * self.pace:  # it may be reset by now
            self.take(self.lines if passed >= self.lines - 1 else passed)
        self.push.end()
        self.line = -1

    def take(self, complete):
        """Push the lines up to so many, counted as they were scanned."""
        new = min(complete, self.lines) - self.done
        if new <= 0:
            return
        down = self.slow == "down"
        first = self.done if down else self.lines - self.done - new
        heights = gxsm.get_slice(CHANNEL, 0, 0, first, new)
        if isinstance(heights, int):  # -1: the channel has fewer lines by now
            return
        rows = range(first, first + new)
        for row in rows if down else reversed(rows):
            self.push.line(heights[row - first] * ANGSTROM, row)
        self.done += new


def main():
    """Push until Script Control is 0."""
    push = Push(PORT)
    follower = Follower(push)
    try:
        while gxsm.get("script-control") > 0:
            follower.look()
            for text in filter(None, map(summary, push.talk())):
                print(text)
            gxsm.sleep(TENTHS)
    finally:
        push.close()


main()
