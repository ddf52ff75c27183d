"""Give scans or whole groups to parts so that every part has its share of each class."""

import numpy as np
from numpy.typing import ArrayLike

TRIES = 256
KEPT = 8  # of the tries, improved further
EMPTY = 10.0  # penalty of a class that a part does not have
STEPS = 200


def assign_scans(
    labels: np.ndarray, shares: ArrayLike, seed: int | tuple, num_classes: int
) -> np.ndarray:
    """Draw the part of each scan, class by class: int array `(scans,)`.

    `shares`, `(parts,)`, sum to 1.
    """
    rng = np.random.default_rng(seed)
    parts = np.empty(len(labels), int)
    for number in range(num_classes):
        members = np.flatnonzero(labels == number)
        order = np.argsort(rng.random(len(members)), kind="stable")
        counts = _whole_counts(len(members), np.asarray(shares, float))
        parts[members[order]] = np.repeat(np.arange(len(counts)), counts)
    return parts


def assign_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    shares: ArrayLike,
    seed: int | tuple,
    num_classes: int,
) -> np.ndarray:
    """Give each group to one part, balanced by class and by size.

    Groups are very unequal, so a plain draw is often bad. Many orders of the groups
    are drawn; along each, every group goes where it helps most. The best few are
    improved by moving single groups, and the best of all is taken.

    `labels` and `groups`, 0 to number of groups - 1, have the shape `(scans,)`; `shares`,
    `(parts,)`, sum to 1. Returns the part of each scan: int array `(scans,)`.
    """
    sizes = np.zeros((groups.max() + 1, num_classes + 1))  # (groups, classes and all)
    np.add.at(sizes, (groups, labels), 1)
    sizes[:, -1] = sizes.sum(1)  # the size of a part matters as much as a class
    sizes = sizes[:, sizes.any(0)]
    sizes /= sizes.sum(0)
    shares = np.asarray(shares, float)
    rng = np.random.default_rng(seed)
    tried = _greedy(sizes, shares, rng)
    costs = [_cost(_totals(part, sizes, len(shares)), shares).sum() for part in tried]
    kept = np.argsort(np.round(costs, 9), kind="stable")[:KEPT]
    improved = [_improve(tried[number], sizes, shares) for number in kept]
    return min(improved, key=lambda cost_and_parts: cost_and_parts[0])[1][groups]


def _whole_counts(count, shares):
    """Share `count` scans out, at least one to each part where there are enough."""
    edges = np.floor(np.cumsum(shares) * count + 0.5).astype(int)
    edges[-1] = count
    counts = np.diff(edges, prepend=0)
    while count >= len(counts) and counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts


def _greedy(sizes, shares, rng):
    """Return the part of each group, for many orders at a time: `(tries, groups)`."""
    count = len(sizes)
    keys = rng.random((TRIES, count))
    keys[1::2] *= -sizes[:, -1]  # every other order has large groups first, more or less
    orders = np.argsort(keys, axis=1, kind="stable")
    tries = np.arange(TRIES)
    tried = np.empty((TRIES, count), int)
    totals = np.zeros((TRIES, len(shares), sizes.shape[1]))
    for group in orders.T:
        added = sizes[group][:, None]  # (tries, 1, classes)
        # By how much the chi-square of `_cost` grows, but for what is alike for all parts.
        growth = ((2 * totals + added) * added).sum(2) / shares
        part = np.round(growth, 12).argmin(1)
        tried[tries, group] = part
        totals[tries, part] += added[:, 0]
    return tried


def _improve(part, sizes, shares):
    """Move single groups while that helps; return the cost and the parts."""
    part = part.copy()
    groups = np.arange(len(part))
    for _ in range(STEPS):
        totals = _totals(part, sizes, len(shares))
        now = _cost(totals, shares)
        left = _cost(totals[part] - sizes, shares[part]) - now[part]
        joined = _cost(totals[None] + sizes[:, None], shares) - now
        change = left[:, None] + joined
        change[groups, part] = 0
        group, target = np.unravel_index(np.round(change, 9).argmin(), change.shape)
        if change[group, target] > -1e-6:
            break
        part[group] = target
    return round(float(_cost(_totals(part, sizes, len(shares)), shares).sum()), 9), part


def _totals(part, sizes, num_parts):
    totals = np.zeros((num_parts, sizes.shape[1]))
    np.add.at(totals, part, sizes)
    return totals


def _cost(totals, shares):
    """Chi-square of shares had against shares wanted, and a penalty for none at all."""
    wanted = np.asarray(shares)[..., None]
    empty = totals < 1e-9
    return ((totals - wanted) ** 2 / wanted).sum(-1) + EMPTY * empty.sum(-1)
