"""What a dataset holds, in numbers and in words."""

import numpy as np

from stm_keras.data.split import session_campaigns
from stm_keras.errors import DatasetError


def summary(dataset):
    """Count what a dataset holds.

    Args:
        dataset: A `Dataset`.

    Returns:
        dict, JSON-ready: scans, shape, dtype, source, classes (name to scans, and how
        many of these are complete), no_single_class, aborted, sessions (name to
        scans), campaigns, raters, full_agreement, consensus, tip_changes,
        line_labels, heights (lowest, highest), sha256. None where the file is silent.
    """
    single = dataset.single_class()
    images = dataset.images
    lowest, highest = _range(images)
    return {
        "scans": len(dataset),
        "shape": [int(size) for size in images.shape[1:]],
        "dtype": str(images.dtype),
        "source": dataset.source,
        "classes": {
            name: {
                "scans": int((dataset.labels == index).sum()),
                "complete": int((single & (dataset.labels == index)).sum()),
            }
            for index, name in enumerate(dataset.classes)
        },
        "no_single_class": int((dataset.labels < 0).sum()),
        "aborted": int((dataset.lines < images.shape[1]).sum()),
        "sessions": _counts(dataset.session),
        "campaigns": _campaigns(dataset),
        "raters": None if dataset.raters is None else _counts(dataset.raters),
        "full_agreement": _sum(dataset.unanimous, dataset.full_agreement),
        "consensus": _sum(dataset.unanimous, dataset.consensus),
        "votes": dataset.votes is not None,
        "tip_changes": _sum(dataset.change_line, lambda: dataset.change_line >= 0),
        "line_labels": dataset.line_labels is not None,
        "parameters": sorted(dataset.parameters),
        "heights": [lowest, highest],
        "sha256": dataset.digest(),
    }


def summary_text(facts):
    """Lay out what `summary` found as lines of text."""
    lines, pixels = facts["shape"]
    rows = [
        ("source", facts["source"] or "not named"),
        ("scans", f"{facts['scans']} of {lines} lines x {pixels} pixels, {facts['dtype']}"),
        ("heights", f"{facts['heights'][0]:.4g} to {facts['heights'][1]:.4g}"),
    ]
    for name, counts in facts["classes"].items():
        rows.append((name, f"{counts['scans']} scans, {counts['complete']} of them complete"))
    rows += [
        ("no single class", f"{facts['no_single_class']} scans"),
        ("aborted", f"{facts['aborted']} scans"),
        ("sessions", _listed(facts["sessions"], "not named: a split goes by duplicates")),
        ("campaigns", _listed(facts["campaigns"], "not known: no P3")),
    ]
    if facts["raters"] is not None:
        raters = ", ".join(f"{n} by {who}" for who, n in facts["raters"].items())
        rows.append(("raters", f"{raters} (scans by raters)"))
    if facts["full_agreement"] is not None:
        rows.append(("full agreement", f"{facts['full_agreement']} single-class scans"))
        rows.append(("consensus", f"{facts['consensus']} single-class scans, 2 raters or more"))
    if facts["tip_changes"] is not None:
        rows.append(("tip changes", f"in {facts['tip_changes']} scans"))
    rows.append(("votes", "kept" if facts["votes"] else "none"))
    rows.append(("class per line", "known" if facts["line_labels"] else "unknown"))
    rows.append(("sha256", facts["sha256"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _range(images, block=1024):
    lowest, highest = np.inf, -np.inf
    for start in range(0, images.shape[0], block):
        part = np.asarray(images[start : start + block])
        lowest, highest = min(lowest, part.min()), max(highest, part.max())
    return float(lowest), float(highest)


def _counts(values):
    if values is None:
        return None
    names, counts = np.unique(values, return_counts=True)
    return {str(name): int(n) for name, n in zip(names, counts, strict=True)}


def _campaigns(dataset):
    try:
        return _counts(session_campaigns(dataset))
    except DatasetError:
        return None


def _sum(known, mask):
    return None if known is None else int(mask().sum())


def _listed(counts, otherwise):
    if counts is None:
        return otherwise
    if len(counts) > 6:
        sizes = sorted(counts.values())
        return f"{len(counts)}, of {sizes[0]} to {sizes[-1]} scans"
    return ", ".join(f"{name} ({n})" for name, n in counts.items())
