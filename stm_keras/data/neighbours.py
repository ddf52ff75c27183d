"""Search many reduced scans for the few that may show the same patch of a surface."""

import numpy as np

from stm_keras.data import matching

_CHUNK = 64  # pairs at a time, so that they stay in the processor's cache
_CLOSEST = {"as is": 12, "changed": 6}  # for each scan, flip and kind of descriptor
_TRIALS = {"as is": 80, "changed": 12}  # shifts tried for each scan


class Neighbours:
    """Reduced scans with all that is needed to find one of them fast.

    Of all pairs only the closest by power spectrum are compared, and of these only
    the most likely shifts. The numbers above find nearly as much as many more do.

    Args:
        scans: float32 array of shape `(scans, SIZE, SIZE)` from `match.reduce_scans`.
    """

    def __init__(self, scans):
        self.scans = scans
        blocks = [scans[start : start + 256] for start in range(0, len(scans), 256)]
        self.descriptors = np.concatenate([matching.describe(block) for block in blocks])
        self.mean, self.spread = self.descriptors.mean(0), self.descriptors.var(0)
        self.mean = (self.mean + self.mean[:, ::-1]) / 2
        self.spread = np.sqrt((self.spread + self.spread[:, ::-1]) / 2) + 1e-3
        self.descriptors = self._normalise(self.descriptors)
        self.spectra = np.concatenate([matching.coarse_spectra(block) for block in blocks])

    def search(self, block, start, changed, threshold, rows):
        """Find scans like those of a block.

        Args:
            block: float array of shape `(block, SIZE, SIZE)`.
            start: int. Index of the block's first scan among all.
            changed: bool. The block was turned or zoomed. If not, a pair is found from
                its first scan only.
            threshold: float. Least similarity.
            rows: int. Least number of lines of the overlap with structure in both.

        Returns:
            list of tuples (first scan, second scan, flip, shift, similarity).
        """
        trials = self._trials(block, start, changed)
        best = {}
        for at in range(0, len(trials), _CHUNK):
            own, other, flip, down, right = trials[at : at + _CHUNK, :5].T
            second = self.scans[other]
            for kind in (1, 2, 3):
                second[flip == kind] = matching.flip(second[flip == kind], kind)
            shifts = np.stack([down, right], axis=1)
            similarity, common = matching.similarity(block[own], second, shifts)
            for i in np.flatnonzero((similarity >= threshold) & (common >= rows)):
                pair = (start + own[i], other[i])
                if pair not in best or similarity[i] > best[pair][-1]:
                    best[pair] = (flip[i], shifts[i], float(similarity[i]))
        return [(*pair, *how) for pair, how in best.items()]

    def _trials(self, block, start, changed):
        """Most likely shifts: int array of (own, other, flip, down, right, height)."""
        spectra = matching.coarse_spectra(block)
        found = []
        for mirrored, pairs in enumerate(self._candidates(block, start, changed)):
            for at in range(0, len(pairs), _CHUNK):
                own, other = pairs[at : at + _CHUNK].T
                for flip in ((0, 3), (1, 2))[mirrored]:
                    flipped = matching.flip_spectra(self.spectra[other], flip)
                    shifts, heights = matching.find_shifts(spectra[own], flipped)
                    trials = np.empty((*heights.shape, 6), int)
                    trials[:, :, 0], trials[:, :, 1] = own[:, None], other[:, None]
                    trials[:, :, 2], trials[:, :, 3:5] = flip, shifts
                    trials[:, :, 5] = 1e6 * heights
                    found.append(trials.reshape(-1, 6))
        if not found:
            return np.empty((0, 6), int)
        found = np.concatenate(found)
        found = found[np.lexsort((-found[:, 5], found[:, 0]))]
        rank = np.arange(len(found)) - np.searchsorted(found[:, 0], found[:, 0])
        return found[rank < _TRIALS["changed" if changed else "as is"]]

    def _candidates(self, block, start, changed):
        """Yield int arrays of (own, other), the closest scans, unmirrored and mirrored."""
        spectra = matching.describe(block)
        own = np.arange(start, start + len(block))[:, None]
        others = np.arange(len(self.scans))
        barred = own == others if changed else own >= others
        count = min(_CLOSEST["changed" if changed else "as is"], len(self.scans))
        for mirrored in (False, True):
            parts = self._normalise(spectra[:, :, ::-1] if mirrored else spectra)
            whole = self._closeness(parts, [(0, 0), (1, 1)])
            measures = [whole]
            if not mirrored and not changed:  # a corner here is the opposite one there
                measures.append(self._closeness(parts, [(2, 5), (3, 4), (4, 3), (5, 2)]))
            picked = np.zeros(barred.shape, bool)
            for closeness in measures:
                closeness[barred] = -np.inf
                top = np.argpartition(closeness, -count, axis=1)[:, -count:]
                np.put_along_axis(picked, top, True, axis=1)
            yield np.argwhere(picked & ~barred)

    def _closeness(self, parts, which):
        products = (parts[:, own] @ self.descriptors[:, other].T for own, other in which)
        closeness = next(products)
        for product in products:
            np.maximum(closeness, product, out=closeness)
        return closeness

    def _normalise(self, spectra):
        """Scale descriptors to length 1: array `(scans, parts, rows * columns)`."""
        out = spectra - self.mean
        out /= self.spread
        out = out.reshape(*spectra.shape[:2], -1)
        out /= np.sqrt(np.einsum("spd,spd->sp", out, out))[:, :, None] + 1e-9
        return out
