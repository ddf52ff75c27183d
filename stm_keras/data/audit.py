"""Look for what makes the scores of a dataset wrong: leaks, mix-ups, damage, imbalance."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from stm_keras.data.audit_findings import (
    Finding,
    describe_findings,
    judge_orientation,
    measure_orientation,
)
from stm_keras.data.dataset import Dataset
from stm_keras.data.duplicates import Duplicates, find_duplicates
from stm_keras.data.preprocess import standardise_lines
from stm_keras.data.split import PARTS, Split, split_dataset
from stm_keras.data.summary import count_values
from stm_keras.errors import DatasetError

_BLOCK = 256
MOST = 50_000  # scans of shards; a search for duplicates takes some 25 kB of memory each


@dataclass(frozen=True)
class Audit:
    """What an audit found, worst first.

    Args:
        source: str. Where the scans come from.
        duplicates: dict. `pairs`, `kinds` (kind to number of pairs), `groups`,
            `scans` (in any group), `across_sessions` and `exact_across` (pairs and
            exact pairs in different sessions, None where these are unknown), and
            `leaks`: dict of "p1", "p2" and "given" to dict of `protocol`, `groups`
            (on both sides) and `held_out` (scans that have a copy in training), or to
            None where there is no such split.
        orientation: dict of what `Orientation` holds.
        damage: dict of counts: `not_finite` (scans), `constant_scans`,
            `constant_lines`, `scans_with_constant_lines`, `aborted`.
        labels: dict. `scans`, `single_class` (complete ones), `no_class`, `counts`
            (class to scans), `simulated` (bool).
        sessions: tuple of dicts of `session`, `scans` and `counts` (single-class
            scans of each class).
        votes: dict of `raters` (number of raters to scans), `unanimous` (share of
            scans) and `unanimous_of_several` (share of those with two raters or more),
            None where unknown.
    """

    source: str
    findings: tuple[Finding, ...]
    duplicates: dict
    orientation: dict
    damage: dict
    labels: dict
    sessions: tuple[dict, ...]
    votes: dict

    def to_json(self) -> dict:
        """Return a dict of what JSON knows."""
        findings = [vars(finding) for finding in self.findings]
        return {**vars(self), "findings": findings, "sessions": list(self.sessions)}

    def text(self) -> str:
        """Return all findings, and classes per session, as lines of text."""
        width = max(len(finding.subject) for finding in self.findings)
        lines = [f"{f.severity:<7}  {f.subject:<{width}}  {f.text}" for f in self.findings]
        if self.sessions:
            table = [("session", "scans", *self.labels["counts"])]
            for row in self.sessions:
                counts = map(str, row["counts"].values())
                table.append((row["session"], str(row["scans"]), *counts))
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines.append("")
            for row in table:
                cells = zip(row[1:], widths[1:], strict=True)
                numbers = "  ".join(f"{cell:>{width}}" for cell, width in cells)
                lines.append(f"{row[0]:<{widths[0]}}  {numbers}")
        return "\n".join(lines)


def audit(
    dataset: Dataset,
    split: Split | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Audit a dataset, and a split of it besides P1 and P2: would its scores mean anything?"""
    if hasattr(dataset.images, "select") and len(dataset) > MOST:
        raise DatasetError(
            f"{dataset.source or 'dataset'}: an audit holds all scans in memory, {MOST:,} at "
            f"most. Received: {len(dataset):,} in shards. Audit one shard: it is a dataset."
        )
    if not len(dataset):
        raise DatasetError(f"{dataset.source or 'dataset'}: holds no scans to audit.")
    _check_split(dataset, split)
    damage, orientation = _check_images(dataset)
    pairs = find_duplicates(dataset.images, dataset.lines, progress)
    counted = {
        "duplicates": _count_duplicates(dataset, pairs, split),
        "damage": damage,
        "labels": _count_labels(dataset),
        "sessions": _count_sessions(dataset),
        "votes": _count_votes(dataset),
    }
    findings = describe_findings(orientation=orientation, **counted)
    return Audit(dataset.source, findings, orientation=asdict(orientation), **counted)


def _check_split(dataset, split):
    if split is None:
        return
    last = max((int(part.max()) for part in split.parts.values() if len(part)), default=0)
    if last >= len(dataset):
        raise DatasetError(
            f"`split` names scan {last}, but {dataset.source or 'the dataset'} holds only "
            f"{len(dataset)} scans. Give the dataset that was split."
        )


def _check_images(dataset):
    damage = dict.fromkeys(
        ("not_finite", "constant_scans", "constant_lines", "scans_with_constant_lines"), 0
    )
    measured = []
    for start in range(0, len(dataset), _BLOCK):
        images = np.asarray(dataset.images[start : start + _BLOCK])
        lines = np.asarray(dataset.lines[start : start + _BLOCK])
        recorded = np.arange(images.shape[1]) < lines[:, None]
        bad = ~np.isfinite(images).all(-1) & recorded
        damage["not_finite"] += int(bad.any(1).sum())
        images = np.where((recorded & ~bad)[:, :, None], images, 0)
        flat = ~standardise_lines(images).any(-1) & recorded & ~bad
        constant = (flat | bad | ~recorded).all(1)
        damage["constant_scans"] += int(constant.sum())
        damage["constant_lines"] += int(flat[~constant].sum())
        damage["scans_with_constant_lines"] += int(flat[~constant].any(1).sum())
        measured.append(measure_orientation(images, np.where(bad.any(1), 0, lines)))
    damage["aborted"] = int((dataset.lines < dataset.images.shape[1]).sum())
    noise, levelled = (np.concatenate(values) for values in zip(*measured, strict=True))
    return damage, judge_orientation(noise, levelled)


def _count_duplicates(dataset, pairs: Duplicates, split):
    sizes = np.bincount(pairs.groups)
    across = exact = None
    if dataset.session is not None:
        apart = dataset.session[pairs.first] != dataset.session[pairs.second]
        across = int(apart.sum())
        exact = int((apart & (pairs.kind == "exact")).sum())
    splits = {name: _try_split(dataset, name) for name in ("p1", "p2")} | {"given": split}
    return {
        "pairs": len(pairs),
        "kinds": pairs.counts(),
        "groups": int((sizes > 1).sum()),
        "scans": int(sizes[sizes > 1].sum()),
        "across_sessions": across,
        "exact_across": exact,
        "leaks": {name: _count_leaks(each, pairs) for name, each in splits.items()},
    }


def _try_split(dataset, protocol):
    try:
        return split_dataset(dataset, protocol)
    except DatasetError:
        return None


def _count_leaks(split, pairs):
    if split is None:
        return None
    groups = {name: pairs.groups[np.asarray(split.parts[name], int)] for name in PARTS}
    held_out = np.concatenate([groups[name] for name in PARTS if name != "train"])
    leaked = held_out[np.isin(held_out, groups["train"])]
    groups = len(np.unique(leaked))
    return {"protocol": split.protocol, "groups": groups, "held_out": len(leaked)}


def _count_labels(dataset):
    counts = dataset.counts().tolist()
    return {
        "scans": len(dataset),
        "single_class": int(dataset.single_class().sum()),
        "no_class": int((dataset.labels < 0).sum()),
        "counts": dict(zip(dataset.classes, counts, strict=True)),
        "simulated": bool(dataset.parameters),
    }


def _count_sessions(dataset):
    if dataset.session is None:
        return ()
    rows = []
    for session in np.unique(dataset.session):
        scans = dataset.session == session
        labels = dataset.labels[scans & dataset.single_class()]
        counts = np.bincount(labels, minlength=len(dataset.classes)).tolist()
        counts = dict(zip(dataset.classes, counts, strict=True))
        rows.append({"session": str(session), "scans": int(scans.sum()), "counts": counts})
    return tuple(rows)


def _count_votes(dataset):
    unanimous = several = None
    if dataset.unanimous is not None:
        unanimous = float(np.mean(dataset.unanimous))
        if dataset.raters is not None and (dataset.raters > 1).any():
            several = float(np.mean(dataset.unanimous[dataset.raters > 1]))
    return {
        "raters": count_values(dataset.raters),
        "unanimous": unanimous,
        "unanimous_of_several": several,
    }
