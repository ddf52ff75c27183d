"""Measure the tip of now on splices of two real scans: is the new tip named, and how soon?

No real scan says in which line its tip changed. So lines of one scan are followed by those of
another of the same session and another class, on both of which the raters agree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stm_keras.data.dataset import Dataset, read_images
from stm_keras.data.preprocess import has_signal
from stm_keras.errors import MismatchError
from stm_keras.evaluation.bootstrap import draw_weights, interval
from stm_keras.evaluation.changes import DELAY
from stm_keras.inference.predictor import Predictor
from stm_keras.live.events import Frame
from stm_keras.live.tip import TipStream

COUNT = 60  # splices, and as many scans that are left as they are
WITHIN = 10  # lines after the change in which the new tip is to be named
AFTER = (4, 6, 8, WITHIN, 15, 20, 30)  # lines
CUT = (0.25, 0.75)  # of the lines, between which the change lies


@dataclass(frozen=True)
class Splices:
    """Scans with a change of the tip in a known line, and such without.

    Args:
        images: array `(splices, lines, pixels)`. Heights.
        change_line: int array `(splices,)`. First line of the second scan.
        before, after: int arrays `(splices,)`. Class of the first and of the second scan.
        calm: array `(scans, lines, pixels)`. Heights of single scans.
        sessions: str array `(splices,)`.
    """

    images: np.ndarray
    change_line: np.ndarray
    before: np.ndarray
    after: np.ndarray
    calm: np.ndarray
    sessions: np.ndarray


def splice_scans(
    dataset: Dataset, indices: np.ndarray, count: int = COUNT, seed: int = 0
) -> Splices:
    """Draw splices of two scans, and as many calm scans.

    Each pair of two scans of a session that differ in class is as likely as any other.

    Args:
        dataset: `Dataset` with sessions and votes.
        indices: int array. Scans to draw from, such as those of the test sessions.

    Raises:
        MismatchError: There are no two such scans in any session.
    """
    if dataset.session is None:
        raise MismatchError(
            "Splices are made within a session, and the scans have none. Give scans with "
            "sessions."
        )
    rng = np.random.default_rng(seed)
    agreed = np.asarray(indices)[dataset.full_agreement()[indices]]
    agreed = agreed[_whole(dataset, agreed)]
    labels, sessions = dataset.labels[agreed], dataset.session[agreed]
    pairs = [
        (first, int(second))
        for first in range(len(agreed))
        for second in np.flatnonzero(
            (sessions == sessions[first]) & (labels != labels[first])
        )
    ]
    if not pairs:
        raise MismatchError(
            "No session has two scans of different classes on which all raters agree."
        )
    lines = dataset.images.shape[1]
    chosen = [pairs[each] for each in rng.integers(len(pairs), size=count)]
    cuts = rng.integers(round(CUT[0] * lines), round(CUT[1] * lines) + 1, count)
    images = []
    for pair, cut in zip(chosen, cuts, strict=True):
        before, after = (read_images(dataset.images, agreed[[each]])[0] for each in pair)
        images.append(np.concatenate([before[:cut], after[cut:]]))
    first, second = np.transpose(chosen)
    calm = rng.choice(agreed, min(count, len(agreed)), replace=False)
    return Splices(
        images=np.array(images),
        change_line=cuts,
        before=labels[first],
        after=labels[second],
        calm=np.asarray(read_images(dataset.images, np.sort(calm))),
        sessions=sessions[first],
    )


def _whole(dataset, indices):
    """Tell which scans have a signal in every line: bool array."""
    return np.array(
        [has_signal(read_images(dataset.images, np.array([i]))[0]).all() for i in indices],
        bool,
    )


def judge_splices(
    predictor: Predictor, splices: Splices, progress: Callable | None = None
) -> dict[str, np.ndarray]:
    """Judge splices and calm scans line by line, as `watch` does.

    Args:
        progress: callable of (scans done, scans in all), or None.

    Returns:
        dict: `named` and `by_scan`, bool arrays `(splices, lines)`: whether the new tip is named,
        by the tip of now and by the verdict on the whole scan, after each line since the
        change; `called`, bool `(splices,)`, whether a change was called not more than `WITHIN`
        lines after it; `sessions`, str `(splices,)`; `changes` and `disturbed`, bool `(calm,)`:
        whether a change was called, and whether the tip of now came to another class than the
        whole scan in the end.
    """
    stream, lines = TipStream(predictor), splices.images.shape[1]
    images = [*splices.images, *splices.calm]
    named, by_scan, called, changes, disturbed = [], [], [], [], []
    for number, image in enumerate(images):
        told = judge_lines(stream, image)
        if number < len(splices.images):
            cut = splices.change_line[number]
            name, later = predictor.classes[splices.after[number]], told[cut:]
            known = [_is_it(each.scan.change_line, cut) for each in later]
            named.append(_padded([each.tip.name == name for each in later], lines))
            by_scan.append(_padded([each.scan.name == name for each in later], lines))
            called.append(any(known[: WITHIN + 1]))
        else:
            last = told[-1]
            changes.append(any(each.changed for each in told))
            changed = last.since_change is not None
            disturbed.append(changed and last.tip.name != last.scan.name)
        if progress:
            progress(number + 1, len(images))
    flags = {"named": named, "by_scan": by_scan, "called": called}
    flags |= {"changes": changes, "disturbed": disturbed}
    told = {name: np.array(values, bool) for name, values in flags.items()}
    return {**told, "sessions": splices.sessions}


def judge_lines(stream: TipStream, image: np.ndarray) -> list[Any]:
    """Push the lines of a scan; return the list of `TipVerdict`."""
    stream.begin(Frame(pixels=image.shape[1], lines=len(image)))
    return [stream.push(line) for line in image]


def summarise(parts: list[dict], seed: int = 0) -> dict:
    """Pool what `judge_splices` returned of several models.

    Returns:
        dict, JSON-ready: `splices` and `calm`, their numbers; shares with 95 % intervals, of
        resampled sessions, `[share, low, high]`: `called`, and `named` and `named_by_scan`, the
        new tip was named within `WITHIN` lines; `at`, a dict of lines since the change to
        the shares `[tip of now, whole scan]` that name the new tip with just that line, `end`
        with the last, `any` with any of them; `median_lines` until it was named first, where
        it was named at all; `changes` and `disturbed`, shares of the calm scans.
    """
    told = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    named, by_scan = told["named"], told["by_scan"]
    first = named.argmax(1)[named.any(1)] + 1
    ends = {**{str(n): n - 1 for n in AFTER if n <= named.shape[1]}, "end": -1}
    groups = told["sessions"]
    return {
        "splices": len(named),
        "called": _share(told["called"], groups, seed),
        "named": _share(named[:, :WITHIN].any(1), groups, seed),
        "named_by_scan": _share(by_scan[:, :WITHIN].any(1), groups, seed),
        "at": {
            name: [float(named[:, line].mean()), float(by_scan[:, line].mean())]
            for name, line in ends.items()
        }
        | {"any": [float(each.any(1).mean()) for each in (named, by_scan)]},
        "median_lines": float(np.median(first)) if len(first) else None,
        "calm": len(told["disturbed"]),
        "changes": float(told["changes"].mean()),
        "disturbed": float(told["disturbed"].mean()),
    }


def _share(flags, groups, seed):
    weights = draw_weights(len(flags), 1000, seed, groups)
    shares = [flags @ part / part.sum(0) for part in weights]
    return [float(flags.mean()), *map(float, interval(np.concatenate(shares)))]


def _is_it(line, cut):
    """Tell whether a called change is meant for a line: it may lie a little beside it."""
    return line is not None and abs(line - cut) <= 2 * DELAY


def _padded(flags, lines):
    """Return flags after each line since the change, the last one held: bool `(lines,)`."""
    flags = np.asarray(flags, bool)
    return np.pad(flags, (0, lines - len(flags)), mode="edge")
