"""Bring a scan from a microscope's file to the size that a model judges."""

import warnings
from pathlib import Path

import numpy as np

from stm_keras.data.resample import Fitted, fit_scan_lines
from stm_keras.errors import DatasetError, ScanError
from stm_keras.inference.verdict import NO_SIGNAL
from stm_keras.readers import read_scans
from stm_keras.scan import Scan


def read_scan_file(path: str | Path, facts: dict, channel: str | None = None) -> np.ndarray:
    """Read a scan file as a model takes it, and warn of what the file does not tell.

    Args:
        path: str or `Path`.
        facts: dict of the model: `pixels` and `max_lines`.
        channel: str or None. As `read_scan` takes it.

    Returns:
        float32 array of shape `(scans, max_lines, pixels)`; most files hold one scan.

    Raises:
        ScanError: The file cannot be read or holds no such image.
        DatasetError: No line of it has a signal.
    """
    scans = read_scans(path, channel)
    for scan in scans:
        if isinstance(scan, ScanError):
            raise scan
    for text in dict.fromkeys(text for scan in scans for text in scan.warnings):
        warnings.warn(f"{path}: {text}.", stacklevel=2)
    return np.stack([fit_scan(scan, facts) for scan in scans])


def fit_scan(scan: Scan, facts: dict) -> np.ndarray:
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
        DatasetError: No line of it has a signal.
    """
    fitted = fit_lines(scan, facts)
    if len(fitted.bounds) < 2:
        raise DatasetError(f"{scan.path}: {NO_SIGNAL}. Give another scan or channel.")
    return fitted.heights.astype(np.float32)


def fit_lines(scan: Scan, facts: dict, bridged: np.ndarray | None = None) -> Fitted:
    """Do what `fit_scan` does, and tell where the lines come from.

    Args:
        scan, facts: As for `fit_scan`.
        bridged: float array, what `bridge_gaps(scan.lines())` gave, if that is at hand.

    Returns:
        `Fitted`; without a line that has a signal its heights are 0.
    """
    fitted = fit_scan_lines(scan, facts, bridged)
    if fitted.left:
        recorded = len(scan.recorded)
        warnings.warn(
            f"{scan.path}: is higher than wide; its first {recorded - fitted.left} of "
            f"{recorded} recorded lines are judged.",
            stacklevel=2,
        )
    return fitted
