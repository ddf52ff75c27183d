"""The simulator as a microscope: scan after scan of a tip that changes now and then."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from stm_keras.data.dataset import CLASSES
from stm_keras.live.events import DOWN, UP
from stm_keras.live.recorded import RecordedScan
from stm_keras.live.replay import SPEED, PacedSource
from stm_keras.scan import Scan
from stm_keras.simulate import GENERIC_KINDS, SimulationConfig, simulate
from stm_keras.simulate.scanner import CHUNK, LEVELS
from stm_keras.simulate.tip import GENERIC

SEED = 0
PICO, NANO = 1e-12, 1e-9
ATOMS, DIMERS = 0, 1
GOOD = (ATOMS, DIMERS)
# what every watching begins with: the tip is lost in the middle of the first scan and
# comes back in the third, as if somebody had pulsed it
STORY = ((ATOMS, GENERIC), (GENERIC, GENERIC), (GENERIC, ATOMS))
CHANGES, RECOVERS, IS_PULSED = 0.15, 0.5, 0.15  # probabilities, for each scan after them
MIDDLE = (0.4, 0.6)  # share of the lines at which a tip changes, so that both show
CLEAR_GREY, CLEAR_SIGNAL = 6.0, 2.0  # of a lattice that everybody sees, see `Dataset`
TILT = 0.03  # slope of the sample, at most
STEP_PM = 80.0  # standard deviation of the height by which another apex is longer
RECENT = 1000  # scans of which the truth is kept


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated scan, and not told to who watches.

    Args:
        name: str. Of the scan, as in its `ScanBegan`.
        line_labels: int array of shape `(lines,)`. Number in `CLASSES` of each line, in the
            order of acquisition.
        change_line: int. First line with another tip, or None.
    """

    name: str
    line_labels: np.ndarray
    change_line: int | None


class SimulatedSource(PacedSource):
    """A microscope that scans H:Si(100), one frame after the other.

    The tip stays what it is from scan to scan, resolves atoms or dimers most of the time, and
    changes now and then, also within a scan; `truth` tells.

    Args:
        speed, clock, wait: As of `PacedSource`; 10 lines a second unless said.
        seed: int. The same seed gives the same scans.
        scans: int. After so many it ends; None goes on for ever.
        pixels: int. Of a line, and lines of a scan: 32 to 512.

    Raises:
        UsageError: An argument makes no sense.
    """

    def __init__(
        self,
        speed: float | None = None,
        seed: int | None = None,
        scans: int | None = None,
        pixels: int = 128,
        **timing: Callable,
    ):
        speed = SPEED if speed is None else speed
        super().__init__("simulated", self._scans, speed, **timing)
        self._seed, self._count = SEED if seed is None else seed, scans
        self._surface = _Surface(self._seed, pixels, 1 / speed if speed else None)
        self.truth: deque[Truth] = deque(maxlen=RECENT)  # of the scans that began

    def text(self) -> str:
        """Return what the source says of itself when it begins."""
        return "A simulated microscope scans H:Si(100); its tip changes now and then."

    def began(self, scan: RecordedScan) -> None:
        """Note the truth of a scan that begins."""
        self.truth.append(scan.truth)

    def _scans(self, closed):
        states = _states(np.random.default_rng([self._seed, 1]))
        for number, (before, after) in enumerate(islice(states, self._count)):
            scan = self._surface.scan(number, before, after)
            if closed.is_set():
                return
            yield scan


@dataclass(frozen=True)
class SimulatedScan(RecordedScan):
    """A `RecordedScan` and its `Truth`."""

    truth: Truth | None = None


def _states(rng):
    """Yield the class of the tip when a scan begins and when it ends, for ever."""
    yield from STORY
    now = STORY[-1][1]
    while True:
        if now not in GOOD and rng.random() < IS_PULSED:
            now = int(rng.choice(GOOD))  # between two scans
        likely = CHANGES if now in GOOD else RECOVERS
        others = [each for each in range(len(CLASSES)) if each != now]
        then = now
        if rng.random() < likely:
            then = int(rng.choice(others if now in GOOD else GOOD))
        yield now, then
        now = then


class _Surface:
    """One place of one sample in one frame, scanned by any tip.

    The simulator draws many scans at once, so those that are not needed yet are kept.
    """

    def __init__(self, seed, pixels, line_time):
        self._rng = np.random.default_rng([seed, 2])
        self._seed, self._pixels, self._line_time = seed, pixels, line_time
        self._nm = float(self._rng.uniform(3.6, 4.4))
        self._angle = float(self._rng.uniform(0, 180))
        self._tilt = self._rng.uniform(-TILT, TILT, 2)
        self._height = float(self._rng.uniform(-200, 200)) * NANO
        self._kept = defaultdict(deque)  # (before, after) to scans
        self._drawn = defaultdict(int)  # (before, whether it changes) to chunks
        self._config(0, False)  # says what is wrong with `pixels`

    def scan(self, number, before, after):
        kept = self._kept[before, after]
        while not kept:
            self._draw(before, before != after)
        heights, labels, change_line = kept.popleft()
        slow = UP if number % 2 else DOWN
        name = f"scan {number + 1}"
        truth = Truth(name, labels, None if change_line < 0 else int(change_line))
        heights = self._as_recorded(heights, change_line)
        heights = heights[::-1] if slow == UP else heights
        scan = Scan(
            heights=heights,
            valid=np.ones(heights.shape, bool),
            slow=slow,
            size=(self._nm * NANO, self._nm * NANO),
            bias=-2.0,
            setpoint=50e-12,
            angle=0.0,
            line_time=self._line_time,
        )
        return SimulatedScan(scan, name=name, truth=truth)

    def _as_recorded(self, heights, change_line):
        """Put a levelled scan on the tilted sample: float array of heights in m."""
        position = np.arange(self._pixels) * (self._nm * NANO / self._pixels)
        across, along = self._tilt
        drift = self._rng.normal(0, 2 * PICO, self._pixels).cumsum()
        if change_line >= 0:
            drift[change_line:] += self._rng.normal(0, STEP_PM * PICO)
        plane = across * position + (along * position + drift)[:, None]
        return heights * PICO + plane + self._height

    def _draw(self, before, changes):
        """Draw a chunk of scans that begin with a tip, and keep those that show it well."""
        chunk = self._drawn[before, changes]
        self._drawn[before, changes] += 1
        seed = int(
            np.random.SeedSequence([self._seed, before, changes]).generate_state(1)[0]
        )
        drawn = simulate(CHUNK, seed, self._config(before, changes), start=chunk * CHUNK)
        grey, signal = (drawn.parameters[n] for n in ("visible_grey", "signal_to_noise"))
        clear = (grey > CLEAR_GREY) & (signal > CLEAR_SIGNAL)
        blank = drawn.parameters["generic_kind"] == GENERIC_KINDS.index("flat")
        pm = drawn.parameters["z_range_pm"] / LEVELS
        low, high = (share * self._pixels for share in MIDDLE)
        for index, (labels, change_line) in enumerate(
            zip(drawn.line_labels, drawn.change_line, strict=True)
        ):
            ends = labels[0], labels[-1]
            seen = not blank[index] and all(
                clear[index, slot] or label == GENERIC for slot, label in enumerate(ends)
            )
            if seen and ends[0] == before and (low <= change_line <= high or not changes):
                heights = drawn.images[index] * pm[index]
                self._kept[before, int(ends[1])].append((heights, labels, change_line))

    def _config(self, before, changes):
        prior = [float(each == before) for each in range(len(CLASSES))]
        return SimulationConfig(
            size=self._pixels,
            class_prior=tuple(prior),
            p_tip_change=float(changes),
            p_partial=0.0,
            p_medium=0.0,
            p_large=0.0,
            small_nm=(self._nm, self._nm),
            angle_deg=(self._angle, self._angle),
        )
