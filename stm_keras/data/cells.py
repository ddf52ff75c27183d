"""Find the nearest of many vectors by looking only where they are likely to be.

Vectors are halved across the direction along which they differ most, and the halves again,
until a cell holds few. A vector is compared with the members of the cells whose centres are
nearest to it: so many at most, however many there are and however much they are alike.
"""

import itertools

import numpy as np

CELL = 256  # vectors of a cell, at most
PROBES = 24  # cells that are looked into; where there are no more, all is compared with all
_STEPS = 6  # towards the direction of a cut: it need not be the best one
_CHUNK = 512  # vectors compared with a cell at a time
_RULED_OUT = -2  # below any product
_ROUNDING = 1e-5  # of a product, which depends on what else is multiplied with it


class Cells:
    """Vectors `(vectors, size)` of length 1, float32, in cells of those that are alike.

    `compared` counts the products of two vectors that were asked for, centres of cells included.
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors
        self.members = list(_halve(vectors, np.arange(len(vectors))))
        self.centres = np.stack([vectors[members].mean(0) for members in self.members])
        self.compared = 0

    def nearest(self, queries: np.ndarray, count: int, later: bool) -> tuple:
        """Find the vectors nearest to others, none of which is compared with its own number.

        Args:
            queries: float32 array `(vectors, size)`, length 1: each of the vectors, or what
                became of it.
            count: how many are wanted for each.
            later: whether each is compared with those behind it only.

        Returns:
            Tuple of arrays `(pairs,)`: numbers of the queries, in order, and of the vectors,
            and the products of both.
        """
        probes = self._probes(queries)
        # What is among the nearest is no farther than so many of the nearest cell.
        least = np.full(len(queries), _RULED_OUT / 2, np.float32)
        for own, members, products in self._compare(queries, probes[:, :1], later):
            if len(members) >= count:
                last = np.partition(products, -count, axis=1)[:, -count]
                least[own] = np.maximum(least[own], last - _ROUNDING)
        found = []
        for own, members, products in self._compare(queries, probes, later):
            row, column = np.nonzero(products >= least[own, None])
            found.append((own[row], members[column], products[row, column]))
        return _keep_nearest(*map(np.concatenate, zip(*found, strict=True)), count)

    def _probes(self, queries):
        """Return an int array `(queries, probes)`: cells to look into, the nearest first."""
        count = min(PROBES, len(self.members))
        lengths = np.einsum("cs,cs->c", self.centres, self.centres)
        probes = np.empty((len(queries), count), np.int32)
        for start in range(0, len(queries), _CHUNK):
            block = queries[start : start + _CHUNK]
            distances = lengths - 2 * (block @ self.centres.T)
            self.compared += distances.size
            nearest = np.argpartition(distances, (0, count - 1), axis=1)
            probes[start : start + _CHUNK] = nearest[:, :count]
        return probes

    def _compare(self, queries, probes, later):
        """Yield numbers of queries, of the vectors of a cell, and their products."""
        order = np.argsort(probes, axis=None, kind="stable")
        bounds = np.searchsorted(probes.ravel()[order], np.arange(1, len(self.members)))
        asking = np.split(order // probes.shape[1], bounds)
        for members, every in zip(self.members, asking, strict=True):
            vectors = self.vectors[members].T
            for own in np.split(every, range(_CHUNK, len(every), _CHUNK)):
                products = queries[own] @ vectors
                self.compared += products.size
                ruled_out = np.less_equal if later else np.equal
                products[ruled_out(members, own[:, None])] = _RULED_OUT
                yield own, members, products


def join_nearest(answers: list[tuple], count: int) -> tuple:
    """Join answers of `nearest`: so many of each query, each pair at its largest product."""
    own, other, products = map(np.concatenate, zip(*answers, strict=True))
    order = np.lexsort((-products, other, own))
    own, other, products = own[order], other[order], products[order]
    first = np.ones(len(own), bool)
    first[1:] = (own[1:] != own[:-1]) | (other[1:] != other[:-1])
    return _keep_nearest(own[first], other[first], products[first], count)


def _keep_nearest(own, other, products, count):
    order = np.lexsort((-products, own))
    own, other, products = own[order], other[order], products[order]
    near = np.arange(len(own)) - np.searchsorted(own, own) < count
    return own[near], other[near], products[near]


def _halve(vectors, members):
    """Yield int arrays, the members of each cell."""
    if len(members) <= CELL:
        yield members
        return
    own = vectors[members]
    own -= own.mean(0)
    direction = own[0] - own[-1]
    for _ in itertools.repeat(None, _STEPS):
        direction = (own @ direction) @ own
        direction /= np.sqrt(direction @ direction) + 1e-12
    order = members[np.argsort(own @ direction, kind="stable")]
    del own
    for half in np.array_split(order, 2):
        yield from _halve(vectors, half)
