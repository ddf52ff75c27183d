"""Split scans into train, validation and test: by scan, by session or by campaign.

Only complete scans of one class take part. Every split is a function of dataset and
seed, whatever the machine.
"""

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stm_keras.data.dataset import Dataset
from stm_keras.data.stratify import assign_groups, assign_scans
from stm_keras.errors import DatasetError, UsageError

PARTS = ("train", "validation", "test")
PROTOCOLS = {"p1": "by scan", "p2": "by session", "p3": "by campaign"}
VALIDATION = 0.15  # of what is not tested, where a fold is given
CAMPAIGNS = {  # first and last month of the Nottingham sessions
    "2014 - Feb 2015": (201401, 201502),
    "Sep 2015": (201509, 201509),
    "Oct - Nov 2015": (201510, 201511),
}
MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
SESSION = re.compile(rf"(\d{{4}})({'|'.join(MONTHS)})\d\d-\d{{6}}")
MOST = 1 << 32  # scans of any dataset
LISTED = 100_000  # scans of a part that split.json lists one by one


@dataclass(frozen=True)
class Split:
    """Which scans of a dataset train, validate and test.

    Args:
        protocol: str. "p1", "p2" or "p3".
        fold: int, or None where nothing is folded.
        parts: dict of "train", "validation" and "test" to sorted int array of
            indices into the dataset.
        groups: array of shape `(scans,)`. Session (or what stands for it) of every
            scan of the dataset: what a bootstrap resamples. None under P1.
        note: str. How the split was made, for people.
    """

    protocol: str
    seed: int
    fold: int | None
    parts: dict[str, np.ndarray]
    groups: np.ndarray | None
    note: str

    def to_json(self) -> dict:
        """Return a dict of what JSON knows; `from_json` takes it back."""
        return {
            "protocol": self.protocol,
            "seed": self.seed,
            "fold": self.fold,
            "parts": {name: _packed(indices) for name, indices in self.parts.items()},
            "groups": None if self.groups is None else self.groups.tolist(),
            "note": self.note,
        }

    @classmethod
    def from_json(cls, saved: dict, scans: int | None = None) -> "Split":
        """Return the split that `to_json` gave, of a dataset with so many scans.

        Raises:
            DatasetError: It is not a split, or not of that dataset.
        """
        most = MOST if scans is None else scans
        try:
            parts = {name: _unpacked(saved["parts"][name], most) for name in PARTS}
            groups = saved["groups"]
            groups = None if groups is None else np.array(groups)
            rest = {key: saved[key] for key in ("protocol", "seed", "fold", "note")}
            together = np.sort(np.concatenate(list(parts.values())))
            if (np.diff(together) == 0).any():
                raise ValueError("a scan is in two parts")
            if len(together) and not 0 <= together[0] <= together[-1] < most:
                raise ValueError(f"scan {together[-1]} of {most}")
            if groups is not None and groups.shape != (scans or len(groups),):
                raise ValueError(f"groups of {len(groups)} scans")
        except (KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
            raise DatasetError(
                f"The saved split is damaged ({error}). Start a new run."
            ) from None
        return cls(parts=parts, groups=groups, **rest)


def split_dataset(
    dataset: Dataset,
    protocol: str = "p2",
    seed: int = 0,
    fold: int | None = None,
    num_folds: int = 5,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    groups: ArrayLike | None = None,
) -> Split:
    """Split the complete single-class scans of a dataset.

    P1 draws scans, so that siblings of one session are on both sides: comparable
    with the literature, and optimistic. P2 keeps every session whole: what a new
    session will give. P3 tests on one campaign and trains on the others. Each is
    stratified: every part sees all classes, as near the same share as groups allow.

    Args:
        protocol: str. "p1", "p2" or "p3".
        fold: int. Test on this fold and validate on 15 % of the rest. The test folds
            are disjoint and cover everything. None draws one split by `fractions`;
            P3, which has folds only, then takes fold 0.
        num_folds: int. Folds of P1 and P2; P3 has one per campaign.
        fractions: three floats. Shares of train, validation and test. Without a test
            part a model to ship trains on all there is.
        groups: array of shape `(scans,)`. What must stay together, instead of
            `dataset.session`.

    Raises:
        UsageError: An argument is out of range.
        DatasetError: Sessions or campaigns are unknown, or a part would be empty or
            lack a class.
    """
    protocol = str(protocol).lower()
    _check_arguments(protocol, seed, fold, num_folds, fractions)
    usable = np.flatnonzero(dataset.single_class())
    labels = np.asarray(dataset.labels)[usable]
    _check_classes(dataset, labels)
    groups = None if protocol == "p1" else _check_groups(dataset, groups, protocol)
    ids = None if groups is None else _number(groups)[usable]
    names = fold_names(dataset, protocol, num_folds)
    if protocol == "p3" and fold is None:
        fold = 0

    def assign(scans, shares, *seeds):  # the part of each scan: int array
        how = shares, (seed, *seeds), len(dataset.classes)
        if ids is None:
            return assign_scans(labels[scans], *how)
        return assign_groups(labels[scans], _number(ids[scans]), *how)

    every = slice(None)
    whole = fold is None and not fractions[2]  # nothing is kept for a test
    if fold is None:
        parts = assign(every, fractions[:2] if whole else fractions)
    else:
        if not 0 <= fold < len(names):
            raise UsageError(
                f"`fold` must be 0 to {len(names) - 1} under {protocol}. Received: {fold}."
            )
        if protocol == "p3":
            tested = session_campaigns(dataset)[usable] == names[fold]
        else:
            tested = assign(every, np.full(num_folds, 1 / num_folds)) == fold
        parts = np.full(len(labels), PARTS.index("test"))
        parts[~tested] = assign(~tested, (1 - VALIDATION, VALIDATION), fold)
    indices = {name: usable[parts == number] for number, name in enumerate(PARTS)}
    filled = {name: indices[name] for name in PARTS[: 2 if whole else 3]}
    _check_parts(dataset, filled, protocol, groups)
    note = _note(protocol, None if fold is None else names[fold], seed, indices, groups)
    return Split(protocol, int(seed), fold, indices, groups, note)


def fold_names(dataset: Dataset, protocol: str = "p2", num_folds: int = 5) -> tuple:
    """Return the names of the folds: "0", "1", ... or, under P3, the campaigns."""
    if protocol != "p3":
        return tuple(str(number) for number in range(num_folds))
    names = set(session_campaigns(dataset)[dataset.single_class()].tolist())
    known = [name for name in CAMPAIGNS if name in names]
    return (*known, *sorted(names.difference(known)))


def _packed(indices):
    """Write sorted indices for JSON: as a list, or where they are many as one bit a scan."""
    if len(indices) <= LISTED:
        return indices.tolist()
    there = np.zeros(indices[-1] + 1, bool)
    there[indices] = True
    return base64.b64encode(zlib.compress(np.packbits(there), 1)).decode()


def _unpacked(saved, most):
    if not isinstance(saved, str):
        return np.array(saved, int).reshape(len(saved))
    packed = base64.b64decode(saved, validate=True)
    bits = zlib.decompressobj().decompress(packed, most // 8 + 1)
    return np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8)))


def _check_arguments(protocol, seed, fold, num_folds, fractions):
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name} ({what})" for name, what in PROTOCOLS.items())
        raise UsageError(f"`protocol` must be one of {known}. Received: {protocol}.")
    numbers = {"seed": (seed, 0), "fold": (fold or 0, 0), "num_folds": (num_folds, 2)}
    for name, (value, low) in numbers.items():
        if not isinstance(value, int | np.integer) or value < low:
            raise UsageError(
                f"`{name}` must be a whole number, {low} or more. Received: {value!r}."
            )
    given = np.asarray(fractions, float)
    good = given.shape == (3,) and (given[:2] > 0).all() and given[2] >= 0
    if not good or abs(given.sum() - 1) > 1e-6:
        raise UsageError(
            "`fractions` must be three numbers above 0 that sum to 1: train, validation, "
            f"test, which alone may be 0. Received: {fractions}."
        )


def _check_classes(dataset, labels):
    counts = np.bincount(labels, minlength=len(dataset.classes))
    missing = [n for n, count in zip(dataset.classes, counts, strict=True) if not count]
    if len(labels) == 0:
        raise DatasetError(
            f"{dataset.source}: no scan is complete and of one class, so there is nothing "
            "to split. Add such scans."
        )
    if len(missing) == len(dataset.classes) - 1:
        raise DatasetError(
            f"{dataset.source}: all complete scans are of one class, "
            f"{dataset.classes[labels[0]]!r}. Training needs two or more: add scans."
        )
    if missing:
        raise DatasetError(
            f"{dataset.source}: no complete scan is of class {missing[0]!r}. Add some, or "
            "take the class out of `classes`."
        )


def _check_groups(dataset, groups, protocol):
    groups = dataset.session if groups is None else np.asarray(groups)
    if groups is None:
        raise DatasetError(
            f"{dataset.source}: sessions are unknown, and protocol {protocol} keeps each "
            "in one part. Add an array `session`, one name per scan, pass `groups`, or use "
            "protocol p1."
        )
    if groups.shape != (len(dataset),):
        raise UsageError(
            f"`groups` must have one entry for each of {len(dataset)} scans. Received: "
            f"shape {groups.shape}."
        )
    return groups


def _number(groups):
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def _check_parts(dataset, parts, protocol, groups):
    for name, indices in parts.items():
        labels = dataset.labels[indices]
        counts = np.bincount(labels, minlength=len(dataset.classes))
        for number, count in enumerate(counts):
            if count:
                continue
            scans = dataset.single_class() & (dataset.labels == number)
            there = f"{scans.sum()} complete scans"
            if groups is not None:
                there += f" in {len(np.unique(groups[scans]))} sessions or groups"
            lacks = "would be empty" if not len(indices) else "would have no scan"
            raise DatasetError(
                f"{dataset.source}: under protocol {protocol} the {name} part {lacks} of "
                f"class {dataset.classes[number]!r}, which has {there}. Use another seed or "
                "protocol, fewer folds, other fractions, or add scans."
            )


def _note(protocol, fold, seed, parts, groups):
    sizes = []
    for name, indices in parts.items():
        within = "" if groups is None else f" in {len(np.unique(groups[indices]))} groups"
        sizes.append(f"{name} {len(indices)} scans{within}")
    folded = "" if fold is None else f", fold {fold}"
    return f"{protocol} ({PROTOCOLS[protocol]}){folded}, seed {seed}: {', '.join(sizes)}"


def session_campaigns(dataset: Dataset) -> np.ndarray:
    """Return the campaign of each scan: as saved, or from the Nottingham sessions.

    Raises:
        DatasetError: The dataset has no campaigns and no sessions that tell them.
    """
    if dataset.campaign is not None:
        return dataset.campaign
    if dataset.session is None:
        raise _no_campaign(dataset, "no sessions")
    sessions, inverse = np.unique(dataset.session, return_inverse=True)
    named = []
    for session in sessions.tolist():
        match = SESSION.fullmatch(session)
        month = int(match[1]) * 100 + MONTHS.index(match[2]) + 1 if match else 0
        names = [n for n, (first, last) in CAMPAIGNS.items() if first <= month <= last]
        if not names:
            raise _no_campaign(dataset, f"session {session!r} of no known campaign")
        named += names
    return np.array(named)[inverse]


def _no_campaign(dataset, reason):
    return DatasetError(
        f"{dataset.source}: campaigns are unknown ({reason}). Add an array `campaign`, one "
        "name per scan, or use protocol p1 or p2."
    )
