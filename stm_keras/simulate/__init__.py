"""Simulated scans of H:Si(100) with the class of every line.

Physics first, microscope second, recording software last:

    config      what is drawn, and which effects are on
    geometry    where each pixel lies on the surface: size, angle, drift, creep, jitter
    tip         which tip draws which line, where the scan ends; the apex of each tip:
                sharp, blunt, double, lop-sided
    lattice     what that apex makes of the atoms; steps
    features    dangling bonds, adsorbates, vacancies, background
    noise       noise, hum, the feedback loop; scars, jumps, wild lines, crashes
    scanner     one chunk of scans: levelling, 8 bits, and the class that can be seen
    generate    many chunks, worker processes, the dataset
    unknown     the same scanner over surfaces that are not H:Si(100), from
                unknown_lattices and unknown_shapes

Lengths are in nm, heights in pm and times in pixels of the fast axis, because the
lattice has that size in single precision; every name that leaves the package says so. In all
of it `rng` is a numpy Generator and `config` a `SimulationConfig`.
"""

from stm_keras.simulate.config import EFFECTS, SimulationConfig
from stm_keras.simulate.generate import simulate
from stm_keras.simulate.scanner import clear_changes
from stm_keras.simulate.tip import GENERIC_KINDS
from stm_keras.simulate.unknown import UNKNOWN_KINDS, simulate_unknown

OTHER_KINDS, simulate_others = UNKNOWN_KINDS, simulate_unknown  # their names in 0.1.0

__all__ = [
    "EFFECTS",
    "GENERIC_KINDS",
    "UNKNOWN_KINDS",
    "SimulationConfig",
    "clear_changes",
    "simulate",
    "simulate_unknown",
]
