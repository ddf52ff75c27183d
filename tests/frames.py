"""Scans of every shape: complete and aborted, square and not, shared by several tests."""

import numpy as np
from helpers import lattice_scans
from scan_files import sxm

FRAMES = {  # lines, pixels, size in nm, recorded lines
    "48x48": (48, 48, (8, 8), 48),
    "150x150": (150, 150, (8, 8), 150),
    "300x300": (300, 300, (20, 20), 300),
    "512x512": (512, 512, (20, 20), 512),
    "4:1": (128, 512, (40, 10), 128),
    "fewer lines than pixels": (64, 256, (20, 20), 64),
    "tall": (200, 100, (5, 10), 200),
    "aborted after 40 lines": (128, 128, (8, 8), 40),
    "300x300, aborted after 101 lines": (300, 300, (20, 20), 101),
    "48x48, aborted after 17 lines": (48, 48, (8, 8), 17),
    "512x512, aborted after 3 lines": (512, 512, (20, 20), 3),
}


def frame(name, lost=()):
    """Make up a scan: heights `(recorded lines, pixels)` in m, lines, pixels, size in m."""
    lines, pixels, size, recorded = FRAMES[name]
    heights = lattice_scans([1], lines=lines, pixels=pixels, seed=4)[0] * 1e-12
    heights[recorded // 2 :] = np.roll(heights[recorded // 2 :], 5, axis=1) * 1.5
    heights = heights[:recorded] + 3e-7
    heights[[line for line in lost if line < recorded]] = 0
    return heights, lines, pixels, tuple(1e-9 * length for length in size)


def write(path, name, slow="down", lost=()):
    """Write it as Nanonis would, and return the path."""
    heights, lines, pixels, size = frame(name, lost)
    full = np.full((lines, pixels), np.nan)
    full[: len(heights)] = heights
    full = full[::-1] if slow == "up" else full
    path.write_bytes(sxm({"Z": ("m", full, full)}, slow, size=size))
    return path
