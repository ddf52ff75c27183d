"""Say what a dataset holds."""

from typing import Any

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.split import session_campaigns
from stm_keras.errors import StmKerasError

_BLOCK = 512
_LABELS = 1 << 16  # scans whose line labels are in memory together


def summary(dataset: Dataset) -> dict:
    """Count what a dataset holds.

    Images are read in blocks.

    Returns:
        dict of what JSON knows: `source`, `scans`, `lines`, `pixels`, `dtype`,
        `bytes` of the images, `heights` (lowest and highest recorded), `classes` (name
        to dict of `scans` with that label, the complete `single_class` ones among them,
        those of `full_agreement` and of `consensus`), `no_class`, `aborted`, `sessions`,
        `campaigns` (name to scans), `runs`, `raters` (number of raters to scans),
        `unanimous` (share), `size_nm` (smallest and largest width), `channels` (channel and
        direction to scans), `tip_changes`, `line_classes` (name to lines),
        `parameters` (names) and `digest`. None where the dataset does not know.
    """
    images = dataset.images
    return {
        "source": dataset.source,
        "scans": len(dataset),
        "lines": int(images.shape[1]),
        "pixels": int(images.shape[2]),
        "dtype": str(images.dtype),
        "bytes": int(np.prod(images.shape, dtype=object)) * images.dtype.itemsize,
        "heights": recorded_heights(images, dataset.lines),
        "classes": _classes(dataset),
        "no_class": int((dataset.labels < 0).sum()),
        "aborted": int((dataset.lines < images.shape[1]).sum()),
        "sessions": _distinct(dataset.session),
        "campaigns": _campaigns(dataset),
        "runs": _runs(dataset),
        "raters": count_values(dataset.raters),
        "unanimous": None if dataset.unanimous is None else float(dataset.unanimous.mean()),
        "size_nm": _widths(dataset),
        "channels": _channels(dataset),
        "tip_changes": None
        if dataset.change_line is None
        else int((dataset.change_line >= 0).sum()),
        "line_classes": _line_classes(dataset),
        "parameters": sorted(dataset.parameters) or None,
        "digest": dataset.digest(),
    }


def summary_text(counts: dict) -> str:
    """Write what `summary` counted as lines of text."""
    low, high = counts["heights"] or (None, None)
    size = f"{counts['lines']} lines x {counts['pixels']} pixels"
    rows = [
        ("source", counts["source"] or "unknown"),
        ("scans", f"{counts['scans']:,} of {size}, {counts['aborted']:,} aborted"),
        ("images", f"{counts['dtype']}, {counts['bytes'] / 1e6:,.1f} MB"),
        ("heights", "none recorded" if low is None else f"{low:.4g} to {high:.4g}"),
        ("sessions", _sessions_text(counts)),
        ("votes", _votes_text(counts)),
    ]
    if counts["size_nm"] is not None:
        low, high = (f"{width:.4g}" for width in counts["size_nm"])
        rows.append(
            ("size", f"{low} nm wide" if low == high else f"{low} to {high} nm wide")
        )
    if counts["channels"] is not None:
        rows.append(("channels", _pairs_text(counts["channels"])))
    if counts["tip_changes"] is not None:
        rows.append(("tip changes", f"in {counts['tip_changes']:,} scans"))
    if counts["line_classes"] is not None:
        rows.append(("lines", _pairs_text(counts["line_classes"])))
    if counts["parameters"] is not None:
        rows.append(("simulated", f"{len(counts['parameters'])} parameters a scan"))
    rows.append(("digest", counts["digest"]))
    text = [f"{name:<12} {value}" for name, value in rows]
    return "\n".join([*text, "", *_table(counts)])


def recorded_heights(images: Any, lines: np.ndarray) -> list | None:
    """Return the lowest and the highest recorded height: list of float, or None.

    `images` has the shape `(scans, lines, pixels)`; `lines`, `(scans,)`, were recorded.
    """
    if getattr(images, "heights", None):  # shards tell
        return list(images.heights)
    lowest, highest = [], []
    for start in range(0, len(lines), _BLOCK):
        block = np.asarray(images[start : start + _BLOCK])
        recorded = np.arange(block.shape[1]) < lines[start : start + _BLOCK, None]
        heights = block[recorded]
        heights = heights[np.isfinite(heights)]
        if heights.size:
            lowest.append(heights.min())
            highest.append(heights.max())
    return [float(min(lowest)), float(max(highest))] if lowest else None


def _table(counts):
    heads = {"scans": "scans", "single_class": "complete"}
    if counts["unanimous"] is not None:
        heads |= {"full_agreement": "no rater against", "consensus": "two or more agree"}
    width = max(map(len, [*counts["classes"], "no single class"]))
    table = ["  ".join([f"{'class':<{width}}", *heads.values()])]
    for name, scans in counts["classes"].items():
        numbers = [f"{scans[key]:>{len(head)},}" for key, head in heads.items()]
        table.append("  ".join([f"{name:<{width}}", *numbers]))
    table.append(f"{'no single class':<{width}}  {counts['no_class']:>5,}")
    return table


def _classes(dataset):
    parts = {
        "scans": np.ones(len(dataset), bool),
        "single_class": dataset.single_class(),
        "full_agreement": dataset.full_agreement(),
        "consensus": dataset.consensus(),
    }
    return {
        name: {
            part: int((scans & (dataset.labels == label)).sum())
            for part, scans in parts.items()
        }
        for label, name in enumerate(dataset.classes)
    }


def _distinct(names):
    return None if names is None else len(np.unique(names))


def _widths(dataset):
    widths = np.zeros(0) if dataset.size_nm is None else dataset.size_nm[:, 0]
    widths = widths[np.isfinite(widths)]
    return [float(widths.min()), float(widths.max())] if len(widths) else None


def _channels(dataset):
    if dataset.channel is None:
        return None
    ways = np.full(len(dataset), "") if dataset.direction is None else dataset.direction
    pairs = zip(dataset.channel.tolist(), ways.tolist(), strict=True)
    return count_values(np.array([" ".join(filter(None, p)) or "unknown" for p in pairs]))


def _runs(dataset):
    if dataset.run is None or dataset.session is None:
        return _distinct(dataset.run)
    return len(set(zip(dataset.session.tolist(), dataset.run.tolist(), strict=True)))


def _campaigns(dataset):
    try:
        return count_values(session_campaigns(dataset))
    except StmKerasError:
        return None


def count_values(values: np.ndarray | None) -> dict | None:
    """Count each value of an array, by its text; None of None."""
    if values is None:
        return None
    names, counts = np.unique(values, return_counts=True)
    pairs = zip(names.tolist(), counts.tolist(), strict=True)
    return {str(name): count for name, count in pairs}


def _line_classes(dataset):
    if dataset.line_labels is None:
        return None
    counts = np.zeros(len(dataset.classes), int)
    for start in range(0, len(dataset), _LABELS):
        labels = np.asarray(dataset.line_labels[start : start + _LABELS])
        counts += np.bincount(labels[labels >= 0], minlength=len(counts))
    return dict(zip(dataset.classes, counts.tolist(), strict=True))


def _sessions_text(counts):
    if counts["sessions"] is None:
        return "unknown"
    text = f"{counts['sessions']:,}"
    if counts["runs"] is not None:
        text += f", {counts['runs']:,} runs"
    if counts["campaigns"] is not None:
        text += f"; campaigns: {_pairs_text(counts['campaigns'])}"
    return text


def _votes_text(counts):
    if counts["raters"] is None and counts["unanimous"] is None:
        return "none, labels only"
    parts = []
    if counts["raters"] is not None:
        few = {number: n for number, n in counts["raters"].items() if int(number) < 4}
        many = sum(counts["raters"].values()) - sum(few.values())
        parts += [f"{n:,} rated by {number}" for number, n in few.items()]
        parts += [f"{many:,} by 4 or more"] if many else []
    if counts["unanimous"] is not None:
        parts.append(f"{counts['unanimous']:.0%} unanimous")
    return ", ".join(parts)


def _pairs_text(counts):
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
