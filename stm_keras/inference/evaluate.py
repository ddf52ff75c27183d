"""Judge scans with known classes, whole and begun, and score the answers."""

import numpy as np

from stm_keras.errors import DatasetError
from stm_keras.evaluation.scores import score_predictions

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
