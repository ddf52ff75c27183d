"""Which tip draws which line: class before and after, spoiled scans, aborted scans."""

from dataclasses import dataclass

import numpy as np

from stm_keras.simulate.draw import chance, log_uniform

GENERIC = 3
GENERIC_KINDS = (
    "faint",  # a tall feature takes the grey scale
    "cluster",  # many tall adsorbates
    "crash",  # the tip leaves the z range
    "noisy",  # noise above the lattice
    "hum",  # hum above the lattice
    "flat",  # next to nothing but a wild line
    "smear",  # a slow loop
    "unstable",  # the apex switches back and forth
    "lost",  # the apex resolves nothing: only before or after a tip change
)
# counted by eye on about 75 real scans
_STILL = np.array([0.24, 0.25, 0.20, 0.05, 0.04, 0.15, 0.02, 0.05, 0])
# what a tip can do to some lines of a scan without spoiling the others
_PASSING = np.array([0, 0, 0, 0.25, 0.15, 0, 0, 0, 0.60])
_SAME_CLASS = 0.15


@dataclass(frozen=True)
class States:
    """Tip states of a chunk of scans.

    Args:
        classes: int array `(scans, 2)`. Class of the tip before and after the change;
            equal where there is none.
        kind: int8 array `(scans,)`. Index into `GENERIC_KINDS`, -1 where neither
            class is generic.
        recorded: int array `(scans,)`. Recorded lines.
        apex_line: int array `(scans,)`. First line with the new apex, -1 without one.
        slot: int array `(scans, lines)`. 0 where the first apex draws, 1 else.
    """

    classes: np.ndarray
    kind: np.ndarray
    recorded: np.ndarray
    apex_line: np.ndarray
    slot: np.ndarray

    @property
    def changed(self):
        """Scans in which another apex takes over: bool array `(scans,)`."""
        return self.apex_line >= 0

    @property
    def two_apexes(self):
        """Scans drawn by two apexes, in turn or once: bool array `(scans,)`."""
        return self.slot.any(1)

    @property
    def surface_class(self):
        """Class that decides what the surface looks like: int array `(scans,)`.

        A tip that is generic for some lines only does not change the surface.
        """
        return np.where(
            self.classes[:, 0] == GENERIC, self.classes[:, 1], self.classes[:, 0]
        )

    def spoiled(self, *kinds):
        """Tell which states are generic in one of these ways: bool array `(scans, 2)`."""
        return self.is_kind(*kinds)[:, None] & (self.classes == GENERIC)

    def is_kind(self, *kinds):
        """Tell which scans are generic in one of these ways: bool array `(scans,)`."""
        return np.isin(self.kind, [GENERIC_KINDS.index(kind) for kind in kinds])

    def by_line(self, values):
        """Spread values of the two states over lines.

        Args:
            values: array of shape `(scans, 2, ...)`.

        Returns:
            array of shape `(scans, lines, ...)`.
        """
        return values[np.arange(len(values))[:, None], self.slot]


def draw_states(rng, count, config):
    """Draw the tip states of `count` scans; returns `States`.

    The abort is drawn first: a change beyond it did not happen. An unstable apex has
    no single change.
    """
    size = config.size
    partial = chance(rng, config.p_partial, count)
    recorded = np.where(partial, rng.integers(size // 8, size, count), size)

    before = rng.choice(4, count, p=config.class_prior)
    line = rng.integers(int(0.12 * size), int(0.88 * size), count)
    changed = chance(rng, config.p_tip_change, count) & (line < recorded)
    other = (before + rng.integers(1, 4, count)) % 4
    moved = changed & ~chance(rng, _SAME_CLASS, count)
    after = np.where(moved, other, before)

    kind = _draw_kind(rng, before, after)
    unstable = kind == GENERIC_KINDS.index("unstable")
    apex_line = np.where(changed & ~unstable, line, -1)
    index = np.arange(size)
    slot = (apex_line[:, None] >= 0) & (index >= apex_line[:, None])
    rate = log_uniform(rng, 1 / 20, 1 / 3, count)
    flips = chance(rng, rate[:, None], (count, size)).cumsum(1) % 2
    return States(
        classes=np.stack([before, after], 1),
        kind=kind.astype(np.int8),
        recorded=recorded,
        apex_line=apex_line,
        slot=np.where(unstable[:, None], flips, slot).astype(np.intp),
    )


def _draw_kind(rng, before, after):
    still = rng.choice(len(GENERIC_KINDS), len(before), p=_STILL / _STILL.sum())
    passing = rng.choice(len(GENERIC_KINDS), len(before), p=_PASSING / _PASSING.sum())
    spoiled = (before == GENERIC).astype(int) + (after == GENERIC)
    return np.choose(spoiled, [np.full(len(before), -1), passing, still])
