"""Bring a scan from a microscope's file to the size that a model judges."""

import warnings

import numpy as np

from stm_keras.data.preprocess import resample_scan
from stm_keras.errors import DatasetError, ScanError
from stm_keras.readers import read_scans
from stm_keras.scan import bridge_gaps


def read_scan_file(path, facts, channel=None):
    """Read a scan file as a model takes it, and warn of what the file does not tell.

    Args:
        path: str or `Path`.
        facts: dict of the model: `pixels` and `max_lines`.
        channel: str or None. As `read_scan` takes it.

    Returns:
        float32 array of shape `(scans, max_lines, pixels)`; most files hold one scan.

    Raises:
        ScanError: The file cannot be read or holds no such image.
        DatasetError: No line of it is complete enough.
    """
    scans = read_scans(path, channel)
    for scan in scans:
        if isinstance(scan, ScanError):
            raise scan
    for text in dict.fromkeys(text for scan in scans for text in scan.warnings):
        warnings.warn(f"{path}: {text}.", stacklevel=2)
    return np.stack([fit_scan(scan, facts) for scan in scans])


def fit_scan(scan, facts):
    """Take the recorded lines in the order of acquisition, in the pixels of a model.

    Pixels become square, so a scan of which half was recorded fills half the lines, and
    missing ones are 0. Of a scan that is higher than wide only the first square is taken.

    Args:
        scan: `Scan`.
        facts: dict with `pixels` and `max_lines`.

    Returns:
        float32 array of shape `(max_lines, pixels)`. Heights from their median, as parts
        of the largest.

    Raises:
        DatasetError: No line of it is complete enough.
    """
    return fit_lines(scan, facts)[0]


def fit_lines(scan, facts, bridged=None):
    """Do what `fit_scan` does, and tell where its lines come from.

    Args:
        scan, facts: As for `fit_scan`.
        bridged: float array, what `bridge_gaps(scan.lines())` gave, if that is at hand.

    Returns:
        Tuple of what `fit_scan` returns, and an int array of shape `(lines + 1,)`: line
        of `scan.lines()` at which each line that is there begins, and at which the last
        ends.
    """
    pixels, most = facts["pixels"], facts["max_lines"]
    lines = bridge_gaps(scan.lines()) if bridged is None else bridged
    there = np.flatnonzero(np.isfinite(lines).all(1))
    lines = lines[there]
    if not len(lines):
        raise DatasetError(
            f"{scan.path}: less than half of its only line was recorded. Give a scan with "
            "complete lines."
        )
    ratio = scan.aspect * pixels / lines.shape[1]  # new lines for one old line
    kept = max(1, min(len(lines), round(most / ratio)))
    if kept < len(lines):
        warnings.warn(
            f"{scan.path}: is higher than wide; its first {kept} of {len(lines)} recorded "
            "lines are judged.",
            stacklevel=2,
        )
    wanted = min(max(1, round(kept * ratio)), most)
    heights = lines[:kept] / (np.abs(lines[:kept]).max() or 1.0)
    # An offset of micrometres would leave float32 no digits for picometres.
    heights = heights - np.median(heights)
    fitted = np.zeros((most, pixels), np.float32)
    fitted[:wanted] = resample_scan(
        heights / (np.abs(heights).max() or 1.0), wanted, pixels
    )
    bounds = np.arange(wanted) * kept // wanted
    return fitted, np.append(there[bounds], there[kept - 1] + 1)
