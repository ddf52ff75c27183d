"""Judge scans with known classes, whole and begun, and score the answers."""

from pathlib import Path

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import recorded_lines
from stm_keras.data.unknown_surfaces import (
    UnknownSurfaces,
    names_sources,
    read_unknown_surfaces,
)
from stm_keras.errors import DatasetError, MismatchError
from stm_keras.evaluation.abstention import score_rejection, score_unknown
from stm_keras.evaluation.change_scores import score_changes, score_votes
from stm_keras.evaluation.held_out import Compared, score_compared, share_below
from stm_keras.evaluation.scores import score_predictions
from stm_keras.inference.inputs import read_scans
from stm_keras.inference.judge import CHUNK
from stm_keras.inference.predictor import check_size
from stm_keras.inference.verdict import threshold

SOURCE_LINES = (1, 2, 4, 8, 16, 20, 64)  # after which sources are asked about, beside all

TEST_SEED = 20_202  # of simulated scans that score; no run trains or chooses on them
NUM_CHANGED = 1200
NUM_OTHER = 760  # 40 of each kind

LINES_SEEN = (1, 2, 4, 8, 16, 20, 32, 64, 96, 128)


def judge(predictor, dataset, indices, progress=None):
    """Predict some scans of a dataset from their first lines and from all.

    Args:
        predictor: A `Predictor`.
        dataset: A `Dataset` with the model's classes.
        indices: int array. Scans to judge.
        progress: callable of (passes done, passes in all), or None.

    Returns:
        dict of int lines seen to float array `(scans, classes)` of probabilities.

    Raises:
        MismatchError: Model and data do not fit.
        DatasetError: There is nothing to judge.
    """
    predictor.check_classes(dataset.classes, dataset.source)
    predictor.check_scans(dataset.images.shape, dataset.source)
    if not len(indices):
        raise DatasetError(
            f"{dataset.source}: no complete scan has a single class, so there is nothing to "
            "score."
        )
    part = dataset.take(indices)
    total = part.images.shape[1]
    seen = sorted({min(lines, total) for lines in (*LINES_SEEN, total)})
    return predictor.by_lines(part.images, seen, progress)


def score(dataset, indices, by_lines, protocol, groups=None, seed=0, resamples=1000):
    """Score predictions under a protocol.

    Args:
        dataset: A `Dataset`.
        indices: int array. Scans that were judged.
        by_lines: dict of int lines seen to float array `(scans, classes)`.
        protocol: str. "p1", "p2" or "p3"; under P2 and P3 the intervals resample
            sessions.
        groups: int array of shape `(scans of the dataset,)`. What to resample where
            sessions are unknown.
        seed: int. Of the bootstrap.
        resamples: int.

    Returns:
        dict, as of `score_predictions`.

    Raises:
        DatasetError: There is no session to resample.
    """
    return score_predictions(
        dataset.labels[indices],
        by_lines[max(by_lines)],
        dataset.classes,
        by_lines=by_lines,
        groups=resampled(dataset, indices, protocol, groups),
        full_agreement=dataset.full_agreement()[indices],
        consensus=dataset.consensus()[indices],
        seed=seed,
        resamples=resamples,
    )


def resampled(dataset, indices, protocol, groups=None):
    """Return what intervals resample: the session of each scan, or None for scans.

    Args, Raises: As for `score`.
    """
    if protocol == "p1":
        return None
    if dataset.session is not None:
        groups = np.unique(dataset.session, return_inverse=True)[1]
    if groups is None:
        raise DatasetError(
            f"Protocol {protocol} resamples sessions, and the data names none. Add a "
            "`session` array, or use --protocol p1."
        )
    return groups[indices]


def changed_scans(count, seed):
    """Simulate scans, half of them with a tip change that can be seen.

    Args:
        count: int. Scans before those are left out whose change does not show.
        seed: int.

    Returns:
        `Dataset`.
    """
    from stm_keras.simulate import SimulationConfig, clear_changes, simulate

    scans = simulate(count, seed, SimulationConfig(p_tip_change=0.5, p_partial=0.0))
    return scans.take(np.flatnonzero(clear_changes(scans)))


def trust_scores(predictor, part, validation=None, groups=None, seed=0, taught=False):
    """Score what a model says of its own verdicts, on scans it never saw.

    Args:
        predictor: A calibrated `Predictor`.
        part: `Dataset` of complete single-class scans to score on.
        validation: float array `(scans, classes)`. Probabilities of the scans whose
            confidence sets the thresholds, as given by a model that had not seen them;
            or None.
        groups: array of shape `(scans of part,)`. What to resample, or None.
        seed: int. Of the bootstrap.
        taught: bool. Whether the model learnt from `part` after all. It is then not asked
            how strange these scans are, nor where their tip changed.

    Returns:
        dict, JSON-ready: `rejection`, `unknown` and `changes`, as of `score_rejection`,
        `score_unknown` and `score_changes`; None where the model has no such head, or
        where the answer would be of scans that taught it.
    """
    scores = {"rejection": None, "unknown": None, "changes": None}
    if validation is not None and len(validation):
        scores["rejection"] = score_rejection(
            part.labels,
            predictor.probabilities(part.images),
            validation,
            groups=groups,
            seed=seed,
        )
    facts = predictor.facts
    heads = {}
    if predictor.every_line and not taught:
        heads = predictor.heads(part.images)
    if "unknown" in facts and heads:
        from stm_keras.simulate import UNKNOWN_KINDS, simulate_unknown

        others = simulate_unknown(NUM_OTHER, TEST_SEED)
        found = predictor.heads(others.images)["unknown"]
        last = np.maximum(others.lines, 1) - 1
        scores["unknown"] = score_unknown(
            heads["unknown"][:, -1],
            found[np.arange(len(last)), last],
            facts["unknown"]["thresholds"][-1],
            kinds=np.array(UNKNOWN_KINDS)[others.parameters["kind"]],
            groups=groups,
            seed=seed,
        )
    if "change" in facts:
        scans = changed_scans(NUM_CHANGED, TEST_SEED)
        scores["changes"] = score_changes(
            predictor.heads(scans.images)["change"],
            scans.change_line,
            facts["change"]["threshold"],
            lines=scans.lines,
        )
        votes = part.parameters.get("tip_change_votes")
        if votes is not None and heads:
            scores["changes"]["votes"] = score_votes(heads["change"], votes, part.lines)
    return scores


def read_others(paths, predictor):
    """Read scans of surfaces that a model does not know.

    Args:
        paths: sequence of str or `Path`. Each as `read_scans` takes it.
        predictor: `Predictor`, which must say whether it knows a surface.

    Returns:
        dict of str, name of a file (its path where two have one name), to array-like of
        shape `(scans, lines, pixels)`.

    Raises:
        InputError: A file cannot be read.
        DatasetError: It holds no scans.
        MismatchError: Its scans are of another size than the model's, or the model does
            not say whether it knows a surface.
    """
    if "unknown" not in predictor.facts or not predictor.every_line:
        raise MismatchError(
            "The model does not say whether it knows a surface. Leave `--others` out, or take "
            "a model that does, such as h_si100."
        )
    paths = list(dict.fromkeys(map(Path, paths)))
    names = [path.name for path in paths]
    found = {}
    for path in paths:
        images = read_scans(path, predictor.facts)
        if not len(images):
            raise DatasetError(f"{path}: holds no scans.")
        check_size(predictor.facts, images.shape, path)
        found[path.name if names.count(path.name) == 1 else str(path)] = images
    return found


def score_others(predictor, part, others, groups=None, seed=0):
    """Score how well a model tells other surfaces from the one it knows.

    A scan that ended early is asked about after its last line, and compared with known
    scans after as many lines.

    Args:
        predictor: A calibrated `Predictor`.
        part: `Dataset` of complete scans of the known surface that the model never saw.
        others: dict, as of `read_others`.
        groups: array of shape `(scans of part,)`. What to resample, or None.
        seed: int. Of the bootstrap.

    Returns:
        dict, as of `score_unknown`, with one kind per file. `found` are scans that the
        model calls unknown, each by the threshold for its lines.
    """
    known = np.concatenate(list(_strangeness(predictor, part.images)))
    kinds, scores, called = [], [], []
    for name, images in others.items():
        for some in _chunks(images):
            some = some[:, : known.shape[1]]
            lines = np.maximum(recorded_lines(some), 1)
            last = np.concatenate(list(_strangeness(predictor, some)))
            last = last[np.arange(len(some)), lines - 1]
            limits = [threshold(predictor.facts, "unknown", count) for count in lines]
            pairs = zip(last, lines, strict=True)
            scores += [_at_the_end(score, known, count) for score, count in pairs]
            called += (last > limits).tolist()
            kinds += [name] * len(some)
    limit = threshold(predictor.facts, "unknown", known.shape[1])
    kinds, called = np.array(kinds), np.array(called)
    found = score_unknown(
        known[:, -1], scores, limit, kinds=kinds, groups=groups, seed=seed
    )
    for name, row in found["kinds"].items():
        row["found"] = float(called[kinds == name].mean())
    return found | {"found": float(called.mean())}


def score_sources(
    predictor, part, paths, groups=None, seed: int = 0, asked=SOURCE_LINES
) -> dict:
    """Score other surfaces of files that name the source of each scan, by source and kind.

    Each source weighs alike, and intervals resample sources and sessions. What a model
    learnt from says nothing here: its own file holds what was measured without it.

    Args:
        predictor: A calibrated `Predictor` that says whether it knows a surface.
        part: `Dataset` of complete scans of the known surface that the model never saw.
        paths: sequence of `Path`; those that name no sources are left out.
        groups: array of shape `(scans of part,)`. Session of each, or None for scans.
        seed: int. Of the bootstrap.
        asked: sequence of int. Numbers of lines.

    Returns:
        dict of file name to dict of `lines`, dict of str, number of lines, to scores as of
        `score_compared`; and `taught`, how many of its scans are of sources that the model
        learnt from.
    """
    told = {}
    for path in filter(names_sources, dict.fromkeys(map(Path, paths))):
        others = read_unknown_surfaces(path)
        check_size(predictor.facts, others.images.shape, path)
        known = np.concatenate(list(_strangeness(predictor, part.images)))
        chosen = np.flatnonzero(others.usable & others.whole)
        other = np.concatenate(list(_strangeness(predictor, others.images[chosen])))
        names = np.arange(len(known)) if groups is None else groups
        place = np.unique(names, return_inverse=True)[1].reshape(-1)
        count = known.shape[1]
        lines = sorted({min(n, count) for n in (*asked, count)})
        taught = (predictor.facts.get("unknown") or {}).get("taught_by") or {}
        told[path.name] = {
            "lines": {
                str(n): _of_sources(predictor.facts, known, other, place, others, chosen, n)
                for n in lines
            },
            "taught": int(np.isin(others.source[chosen], list(taught)).sum()),
        }
    return told


def _of_sources(facts, known, other, place, others: UnknownSurfaces, chosen, lines):
    """Compare known scans with others after some lines, or after the last of a scan."""
    last = np.minimum(others.lines[chosen], lines)
    scores = other[np.arange(len(chosen)), last - 1]
    limits = {n: threshold(facts, "unknown", n) for n in {lines, *last.tolist()}}
    called = [score > limits[n] for score, n in zip(scores, last.tolist(), strict=True)]
    sessions = range(place.max() + 1)
    below = [
        [
            share_below(known[place == one, n - 1], score)
            for score, n in zip(scores, last, strict=True)
        ]
        for one in sessions
    ]
    alarms = known[:, lines - 1] > limits[lines]
    return score_compared(
        Compared(
            np.array(below),
            np.bincount(place),
            np.array([alarms[place == one].mean() for one in sessions]),
            np.array(called, float),
            others.source[chosen],
            others.kind[chosen],
        )
    )


def _at_the_end(score, known, lines):
    """Return what is as rare among known scans at the end as a score is after some lines.

    Args:
        score: float.
        known: float array of shape `(scans, lines)`. Scores of known scans.
        lines: int.
    """
    if lines == known.shape[1]:
        return score
    rank = np.mean(known[:, lines - 1] < score)
    last = known[:, -1]
    return max(score, last.max()) if rank == 1 else np.quantile(last, rank)


def _strangeness(predictor, images):
    """Yield scores after every line, arrays of shape `(some scans, lines)`."""
    for some in _chunks(images):
        yield predictor.heads(some)["unknown"]


def _chunks(images):
    for first in range(0, len(images), CHUNK):
        yield read_images(images, np.arange(first, min(first + CHUNK, len(images))))
