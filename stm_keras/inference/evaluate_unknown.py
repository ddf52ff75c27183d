"""Score how well a model tells unknown surfaces from the one it was trained on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.data.dataset import Dataset, read_images
from stm_keras.data.preprocess import recorded_lines
from stm_keras.data.unknown_surfaces import (
    UnknownSurfaces,
    names_sources,
    read_unknown_surfaces,
)
from stm_keras.errors import DatasetError, MismatchError
from stm_keras.evaluation.abstention import score_unknown
from stm_keras.evaluation.held_out import Compared, score_compared, share_below
from stm_keras.inference.inputs import read_scans
from stm_keras.inference.predictor import CHUNK, Predictor, check_size
from stm_keras.inference.verdict import threshold

SOURCE_LINES = (1, 2, 4, 8, 16, 20, 64)  # after which sources are scored, beside all


def read_unknown(paths: Iterable[str | Path], predictor: Predictor) -> dict:
    """Read scans of surfaces that a model does not know, as `read_scans` does.

    Returns:
        dict of str, name of a file (its path where two have one name), to array-like of
        shape `(scans, lines, pixels)`.
    """
    if "unknown" not in predictor.metadata or not predictor.every_line:
        raise MismatchError(
            "The model does not say whether it knows a surface. Leave `--others` out, or take "
            "a model that does, such as h_si100."
        )
    files = list(dict.fromkeys(map(Path, paths)))
    names = [path.name for path in files]
    by_name: dict[str, Any] = {}
    for path in files:
        images = read_scans(path, predictor.metadata)
        if not len(images):
            raise DatasetError(f"{path}: holds no scans.")
        check_size(predictor.metadata, images.shape, path)
        by_name[path.name if names.count(path.name) == 1 else str(path)] = images
    return by_name


def score_unknown_scans(
    predictor: Predictor,
    part: Dataset,
    unknown: dict,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict:
    """Score how well a model tells other surfaces from the one it knows, see `score_unknown`.

    A scan that ended early is scored after its last line, and compared with known scans after
    as many lines.

    Args:
        predictor: A calibrated `Predictor`.
        part: `Dataset` of complete scans of the known surface that the model never saw.
        unknown: dict, as of `read_unknown`. Each file is a kind; its `found` are scans that
            the model calls unknown, each by the threshold for its lines.
        groups: array of shape `(scans of part,)`. What to resample, or None.
    """
    known = _unknown_scores(predictor, part.images)
    kinds, scores, called = [], [], []
    for name, images in unknown.items():
        for chunk in _chunks(images):
            chunk = chunk[:, : known.shape[1]]
            lines = np.maximum(recorded_lines(chunk), 1)
            last = _unknown_scores(predictor, chunk)[np.arange(len(chunk)), lines - 1]
            limits = [threshold(predictor.metadata, "unknown", count) for count in lines]
            pairs = zip(last, lines, strict=True)
            scores += [_at_the_end(score, known, count) for score, count in pairs]
            called += (last > limits).tolist()
            kinds += [name] * len(chunk)
    limit = threshold(predictor.metadata, "unknown", known.shape[1])
    kinds, called = np.array(kinds), np.array(called)
    scored = score_unknown(
        known[:, -1], scores, limit, kinds=kinds, groups=groups, seed=seed
    )
    for name, row in scored["kinds"].items():
        row["found"] = float(called[kinds == name].mean())
    return scored | {"found": float(called.mean())}


def score_sources(
    predictor: Predictor,
    part: Dataset,
    paths: Iterable[str | Path],
    groups: np.ndarray | None = None,
    seed: int = 0,
    line_counts: Iterable[int] = SOURCE_LINES,
) -> dict:
    """Score other surfaces of files that name the source of each scan, by source and kind.

    Each source weighs alike, and intervals resample sources and sessions. Sources that a
    model was trained on say nothing here: its own file holds what was measured without them.

    Args:
        part: `Dataset` of complete scans of the known surface that the model never saw.
        paths: sequence of `Path`; those that name no sources are left out.
        groups: array of shape `(scans of part,)`. Session of each, or None for scans.
        line_counts: sequence of int. Numbers of lines.

    Returns:
        dict of file name to dict of `lines`, dict of str, number of lines, to scores as of
        `score_compared`; and `taught`, how many of its scans are of sources that the model
        was trained on.
    """
    scores = {}
    for path in filter(names_sources, dict.fromkeys(map(Path, paths))):
        others = read_unknown_surfaces(path)
        check_size(predictor.metadata, others.images.shape, path)
        known = _unknown_scores(predictor, part.images)
        selected = np.flatnonzero(others.usable & others.whole)
        other = _unknown_scores(predictor, others.images[selected])
        names = np.arange(len(known)) if groups is None else groups
        session = np.unique(names, return_inverse=True)[1].reshape(-1)
        count = known.shape[1]
        lines = sorted({min(n, count) for n in (*line_counts, count)})
        taught = (predictor.metadata.get("unknown") or {}).get("taught_by") or {}
        scores[path.name] = {
            "lines": {
                str(n): _of_sources(
                    predictor.metadata, known, other, session, others, selected, n
                )
                for n in lines
            },
            "taught": int(np.isin(others.source[selected], list(taught)).sum()),
        }
    return scores


def _of_sources(metadata, known, other, session, others: UnknownSurfaces, selected, lines):
    """Compare known scans with others after images lines, or after the last of a scan."""
    last = np.minimum(others.lines[selected], lines)
    scores = other[np.arange(len(selected)), last - 1]
    limits = {n: threshold(metadata, "unknown", n) for n in {lines, *last.tolist()}}
    called = [score > limits[n] for score, n in zip(scores, last.tolist(), strict=True)]
    sessions = range(session.max() + 1)
    below = [
        [
            share_below(known[session == one, n - 1], score)
            for score, n in zip(scores, last, strict=True)
        ]
        for one in sessions
    ]
    alarms = known[:, lines - 1] > limits[lines]
    licences = others.licences()
    scores = score_compared(
        Compared(
            np.array(below),
            np.bincount(session),
            np.array([alarms[session == one].mean() for one in sessions]),
            np.array(called, float),
            others.source[selected],
            others.kind[selected],
        )
    )
    for name, part in scores["by_source"].items():
        part["licence"] = licences[name]["licence"]
    return scores


def _at_the_end(score, known, lines):
    """Return what is as rare among known scans at the end as a score is after images lines.

    `known` are scores of known scans, `(scans, lines)`.
    """
    if lines == known.shape[1]:
        return score
    rank = np.mean(known[:, lines - 1] < score)
    last = known[:, -1]
    return max(score, last.max()) if rank == 1 else np.quantile(last, rank)


def _unknown_scores(predictor, images):
    """Return the probability of an unknown surface after every line: `(scans, lines)`."""
    return np.concatenate([predictor.heads(each)["unknown"] for each in _chunks(images)])


def _chunks(images):
    for first in range(0, len(images), CHUNK):
        yield read_images(images, np.arange(first, min(first + CHUNK, len(images))))
