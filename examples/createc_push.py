"""Createc STMAFM: every line of the scan that runs, to `stm-keras watch`.

Start STMAFM, then in one window `stm-keras watch push://127.0.0.1:4000`, in another

    pip install pywin32 numpy
    python createc_push.py 4000                  also --backward

with push_lines.py in the same folder. Ctrl-C ends it.

Once a second STMAFM is asked over COM (`pstmafm.stmafmrem`) whether it scans (`scanstatus` is
2), and if so for the whole picture (`scandata(1, 4)`: topography forward, in nm; 257: backward).
Rows that differ from the picture before the scan are new; the last of them may still be
recorded and waits for the next. Nothing is ever set: only `scanstatus`, `scandata` and
`getparam` are used.

Not tried on a real STMAFM. Unknown are: whether `scandata` answers during a scan with the rows so
far; what the rest of the picture holds meanwhile (zeros and the scan before both work);
whether rows come first (a picture that is not square is turned as `Num.X` and `Num.Y` say, for
a square one set TURNED where the page shows it so); whether backward lines are mirrored.
"""

import sys
import time

import numpy as np
from push_lines import Push, summary

EVERY = 1.0  # s between two questions; each makes STMAFM copy the whole picture
PATIENCE = 60.0  # s for which STMAFM may be busy
TURNED = False
SCANNING = 2  # `scanstatus`
NM = 4  # the unit of `scandata`
CHANNELS = {"forward": 1, "backward": 257}
FRAME = {  # what is told of a scan: name of the parameter, its unit in SI
    "bias": ("Biasvolt.[mV]", 1e-3),
    "angle": ("Rotation", 1.0),
}


class Rows:
    """Which rows of a scan are complete, from one picture to the next.

    Args:
        before: float array `(lines, pixels)`. The picture before the scan.
    """

    def __init__(self, before):
        self.before = before
        self.begun = None  # first and last row that differ from it
        self.slow = None  # "up" or "down", once that is seen
        self.done = 0

    def new(self, picture, over=False):
        """Return the rows that are complete since the last call, in the order of the scan.

        Args:
            picture: float array `(lines, pixels)`.
            over: bool. The scan is over: all of its rows are complete if it came to its end.
        """
        rows = np.flatnonzero(differ(picture, self.before))
        if not len(rows):
            return []
        first, last = rows[0], rows[-1]
        if self.begun is None:
            self.begun = first, last
        elif self.slow is None and last > self.begun[1]:
            self.slow = "down"
        elif self.slow is None and first < self.begun[0]:
            self.slow = "up"
        if self.slow is None and not over:
            return []
        down = self.slow != "up"
        order = (
            range(self.begun[0], last + 1) if down else range(self.begun[1], first - 1, -1)
        )
        whole = over and order[-1] == (len(picture) - 1 if down else 0)
        complete = order if whole else order[:-1]
        new, self.done = list(complete[self.done :]), max(self.done, len(complete))
        return new


class Follower:
    """Pushes the scans of a microscope.

    Args:
        stm: COM object `pstmafm.stmafmrem`, of this thread.
        push: `Push`.
        directions: list of str.
    """

    def __init__(self, stm, push, directions=("forward",)):
        self.stm, self.push, self.directions = stm, push, directions
        self.scanning, self.shapes = False, None
        self.before = None  # the pictures before the scan
        self.rows = {}

    def pictures(self):
        """Return the pictures of now: dict of direction to float array in m."""
        return {each: picture(self.stm, CHANNELS[each]) for each in self.directions}

    def look(self):
        """Push the lines that are complete since the last call."""
        if self.before is None:
            self.before = self.pictures()
        scanning = self.stm.scanstatus == SCANNING
        if not scanning and not self.scanning:
            return
        now = self.pictures()
        if not all(each.size for each in now.values()):
            return  # there is none yet
        shapes = {each.shape for each in now.values()}
        if not self.scanning or shapes != self.shapes:
            self.begin(now)
        for direction, rows in self.rows.items():
            for row in rows.new(now[direction], over=not scanning):
                self.push.line(now[direction][row], row, direction)
        self.scanning, self.shapes = scanning, shapes
        if not scanning:
            self.push.end()
            self.before = now

    def begin(self, now):
        """Announce a scan."""
        lines, pixels = now["forward"].shape
        size = parameter(self.stm, "Length x[A]"), parameter(self.stm, "Length y[A]")
        known = {
            name: parameter(self.stm, key, unit) for name, (key, unit) in FRAME.items()
        }
        known["size"] = None if None in size else [each * 1e-10 for each in size]
        self.push.begin(lines=lines, pixels=pixels, channel="Z", unit="m", **known)
        self.rows = {
            each: Rows(before(old, now[each])) for each, old in self.before.items()
        }


def before(old, now):
    """Return the picture before a scan that has just begun.

    It is the one that was seen last, unless half of the rows are others by now: then somebody
    has loaded a file meanwhile, or chosen another size.
    """
    if old.shape != now.shape:
        old = np.zeros_like(now)
    return now if differ(now, old).mean() > 0.5 else old


def differ(now, old):
    """Tell which rows were recorded since an older picture: bool array `(lines,)`."""
    return ((now != old) & (now != 0)).any(1)


def picture(stm, channel):
    """Return a picture: float array `(lines, pixels)` in m, empty before the first scan."""
    heights = np.array(stm.scandata(channel, NM), float)
    lines, pixels = (parameter(stm, key) for key in ("Num.Y", "Num.X"))
    if heights.ndim == 1 and lines and pixels and heights.size == lines * pixels:
        heights = heights.reshape(int(lines), int(pixels))
    if heights.ndim != 2:
        return np.zeros((0, 0))
    turned = TURNED if lines == pixels else heights.shape == (pixels, lines)
    return (heights.T if turned else heights) * 1e-9


def parameter(stm, name, unit=1.0):
    """Return a parameter of the scan as a number in SI, None where it is none."""
    try:
        return float(stm.getparam(name)) * unit
    except (TypeError, ValueError):
        return None


def main(port, directions):
    """Push until Ctrl-C, or until STMAFM does not answer any more."""
    import win32com.client
    from pywintypes import com_error

    try:
        stm = win32com.client.Dispatch("pstmafm.stmafmrem")
    except com_error as error:
        sys.exit(f"Error: STMAFM cannot be reached ({error}). Start it first.")
    push, heard = Push(port), time.monotonic()
    follower = Follower(stm, push, directions)
    try:
        while time.monotonic() < heard + PATIENCE:
            try:
                follower.look()
                heard = time.monotonic()
            except com_error:  # busy. Another `Dispatch` could start STMAFM again
                pass
            for text in filter(None, map(summary, push.talk())):
                print(text, flush=True)
            time.sleep(EVERY)
        sys.exit(f"Error: STMAFM did not answer for {PATIENCE:g} s. Start this again.")
    except KeyboardInterrupt:
        pass
    finally:
        push.close()


if __name__ == "__main__":
    options = sys.argv[1:]
    if not options or not options[0].isdecimal() or options[1:] not in ([], ["--backward"]):
        sys.exit("Usage: python createc_push.py PORT [--backward]")
    main(int(options[0]), list(CHANNELS)[: len(options)])
