"""The states of the tip in a scan, and the apex behind each.

`States` says which of two apexes draws which line, where the scan ends and what a generic
tip does to it; `Tips` how far, how blunt, how lop-sided and how multiple each apex is.
"""

from dataclasses import dataclass

import numpy as np

from stm_keras.simulate.config import chance, log_uniform, sign, uniform

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
# shares of the kinds, counted by eye on about 75 real scans
_STILL = np.array([0.24, 0.25, 0.20, 0.05, 0.04, 0.15, 0.02, 0.05, 0])
# of those that a tip can do to some lines of a scan and spare the rest
_PASSING = np.array([0, 0, 0, 0.25, 0.15, 0, 0, 0, 0.60])
_SAME_CLASS = 0.15

_MINI_TIPS = 3
# one entry for each class: atoms, dimers, rows, blunt
_CENTRE_WEIGHT = ((-0.02, 0.08), (0.25, 0.60), (0.20, 0.95), (0.0, 0.9))
_ASYMMETRY = np.array([0.13, 0.28, 0.30, 0.30])
_BLUR_ACROSS_NM = ((0.005, 0.06), (0.01, 0.08), (0.0, 0.1), (0.02, 0.15))
_BLUR_ALONG_NM = ((0.0, 0.035), (0.0, 0.04), (0.0, 0.1), (0.02, 0.15))
_P_SECOND = np.array([0.25, 0.45, 0.35, 0.60])
_SECOND_WEIGHT = ((0.0, 0.35), (0.05, 0.7), (0.05, 0.8), (0.2, 1.0))
_SECOND_NM = ((0.02, 0.12), (0.02, 0.22), (0.03, 0.4), (0.1, 0.8))
# what the apex of a spoiled scan resolves
_GENERIC_APEX = (0.2, 0.35, 0.2, 0.25)


@dataclass(frozen=True)
class States:
    """Tip states of a chunk of scans: int arrays."""

    classes: np.ndarray  # (scans, 2): before and after the change; equal without one
    kind: np.ndarray  # (scans,): index into `GENERIC_KINDS`, -1 where neither is generic
    recorded: np.ndarray  # (scans,): recorded lines
    apex_line: np.ndarray  # (scans,): first line with the new apex, -1 without one
    slot: np.ndarray  # (scans, lines): 0 where the first apex draws, 1 else

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
        """Return which states are generic in one of these ways: bool array `(scans, 2)`."""
        return self.is_kind(*kinds)[:, None] & (self.classes == GENERIC)

    def is_kind(self, *kinds):
        """Return which scans are generic in one of these ways: bool array `(scans,)`."""
        return np.isin(self.kind, [GENERIC_KINDS.index(kind) for kind in kinds])

    def by_line(self, values):
        """Spread values of the two states, `(scans, 2, ...)`, to `(scans, lines, ...)`."""
        return values[np.arange(len(values))[:, None], self.slot]


def draw_states(rng, count, config):
    """Draw the tip states of `count` scans; return `States`.

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


@dataclass(frozen=True)
class Tips:
    """Apexes before and after a change; the same one twice where there is none.

    All are float arrays `(scans, 2)`, or begin so.
    """

    kappa_per_nm: np.ndarray  # decay constant of the current
    distance_nm: np.ndarray  # centre of curvature to hydrogen plane
    # weight of the Si-Si part of the density of states, at the centre of the dimer; the rest
    # sits on the two hydrogens
    w_c: np.ndarray
    centre_nm: np.ndarray  # width of that part, across the row
    asym: np.ndarray  # -1 to 1: one hydrogen brighter than the other
    orbital: np.ndarray  # 0 for an s wave, above for p_z and d_z2
    blur_nm: np.ndarray  # (..., 2): blur of the apex, across and along rows
    back: np.ndarray  # current that resolves nothing, relative
    offset_nm: np.ndarray  # (..., mini-tips, 2): across and along rows; first the origin
    weight: np.ndarray  # (..., mini-tips): current of each, the first is 1


def draw_tips(rng, states, config):
    """Draw the apexes of a chunk; return `Tips`."""
    shape = states.classes.shape
    apex = rng.choice(4, shape, p=_GENERIC_APEX)
    apex = np.where(states.classes == GENERIC, apex, states.classes)
    drawn = {
        "kappa_per_nm": rng.uniform(*config.kappa_per_nm, shape),
        "back": log_uniform(rng, *config.back, shape),
        "centre_nm": rng.uniform(0.05, 0.11, shape),
        "orbital": np.where(
            chance(rng, 0.4, shape) & (apex < 2), rng.uniform(0, 0.6, shape), 0
        ),
        **_draw_resolution(rng, apex, config),
        **_draw_mini_tips(rng, apex, config),
    }
    for values in drawn.values():
        values[~states.two_apexes, 1] = values[~states.two_apexes, 0]
    return Tips(**drawn)


def _draw_resolution(rng, apex, config):
    """Draw what separates the classes: distance, centre weight, asymmetry and blur."""
    shape = apex.shape
    distance = uniform(rng, config.distance_nm, apex)
    near_zero = np.abs(rng.normal(0, 0.05, shape)) - 0.02
    w_c = np.where(apex == 0, near_zero, uniform(rng, _CENTRE_WEIGHT, apex))
    asym = rng.normal(0, 1, shape) * _ASYMMETRY[apex]
    across = uniform(rng, _BLUR_ACROSS_NM, apex)
    along = uniform(rng, _BLUR_ALONG_NM, apex)

    lop_sided = (apex == 1) & chance(rng, 0.35, shape)
    distance = distance + 0.02 * lop_sided
    w_c = np.where(lop_sided, rng.uniform(0.08, 0.3, shape), w_c)
    asym = np.where(lop_sided, sign(rng, shape) * rng.uniform(0.35, 0.9, shape), asym)

    # real rows often have double crests: sharp across the rows, blurred along them
    crests = (apex == 2) & chance(rng, 0.35, shape)
    distance = np.where(crests, rng.uniform(0.28, 0.52, shape), distance)
    w_c = np.where(crests, rng.uniform(0.1, 0.6, shape), w_c)
    asym = np.where(crests, rng.normal(0, 0.2, shape), asym)
    across = np.where(crests, rng.uniform(0.005, 0.06, shape), across)
    along = np.where(crests, rng.uniform(0.1, 0.22, shape), along)
    return {
        "distance_nm": distance,
        "w_c": w_c,
        "asym": asym,
        "blur_nm": np.stack([across, along], -1),
    }


def _draw_mini_tips(rng, apex, config):
    shape = apex.shape
    second = chance(rng, _P_SECOND[apex], shape) * uniform(rng, _SECOND_WEIGHT, apex)
    third = chance(rng, 0.3 * _P_SECOND[apex], shape) * second * rng.uniform(0.2, 1, shape)
    weight = np.stack([np.ones(shape), second, third], -1)
    if not config.has("double_tip"):
        weight[..., 1:] = 0
    radius = uniform(rng, _SECOND_NM, apex)[..., None] * (0, 1, 1.3)
    direction = rng.uniform(0, 2 * np.pi, (*shape, _MINI_TIPS))
    offset = np.stack([np.cos(direction), np.sin(direction)], -1) * radius[..., None]
    return {"offset_nm": offset, "weight": weight}
