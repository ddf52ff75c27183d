"""What the simulator draws: ranges, probabilities and the effects that are on; and how."""

import difflib
import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from stm_keras.data.dataset import CLASSES, SIZES
from stm_keras.errors import UsageError

EFFECTS = {
    "shear": "drift and calibration: the lattice is sheared",
    "creep": "piezo creep after the start and hysteresis along a line",
    "jitter": "lines start at slightly different places",
    "log": "constant current follows the logarithm of the density of states",
    "double_tip": "a second and third apex draw everything again",
    "steps": "a monatomic step; the rows turn by 90 degrees",
    "features": "dangling bonds, adsorbates and vacancies",
    "point_defects": "features as small as a lattice site",
    "shadows": "a dark or shifted halo beside a feature",
    "dragging": "an adsorbate disappears while it is scanned",
    "background": "smooth hills under the lattice",
    "noise": "noise of preamplifier and loop",
    "resampling": "neighbouring lines mix, as in a scan resized from 300-512 lines",
    "hum": "mains hum and vibration",
    "scars": "short spikes along a line",
    "jumps": "a height step inside the line in which the apex changes",
    "wild_lines": "a few lines that take the whole grey scale",
    "crashes": "the tip leaves the z range and the value wraps",
    "feedback": "lag and ringing of the loop along the line",
}
_POSITIVE_RANGES = ("small_nm", "medium_nm", "large_nm", "kappa_per_nm", "back")
_POSITIVE_RANGES += ("noise_to_lattice", "noise_correlation_px")


@dataclass(frozen=True)
class SimulationConfig:
    """Ranges and probabilities of simulated scans.

    They were measured on real scans of one laboratory, so a test of a model on those scans
    is not blind, even if it was trained on simulated scans alone.

    The classes of the tip are drawn evenly. Labels say what can be *seen*, so a good
    tip on a scan whose grey scale is taken by a tall feature counts as generic.

    By default the tip changes in a fifth of the scans, and a tenth is aborted: enough to
    train a verdict after every line, for which real scans have no labels. More would spoil
    scan labels, because raters call a scan with a change "tip change", hence generic, while
    its label here is the class of most lines: at a fifth, 12 % of the labels are of that
    kind. Real scans are aborted in 1-2 % of the good classes and 12 % of the generic.

    Args:
        size: int. Lines of a scan and pixels of a line.
        class_prior: tuple of float, one weight for each class of the tip at the start.
            A change leads to any other class alike.
        p_tip_change: float. Probability that another apex takes over at some line.
            In 15 % of the cases it is of the same class.
        p_partial: float. Probability that the scan is aborted.
        small_nm, medium_nm, large_nm: (low, high). Width of the scan.
        p_medium, p_large: float. Probability of such a scan; the rest is small.
        angle_deg: (low, high). From the fast axis to the normal of the dimer rows.
            Uniform, because in real data the angle tells the campaign, and with it the class.
        shear: float. Standard deviation of each entry of the drift matrix.
        p_creep: float. Probability of a scan that starts with creep.
        kappa_per_nm: (low, high). Decay of the current; work function 3.8-5.0 eV.
        distance_nm: one (low, high) for each class. From the apex' centre of curvature
            to the hydrogen plane; the last is a blunt tip.
        back: (low, high). Current through that part of the apex which resolves nothing,
            relative to the part that does. Without it the high harmonics are 2 to 4 times
            too strong.
        noise_to_lattice: (low, high). Noise over lattice, both standard deviations, at
            8 pm of lattice.
        noise_correlation_px: (low, high). Width of the noise along a line, for 128 px.
        label_by_visibility: bool. False labels by the tip, whatever the scan shows.
        effects: iterable of str. Names in `EFFECTS`; the rest is off.

    Raises:
        UsageError: A value makes no sense.
    """

    size: int = 128
    class_prior: tuple = (0.25, 0.25, 0.25, 0.25)
    p_tip_change: float = 0.2
    p_partial: float = 0.1
    small_nm: tuple = (3.0, 4.6)
    medium_nm: tuple = (5.5, 9.0)
    large_nm: tuple = (10.0, 30.0)
    p_medium: float = 0.06
    p_large: float = 0.06
    angle_deg: tuple = (0.0, 180.0)
    shear: float = 0.03
    p_creep: float = 0.18
    kappa_per_nm: tuple = (10.0, 11.5)
    distance_nm: tuple = ((0.27, 0.50), (0.26, 0.47), (0.58, 0.95), (0.70, 1.30))
    back: tuple = (0.4, 5.0)
    noise_to_lattice: tuple = (0.035, 0.30)
    noise_correlation_px: tuple = (1.6, 3.2)
    label_by_visibility: bool = True
    effects: frozenset = frozenset(EFFECTS)

    def __post_init__(self):
        low, high = SIZES
        if not _is(self.size, Integral) or not low <= self.size <= high:
            raise _wrong("size", self.size, f"a whole number from {low} to {high}")
        for name in ("p_tip_change", "p_partial", "p_medium", "p_large", "p_creep"):
            value = getattr(self, name)
            if not _is(value, Real) or not 0 <= value <= 1:
                raise _wrong(name, value, "a probability from 0 to 1")
        if self.p_medium + self.p_large > 1:
            raise UsageError(
                "`p_medium` and `p_large` must not exceed 1 together. "
                f"Received: p_medium={self.p_medium}, p_large={self.p_large}."
            )
        if not _is(self.shear, Real) or not 0 <= self.shear <= 0.3:
            raise _wrong("shear", self.shear, "a number from 0 to 0.3")
        for name in _POSITIVE_RANGES:
            self._keep(name, _range(name, getattr(self, name), positive=True))
        self._keep("angle_deg", _range("angle_deg", self.angle_deg, positive=False))
        distances = _entries("distance_nm", self.distance_nm)
        distances = tuple(_range("distance_nm", pair, positive=True) for pair in distances)
        self._keep("distance_nm", distances)
        self._keep("class_prior", _prior(self.class_prior))
        self._keep("effects", _effects(self.effects))

    def has(self, effect: str) -> bool:
        """Tell whether an effect is on."""
        return effect in self.effects

    def _keep(self, name, value):
        object.__setattr__(self, name, value)


def uniform(rng, ranges, index):
    """Draw from the range that each index picks.

    `ranges` is array-like of shape `(classes, 2)`, low and high of each class; `index` and
    what is returned have any shape.
    """
    low, high = np.moveaxis(np.asarray(ranges, float)[index], -1, 0)
    return rng.uniform(low, high)


def log_uniform(rng, low, high, size=None):
    """Draw so that each factor is as likely as any other. float array of `size`."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def chance(rng, probability, size):
    """Return True with the given probability. bool array of `size`."""
    return rng.random(size) < probability


def sign(rng, size=None):
    """Return -1 or 1, either with probability one half. int array of `size`."""
    return rng.choice((-1, 1), size)


def _is(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(name, value, expected):
    return UsageError(f"`{name}` must be {expected}. Received: {name}={value!r}.")


def _entries(name, value):
    expected = f"{len(CLASSES)} entries, one for each of: {', '.join(CLASSES)}"
    if isinstance(value, str) or not hasattr(value, "__len__"):
        raise _wrong(name, value, expected)
    if len(value) != len(CLASSES):
        raise _wrong(name, value, expected)
    return tuple(value)


def _prior(value):
    weights = _entries("class_prior", value)
    good = all(_is(weight, Real) and weight >= 0 for weight in weights)
    if not good or not 0 < sum(weights) < math.inf:
        raise _wrong("class_prior", value, "weights of 0 or more that are not all 0")
    return tuple(float(weight) / sum(weights) for weight in weights)


def _range(name, value, positive):
    expected = "(low, high) with low <= high" + (", both above 0" if positive else "")
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise _wrong(name, value, expected)
    low, high = value
    if not (_is(low, Real) and _is(high, Real)) or low > high or (positive and low <= 0):
        raise _wrong(name, value, expected)
    return float(low), float(high)


def _effects(names):
    names = [names] if isinstance(names, str) else names
    try:
        names = frozenset(names)
    except TypeError:
        raise _wrong("effects", names, "names of effects") from None
    for name in sorted(names - EFFECTS.keys(), key=str):
        close = difflib.get_close_matches(str(name), EFFECTS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(EFFECTS)}."
        raise UsageError(f"`effects` has no {name!r}. {hint}")
    return names
