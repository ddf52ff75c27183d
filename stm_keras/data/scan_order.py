"""Which scan was recorded before which, and how often one class follows another."""

import re

import numpy as np

from stm_keras.data.dataset import Dataset

DIGITS = re.compile(r"(\d+)")


def scans_before(dataset: Dataset) -> np.ndarray | None:
    """Return the scan before each: of the same session and run, by the order of their names.

    Numbers in names count as numbers: `--1_9` comes before `--1_10`, as microscopes number their
    files. Without names the order in the dataset is taken. A scan of another run is none before:
    between runs people move the tip, repair it, or go home.

    Returns:
        int array `(scans,)` of indices, -1 where there is none; None where sessions or runs are
        unknown.
    """
    if dataset.session is None or dataset.run is None:
        return None
    numbers = range(len(dataset))
    names = [""] * len(dataset) if dataset.name is None else dataset.name.tolist()
    runs = list(zip(dataset.session.tolist(), map(str, dataset.run.tolist()), strict=True))
    order = sorted(numbers, key=lambda k: (runs[k], _natural(names[k])))
    before = np.full(len(dataset), -1)
    for one, other in zip(order, order[1:], strict=False):
        if runs[one] == runs[other]:
            before[other] = one
    return before


def _natural(name):
    """Return what sorts names by the numbers in them: text and number by turns."""
    parts = DIGITS.split(name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def count_transitions(dataset: Dataset, sessions: np.ndarray) -> tuple[np.ndarray, int]:
    """Count how often one class follows another from scan to scan, by the votes on both.

    Votes that disagree count in shares, and so do scans of several classes.

    Args:
        sessions: array of the sessions to count in.

    Returns:
        float array `(classes, classes)`, from rows to columns, and the number of pairs.
    """
    before = scans_before(dataset)
    classes = len(dataset.classes)
    if before is None:
        return np.zeros((classes, classes)), 0
    votes = dataset.votes
    if votes is None:
        votes = np.eye(classes + 1)[dataset.labels, :classes]  # of -1 the last row: none
    votes = votes.astype(float)
    total = votes.sum(1, keepdims=True)
    shares = votes / np.where(total > 0, total, 1)
    voted = (total[:, 0] > 0) & np.isin(dataset.session, sessions)
    pairs = np.flatnonzero((before >= 0) & voted & voted[before])
    return shares[before[pairs]].T @ shares[pairs], len(pairs)
