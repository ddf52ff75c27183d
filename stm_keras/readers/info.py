"""Say what a scan is: for people as text, for machines as a dict."""

import numpy as np

from stm_keras.scan import Scan

NANO = 1e9
SYMBOLS = {"pA": 1e-12, "nA": 1e-9, "uA": 1e-6, "mV": 1e-3, "V": 1.0}


def scan_source(scan: Scan | None) -> dict:
    """Return which image of a file a verdict is on, JSON-ready.

    Args:
        scan: `Scan`, or None of an array or a dataset, which do not say.

    Returns:
        dict of `image` (as `--channel` takes it), `direction` ("forward", "backward"),
        `slow` ("down", "up"), `unit` (SI), `angle` (degrees), `size_nm` (width and height),
        `bias` (V) and `setpoint` (A); None where the file does not say.
    """
    keys = ("image", "direction", "slow", "unit", "angle", "size_nm", "bias", "setpoint")
    if scan is None:
        return dict.fromkeys(keys)
    values = (
        *(image_name(scan), scan.direction, scan.slow, scan.unit or None),
        _short(scan.angle),
        None if scan.size is None else [_short(v * NANO) for v in scan.size],
        *(_short(scan.bias), _short(scan.setpoint)),
    )
    return dict(zip(keys, values, strict=True))


def image_name(scan: Scan) -> str:
    """Return the name of a scan's image, as `read_scan` takes it: "Z backward up"."""
    return " ".join(word for word in (scan.channel, scan.direction, scan.slow) if word)


def scan_metadata(scan: Scan, scans: int = 1) -> dict:
    """Return what `stm-keras info --json` prints of a scan; None where the file does not say.

    `scans` is how many its file holds.
    """
    source = scan_source(scan)
    return {
        "path": scan.path,
        "index": scan.index,
        "scans": scans,
        "format": scan.format,
        "image": source["image"],
        "channel": scan.channel,
        "direction": scan.direction,
        "unit": source["unit"],
        "shape": list(scan.heights.shape),
        "size_nm": source["size_nm"],
        "slow": scan.slow,
        "recorded_lines": len(scan.recorded),
        "channels": list(scan.channels),
        "bias_V": source["bias"],
        "setpoint_A": source["setpoint"],
        "line_time_s": _short(scan.line_time),
        "angle_deg": source["angle"],
        "warnings": list(scan.warnings),
    }


def scan_text(scan: Scan, scans: int = 1) -> str:
    """Return the same and more as lines of text."""
    lines, pixels = scan.heights.shape
    number = f", {scan.index + 1} of {scans} in its file" if scans > 1 else ""
    rows = [("scan", f"{lines} lines x {pixels} pixels, {scan.format}{number}")]
    if scan.size is not None:
        rows.append(("size", " x ".join(f"{v * NANO:.4g}" for v in scan.size) + " nm"))
    way = {"down": ", downwards", "up": ", upwards", None: ""}[scan.slow]
    shown = " ".join(word for word in (scan.channel, scan.direction) if word)
    rows += [
        ("shown", f"{shown} ({scan.unit or 'unit unknown'})"),
        ("recorded", f"{len(scan.recorded)} of {lines} lines: {_rows(scan)}{way}"),
    ]
    if scan.bias is not None:
        rows.append(("bias", _quantity(scan.bias, "V", "mV")))
    if scan.setpoint is not None:
        rows.append(("setpoint", _quantity(scan.setpoint, "uA", "nA", "pA")))
    if scan.line_time is not None:
        rows.append(("line time", f"{scan.line_time:.4g} s"))
    if scan.angle:
        rows.append(("angle", f"{scan.angle:.4g} degrees"))
    rows.append(("images", ", ".join(dict.fromkeys(scan.images))))
    rows += [("note", text) for text in scan.warnings]
    return "\n".join(f"{name:<13}{text}" for name, text in rows)


def _rows(scan):
    """Name the rows of the frame that were recorded, in the order of acquisition."""
    rows = scan.recorded
    breaks = np.flatnonzero(np.abs(np.diff(rows)) != 1) + 1
    runs = [f"{run[0]} to {run[-1]}" for run in np.split(rows, breaks)]
    more = f" and {len(runs) - 5} more runs" if len(runs) > 5 else ""
    return "rows " + ", ".join(runs[:5]) + more


def _quantity(value, *units):
    fitting = [unit for unit in units if abs(value) >= SYMBOLS[unit]]
    unit = fitting[0] if fitting else units[-1 if value else 0]
    return f"{value / SYMBOLS[unit]:.4g} {unit}"


def _short(value):
    return None if value is None else float(f"{value:.9g}")
