"""Find scans that show the same patch of a surface: copies, and scans done again."""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stm_keras.data import matching
from stm_keras.data.cells import Cells, join_nearest
from stm_keras.errors import DatasetError

KINDS = ("exact", "same place", "shifted", "flipped", "rotated", "zoomed")
THRESHOLD = 0.74
MIN_LINES = 12  # of matching.SIZE: fewer lines with structure prove nothing
ZOOMS = (1.05, 1.1, 1.15)
_BLOCK = 128  # scans read at a time
_CHUNK = 64  # pairs at a time, so that they stay in the processor's cache
# Windows of `matching.describe`: after a large shift a corner here shows the opposite one there.
_CORNERS = [(2, 5), (3, 4), (4, 3), (5, 2)]
# For each scan. "changed": it was turned or zoomed first.
_CLOSEST = {"as is": 12, "changed": 6}  # other scans, for each flip and kind of descriptor
_TRIALS = {"as is": 80, "changed": 12}  # shifts of all these

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Duplicates:
    """Pairs of scans that show the same patch of a surface, sorted.

    Exact copies are paired with the first of them only.
    """

    first: np.ndarray  # int (pairs,): indices of scans, first < second
    second: np.ndarray
    kind: np.ndarray  # str (pairs,), from `KINDS`
    score: np.ndarray  # float (pairs,), `THRESHOLD` to 1
    groups: np.ndarray  # int (scans,): the same number for scans that are paired or chained

    def __len__(self):
        return len(self.first)

    def counts(self) -> dict[str, int]:
        """Count the pairs of each kind that occurs."""
        return {kind: n for kind in KINDS if (n := int((self.kind == kind).sum()))}


def find_duplicates(
    images: Any, lines: ArrayLike | None = None, progress: Progress | None = None
) -> Duplicates:
    """Find pairs of scans that show the same patch of a surface in the same tip state.

    A pair is a duplicate if, after the best flip, quarter turn, zoom (to about 1.17)
    and shift (to a quarter of the scan), the whitened spectra of the overlap correlate
    by `THRESHOLD` or more, in `MIN_LINES` lines with structure at least. Whitening takes the
    lattice's weight away, so defects and noise must match too: neighbouring scans of one
    lattice typically reach 0.5, copies with noise of 0.3 standard deviations 0.77 and more,
    other copies 0.9. Of 8.0 million pairs of real scans from different sessions, which cannot
    be copies, 2 pass. A scan
    of the same place done again does pass, and should: it belongs on the same side of
    a split as much as a copy does.

    Not found: turns by other angles than 90 degrees, inverted heights, near copies of
    scans with fewer than a third of their lines recorded or structured. Lines without
    structure are no evidence, so constant scans are nobody's duplicates.

    Where sessions are unknown, the groups of the result are those of a split, counted from 0
    by the first scan of each.

    Args:
        images: array-like of shape `(scans, lines, pixels)`, read in blocks.
        lines: int array of shape `(scans,)`. Recorded lines, all by default.
        progress: takes what is done, and the total.

    Raises:
        DatasetError: `images` or `lines` has another shape.
    """
    recorded = _check(images, lines)
    views = [("", None), ("rotated", None), *(("zoomed", factor) for factor in ZOOMS)]
    total = -(-len(recorded) // _BLOCK) * (1 + len(views))
    steps = itertools.count(1)

    def advance():
        step = next(steps)
        if progress and step < total:
            progress(step, total)

    upright, turned, digests = _reduce(images, recorded, advance)
    pairs, unique = _exact_pairs(upright, digests)
    scans = np.flatnonzero(unique & (upright.any(-1).sum(-1) >= MIN_LINES))
    upright, turned = upright[scans], turned[scans]
    nearest: Any = NearestScans(upright) if len(scans) > 1 else None
    for kind, factor in views if nearest else ():
        view = turned if kind == "rotated" else upright
        found = nearest.search(view, factor, changed=bool(kind), advance=advance)
        for first, second, flip, shift, score in found:
            moved = "shifted" if np.abs(shift).max() > 1 else "same place"
            name = kind or ("flipped" if flip else moved)
            pairs.append((scans[first], scans[second], name, score))
    if progress and total:
        progress(total, total)
    return _collect(pairs, len(recorded))


def _check(images, lines):
    shape = tuple(images.shape)
    if len(shape) != 3:
        raise DatasetError(
            f"`images` must have the shape (scans, lines, pixels). Received: {shape}."
        )
    if lines is None:
        return np.full(shape[0], shape[1])
    lines = np.asarray(lines)
    if lines.shape != shape[:1]:
        raise DatasetError(
            f"`lines` must hold one number for each of {shape[0]} scans. Received: an "
            f"array of shape {lines.shape}."
        )
    return lines


def _reduce(images, lines, advance):
    """Reduce all scans, upright and turned by 90 degrees, and digest their bytes."""
    upright = np.empty((len(lines), matching.SIZE, matching.SIZE), np.float32)
    turned = np.empty_like(upright)
    digests = []
    for start in range(0, len(lines), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = np.asarray(images[part])
        upright[part] = matching.reduce_scans(block, lines[part])
        recorded = np.arange(block.shape[1]) < lines[part][:, None]
        sideways = np.rot90(np.where(recorded[..., None], block, 0), axes=(1, 2))
        turned[part] = matching.reduce_scans(sideways, np.full(len(block), block.shape[2]))
        for scan, count in zip(block, lines[part], strict=True):
            digests.append(hashlib.sha256(np.ascontiguousarray(scan[:count])).digest())
        advance()
    return upright, turned, digests


def _exact_pairs(upright, digests):
    seen = {}
    pairs = []
    unique = np.zeros(len(digests), bool)
    for scan in np.flatnonzero(upright.any((1, 2))):
        first = seen.setdefault(digests[scan], scan)
        unique[scan] = first == scan
        if first != scan:
            pairs.append((first, scan, "exact", 1.0))
    return pairs, unique


def _collect(pairs, count):
    best = {}
    for one, two, kind, score in pairs:
        pair = (int(min(one, two)), int(max(one, two)))
        if pair not in best or score > best[pair][1]:
            best[pair] = (kind, min(float(score), 1.0))
    rows = [(*pair, *best[pair]) for pair in sorted(best)]
    first, second, kind, score = zip(*rows, strict=True) if rows else ((),) * 4
    return Duplicates(
        first=np.array(first, int),
        second=np.array(second, int),
        kind=np.array(kind, str),
        score=np.array(score, float),
        groups=_connect(first, second, count),
    )


def _connect(first, second, count):
    """Number the connected parts of a graph, by their smallest member."""
    parent = list(range(count))

    def root(scan):
        while parent[scan] != scan:
            parent[scan] = parent[parent[scan]]
            scan = parent[scan]
        return scan

    for one, two in zip(first, second, strict=True):
        low, high = sorted((root(one), root(two)))
        parent[high] = low
    roots = np.array([root(scan) for scan in range(count)], int)
    return np.unique(roots, return_inverse=True)[1]


class NearestScans:
    """Reduced scans `(scans, SIZE, SIZE)` with all that finds one of them fast.

    Of all pairs only the closest by power spectrum are compared, and of these only
    the most likely shifts. `_CLOSEST` and `_TRIALS` find nearly as much as many more do.
    The closest are looked for in some cells of scans that are alike, see `Cells`.
    """

    def __init__(self, scans):
        self.scans = scans
        # (scans, 6 windows, rows, columns). Mean and spread are made alike for a spectrum
        # and its mirror image, so that one of a flipped scan is normalised as it should be.
        spectra = _in_blocks(matching.describe, scans)
        self.mean, self.spread = spectra.mean(0), spectra.var(0)
        self.mean = (self.mean + self.mean[:, ::-1]) / 2
        self.spread = np.sqrt((self.spread + self.spread[:, ::-1]) / 2) + 1e-3
        self.descriptors = self._normalise(spectra)
        self.cells = [Cells(window) for window in self.descriptors.swapaxes(0, 1)]
        self.spectra = _in_blocks(matching.coarse_spectra, scans)

    def search(self, view, factor, changed, advance):
        """Yield pairs: (first scan, second scan, flip, shift, similarity).

        `view` holds all scans, as they are or turned, to be zoomed by `factor` if there is one.
        Of a view that is `changed` by either, each scan is compared with all; else a pair is
        found from its first scan only. `advance` is called after every block.
        """

        def change(block):
            return matching.zoom(block, factor) if factor else block

        nearest = list(self._nearest(view, change, changed))
        for start in range(0, len(view), _BLOCK):
            part = slice(start, start + _BLOCK)
            candidates = [
                pairs[slice(*np.searchsorted(pairs[:, 0], (start, part.stop)))] - (start, 0)
                for pairs in nearest
            ]
            yield from self._search_block(change(view[part]), start, candidates, changed)
            advance()

    def _search_block(self, block, start, candidates, changed):
        trials = self._trials(block, candidates, changed)
        best = {}
        for at in range(0, len(trials), _CHUNK):
            own, other, flip, down, right = trials[at : at + _CHUNK, :5].T
            second = self.scans[other]
            for kind in (1, 2, 3):
                second[flip == kind] = matching.flip(second[flip == kind], kind)
            shifts = np.stack([down, right], axis=1)
            similarity, common = matching.similarity(block[own], second, shifts)
            for i in np.flatnonzero((similarity >= THRESHOLD) & (common >= MIN_LINES)):
                pair = (start + own[i], other[i])
                if pair not in best or similarity[i] > best[pair][-1]:
                    best[pair] = (flip[i], shifts[i], float(similarity[i]))
        return [(*pair, *how) for pair, how in best.items()]

    def _trials(self, block, candidates, changed):
        """Return the most likely shifts: int array `(trials, 6)`.

        A row is (scan of the block, other scan, flip, shift down and right, 1e6 times the
        height of the peak).
        """
        spectra = matching.coarse_spectra(block)
        tried = []
        for mirrored, pairs in enumerate(candidates):
            for at in range(0, len(pairs), _CHUNK):
                own, other = pairs[at : at + _CHUNK].T
                # A scan flipped along both axes has the power spectrum that it had.
                for flip in ((0, 3), (1, 2))[mirrored]:
                    flipped = matching.flip_spectra(self.spectra[other], flip)
                    shifts, heights = matching.find_shifts(spectra[own], flipped)
                    trials = np.empty((*heights.shape, 6), int)
                    trials[:, :, 0], trials[:, :, 1] = own[:, None], other[:, None]
                    trials[:, :, 2], trials[:, :, 3:5] = flip, shifts
                    trials[:, :, 5] = 1e6 * heights
                    tried.append(trials.reshape(-1, 6))
        if not tried:
            return np.empty((0, 6), int)
        tried = np.concatenate(tried)
        tried = tried[np.lexsort((-tried[:, 5], tried[:, 0]))]
        # The rank of each among those of its scan, the highest peak first.
        rank = np.arange(len(tried)) - np.searchsorted(tried[:, 0], tried[:, 0])
        return tried[rank < _TRIALS["changed" if changed else "as is"]]

    def _nearest(self, view, change, changed):
        """Return the closest scans to each of a view, unmirrored and mirrored.

        Both are int arrays `(pairs, 2)`: scan of the view, in order, and another.
        """
        if changed:
            spectra = _in_blocks(lambda block: matching.describe(change(block), 2), view)
            own = self._normalise(spectra)
        else:
            own = self.descriptors
        count = _CLOSEST["changed" if changed else "as is"]
        # The scan with the scan, its middle with the middle.
        measures = [[(0, 0), (1, 1)]]
        yield self._closest(
            own, measures if changed else [*measures, _CORNERS], count, changed
        )
        rows = own[:, :2].reshape(len(own), 2, *self.mean.shape[1:])
        yield self._closest(
            rows[:, :, ::-1].reshape(len(own), 2, -1), measures, count, changed
        )

    def _closest(self, own, measures, count, changed):
        """Return int array `(pairs, 2)`: the closest by any measure, each the best of windows."""
        answers = [
            join_nearest(
                [
                    self.cells[there].nearest(own[:, here], count, not changed)
                    for here, there in each
                ],
                count,
            )
            for each in measures
        ]
        return np.stack(join_nearest(answers, len(measures) * count)[:2], axis=1)

    def _normalise(self, spectra):
        """Scale descriptors to length 1, in place: array `(scans, parts, rows * columns)`."""
        parts = spectra.shape[1]
        spectra -= self.mean[:parts]
        spectra /= self.spread[:parts]
        out = spectra.reshape(len(spectra), parts, -1)
        out /= np.sqrt(np.einsum("spd,spd->sp", out, out))[:, :, None] + 1e-9
        return out


def _in_blocks(function, scans):
    """Return what a function makes of scans, block by block: its work takes much memory."""
    first = function(scans[:_BLOCK])
    whole = np.empty((len(scans), *first.shape[1:]), first.dtype)
    whole[: len(first)] = first
    for start in range(_BLOCK, len(scans), _BLOCK):
        whole[start : start + _BLOCK] = function(scans[start : start + _BLOCK])
    return whole
