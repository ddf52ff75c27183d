"""Simulated scans of H:Si(100) with the class of every line.

Physics first, microscope second, recording software last:

    config      what is drawn, and which effects are on
    geometry    where each pixel lies on the surface: size, angle, drift, creep, jitter
    states      which tip draws which line, and where the scan ends
    tip         the apex behind a tip state: sharp, blunt, double, lop-sided
    lattice     what that apex makes of the atoms; steps
    features    dangling bonds, adsorbates, vacancies, background
    noise       noise, hum and the feedback loop
    artefacts   scars, jumps, wild lines, crashes
    recording   levelling, 8 bits, and the class that can be seen
    generate    chunks, workers, the data set
    truth       which scans tell all about their tip changes
    others      the same scanner over surfaces that are not H:Si(100), from
                other_families, other_lattices and other_shapes

Lengths are in nm, heights in pm and times in pixels of the fast axis, because the
lattice has that size in single precision; every name that leaves the package says so.
"""

from stm_keras.simulate.config import EFFECTS, SimulationConfig
from stm_keras.simulate.generate import simulate
from stm_keras.simulate.scanner import clear_changes
from stm_keras.simulate.tip import GENERIC_KINDS
from stm_keras.simulate.unknown import OTHER_KINDS, simulate_others

__all__ = [
    "EFFECTS",
    "GENERIC_KINDS",
    "OTHER_KINDS",
    "SimulationConfig",
    "clear_changes",
    "simulate",
    "simulate_others",
]
