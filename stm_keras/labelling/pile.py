"""The scans that are to be labelled: read once, and shown to each rater in an order of their own.

pile = Pile(find_files([Path("scans")]), folder)
for number in sitting(pile.cards, "Ada"):
    heights = pile.heights(pile.cards[number])
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from stm_keras.errors import OutputError, StmKerasError
from stm_keras.files import why_unwritten
from stm_keras.inference.find_files import InputFile
from stm_keras.live.recorded import RecordedScan, recorded_scans
from stm_keras.scan import Scan, scan_hash

MOST_PIXELS = 512  # of a line, and lines, that are shown
AGAIN = 20  # every 20th picture is one that the rater has seen
APART = 10  # pictures at least between the two, where there are so many


@dataclass(frozen=True)
class Card:
    """A scan that is to be labelled.

    Args:
        index: int. Number of the scan in its file.
        scan: str. Its `scan_hash`.
        session: str. Its folder.
        name: str. As a rater reads it.
        lines: int. Lines that were recorded.
        rows: tuple of int. Row of the frame of each line, in the order of acquisition.
        shape: (rows, pixels) of the frame as it is shown.
        ratio: float. Width of the frame over its height.
        frame: str. How it was recorded, in words.
        places: tuple of int. Where heights begin in the store: forward, and backward if it is
            there.
    """

    path: Path
    index: int
    scan: str
    session: str
    name: str
    lines: int
    rows: tuple[int, ...]
    shape: tuple[int, int]
    ratio: float
    frame: str
    places: tuple[int, ...]


class Pile:
    """Scans of files, each once, with what is shown of them in a temporary file.

    Args:
        files: `InputFile` of each, as `find_files` finds them.
        folder: in which the temporary file lies.
        progress: takes each file that is done.
        judge: callable of a `Scan` that returns the record of a verdict; None for none.

    Attributes:
        cards: list of `Card`.
        verdicts: list of what `judge` says of each card.
        errors: list of errors, of files and scans that cannot be read.

    Raises:
        OutputError: The folder is full, or cannot be written.
    """

    def __init__(
        self,
        files: Iterable[InputFile | None],
        folder: Path,
        progress: Callable[[Path], object] = lambda path: None,
        judge: Callable[[Scan], dict] | None = None,
    ):
        self.cards: list[Card] = []
        self.errors: list[StmKerasError] = []
        self.verdicts: list[dict] = []
        self._folder, self._seen, self._judge = folder, set(), judge
        try:
            self._store = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it ends with us
        except OSError as error:
            raise OutputError(why_unwritten(folder, error)) from None
        for file in files:
            if file is not None:
                self._take(file)
                progress(file.path)

    def close(self) -> None:
        """Remove the temporary file."""
        self._store.close()

    def heights(self, card: Card, backward: bool = False) -> np.ndarray:
        """Return the frame of a scan: float32 array `(rows, pixels)`, NaN where nothing was
        recorded, in its unit, from its median.
        """
        values = np.empty(card.shape, np.float32)
        self._store.seek(card.places[backward])
        self._store.readinto(values)
        return values

    def _take(self, file):
        try:
            if file.error is not None:
                raise file.error
            for recorded in recorded_scans(file.path):
                if isinstance(recorded, RecordedScan):
                    self._add(file, recorded)
                else:
                    self.errors.append(recorded)
        except StmKerasError as error:
            if not file.leave_out(error):
                self.errors.append(error)

    def _add(self, file, recorded):
        scan = recorded.scan
        known = scan_hash(scan.lines())
        if known in self._seen:
            return
        self._seen.add(known)
        if self._judge is not None:
            self.verdicts.append(self._judge(scan))
        rows, pixels = (-(-side // MOST_PIXELS) for side in scan.heights.shape)
        images = [scan] if recorded.backward is None else [scan, recorded.backward]
        frames = [image.frame()[::rows, ::pixels] for image in images]
        level = np.nanmedian(frames[0]) if np.isfinite(frames[0]).any() else 0.0
        places = tuple(self._keep(frame - level) for frame in frames)
        size = scan.size or scan.heights.shape[::-1]
        self.cards.append(
            Card(
                path=file.path,
                index=scan.index,
                scan=known,
                session=str(file.path.parent),
                name=recorded.name,
                lines=len(scan.recorded),
                rows=tuple((scan.recorded // rows).tolist()),
                shape=frames[0].shape,
                ratio=float(np.clip(size[0] / size[1], 0.1, 10)),
                frame=_words(scan),
                places=places,
            )
        )

    def _keep(self, frame):
        try:
            place = self._store.seek(0, 2)
            self._store.write(np.ascontiguousarray(frame, np.float32).tobytes())
        except OSError as error:
            raise OutputError(why_unwritten(self._folder, error)) from None
        return place


def sitting(
    cards: Sequence[Card], rater: str, certainty: Sequence[float] | None = None
) -> list[int]:
    """Return the numbers of cards in the order in which a rater is to see them.

    The order is random, the same each time for the same rater, and another one for others. Every
    `AGAIN`th is one that came before, each at most once more, which tells how well a rater agrees
    with themselves.

    Args:
        certainty: of a model on each card, from 0 to 1. Then every other card is the least
            certain one that is left, instead of a random one. Of both, no session has more than
            its share of what has come so far.
    """
    seed = int.from_bytes(hashlib.sha256(rater.encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(cards)).tolist()
    if certainty is not None:
        order = _least_certain_first(cards, order, certainty)
    shown: list[int] = []
    again: list[int] = []
    for number in order:
        if len(shown) % AGAIN == AGAIN - 1:
            early = [each for each in shown[: len(shown) - APART] if each not in again]
            again.append(int(rng.choice(early)))
            shown.append(again[-1])
        shown.append(number)
    return shown


def _least_certain_first(cards, order, certainty):
    """Mix the least certain cards half and half with random ones, no session above its share."""
    sizes = Counter(card.session for card in cards)
    queues = [sorted(order, key=lambda number: certainty[number]), list(order)]
    taken, drawn, mixed = set(), Counter(), []
    while len(mixed) < len(cards):
        count = len(mixed) + 1
        left = [each for each in queues[len(mixed) % 2] if each not in taken]
        fair = (
            each
            for each in left
            if drawn[cards[each].session]
            < ceil(count * sizes[cards[each].session] / len(cards))
        )
        number = next(fair, left[0])
        taken.add(number)
        drawn[cards[number].session] += 1
        mixed.append(number)
    return mixed


def _words(scan):
    lines, pixels = scan.heights.shape
    words = [f"{lines} x {pixels} px"]
    if scan.size is not None:
        words.append(" x ".join(f"{1e9 * side:.4g}" for side in scan.size) + " nm")
    words += [scan.slow] if scan.slow else []
    words += [f"{scan.bias:.3g} V"] if scan.bias is not None else []
    return ", ".join(words)
