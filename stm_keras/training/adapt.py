"""Adapt a trained network to a few labelled scans of one's own: `stm-keras adapt`.

The network stays as it is; a new last layer is fitted to what it says of the scans. So the
features are computed once, and everything else, repeated folds and all, takes seconds.
"""

import logging
from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.stratify import assign_scans
from stm_keras.errors import DatasetError, MismatchError
from stm_keras.evaluation import repeated
from stm_keras.evaluation.calibration import fit_temperature
from stm_keras.evaluation.repeated import Folds
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.sizes import trained_sizes
from stm_keras.inference.verdict import softmax
from stm_keras.settings.models import SequentialConfig
from stm_keras.training.adapt_features import StartModel, describe_scans, trees_of
from stm_keras.training.adapt_head import LabelledFeatures, fit_head
from stm_keras.training.calibrate import fit_reliability

FEWEST = 2  # scans of a class: with one there is nothing to judge it by
SIZES = (15, 30, 60, 120, 240, 480, 960)  # labels trained on, of the learning curve
FIRST_OF_CURVE = (
    0.7  # of the training scans of a fold: larger points are no points of their own
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapted:
    """An adapted network and what the folds say of it.

    Args:
        predictor: With calibration and thresholds.
        settings: Config of the network.
        dataset: `Dataset` of the scans that were used.
        hashes: As of `Dataset.scan_hashes`, of these.
        scores: dict, as of `score_predictions`; also `adapted`, what `adapt` alone knows.
        probabilities: float array `(scans, classes)`, of the first repeat.
    """

    predictor: KerasPredictor
    settings: SequentialConfig
    dataset: Dataset
    hashes: list[str]
    scores: dict
    probabilities: np.ndarray


def usable_scans(dataset: Dataset) -> Dataset:
    """Return the complete scans of one class of a dataset, if they can be adapted to.

    Raises:
        DatasetError: They are of one class, or a class has a single scan.
    """
    counts = dataset.counts()
    if not len(dataset) or np.count_nonzero(counts) < 2:
        there = [n for n, count in zip(dataset.classes, counts, strict=True) if count]
        raise DatasetError(
            f"{dataset.source}: adapting needs complete scans of two classes or more. Received: "
            f"{counts.sum()} of {' and '.join(there) or 'none'}. Label more."
        )
    for name, count in zip(dataset.classes, counts, strict=True):
        if count < FEWEST:
            raise DatasetError(
                f"{dataset.source}: {count or 'no'} complete scan{'s' * (not count)} of class "
                f"{name!r}: it takes {FEWEST} at least to train and to judge. Label more of it, "
                "or take the class out."
            )
    left = len(dataset) - int(counts.sum())
    if left:
        logger.info(f"Left out: {left} scans that are not complete or not of one class.")
    return dataset.take(np.flatnonzero(dataset.single_class()))


def adapt(
    dataset: Dataset,
    start: Predictor,
    name: str,
    seed: int = 0,
    repeats: int = repeated.REPEATS,
    before: dict | None = None,
) -> Adapted:
    """Fit a new last layer to labelled scans, and measure it by repeated folds.

    Args:
        dataset: Scans, as of `usable_scans`.
        start: The model to start from, called `name`: one of a `.keras` file.
        before: dict, what an earlier `adapt` noted, to be compared on the same folds; or None.

    Raises:
        MismatchError: Scans, classes or networks do not fit each other.
    """
    start.check_scans(dataset.images.shape, dataset.source)
    model = StartModel.of(start, dataset.classes, name)
    hashes = dataset.scan_hashes()
    earlier = None if before is None else _earlier(before, dataset, hashes, name)
    count = len(dataset.classes)
    folds = repeated.repeated_folds(dataset.labels, dataset.session, count, repeats, seed)
    logger.info(f"Describing {len(dataset)} scans by {name}.")
    rows, unknown = describe_scans(model, dataset, folds.groups)
    unit = "block of scans" if folds.optimistic else "session"
    logger.info(f"Judging each scan {repeats} times by models that did not see its {unit}.")
    judged, trees = _by_size(rows, folds, seed)
    trained = max(judged)
    logits = judged[trained]
    by_lines = _cross_calibrated(logits, rows, folds)
    probabilities = by_lines[int(rows.lines[-1])]

    scores = repeated.score_folds(
        dataset.labels, probabilities, folds, dataset.classes, by_lines
    )
    last = {size: softmax(each[:, :, -1]) for size, each in judged.items()}
    notes = {
        "start": name,
        "labels": len(dataset),
        "trained_on": trained,
        "folds": int(folds.number.max() + 1),
        "repeats": repeats,
        "groups": int(folds.groups.max() + 1),
        "optimistic": folds.optimistic,
        "seen_before": _seen_before(start, dataset),
        "doubts": repeated.doubts(dataset.labels, probabilities, folds, dataset.classes),
        "curve": repeated.learning_curve(
            dataset.labels, {**last, trained: probabilities}, folds
        ),
        "classes": list(dataset.classes),
        "against_start": None,
        "against_before": None,
        "seed": seed,
    }
    if model.same_classes:
        alone = np.repeat(softmax(rows.start[None, :, -1]), repeats, 0)
        notes["against_start"] = repeated.paired_difference(
            dataset.labels, last[trained], alone, folds.groups
        )
    if earlier is not None:
        logger.info("Judging once more with the labels of before alone, on the same folds.")
        first = softmax(_out_of_fold(rows, folds, seed, earlier)[0][:, :, -1])
        notes["against_before"] = {
            "labels": int(earlier.sum()),
            **repeated.paired_difference(
                dataset.labels, last[trained], first, folds.groups
            ),
        }
    logger.info("Fitting the model on all scans.")
    head = fit_head(rows, seed, trees > 0.5)
    notes |= {"penalty": head.penalty, "share": head.share, "trees": head.trees is not None}
    network = model.with_head(head)
    metadata = _metadata(start, dataset, network) | _reliability(
        dataset, logits, unknown, rows.lines
    )
    scores["adapted"] = notes
    predictor = KerasPredictor(network, metadata)
    settings = model.settings(trees_of(network))
    return Adapted(predictor, settings, dataset, hashes, scores, probabilities[0])


def _by_size(rows: LabelledFeatures, folds: Folds, seed: int) -> tuple[dict, float]:
    """Judge scans out of fold by models of ever more labels; the last had all of theirs.

    Returns:
        dict of labels trained on to logits, as of `_out_of_fold`; and in what share of the
        last trees helped.
    """
    trained = round(len(rows) * (1 - 1 / (folds.number.max() + 1)))
    sizes = [size for size in SIZES if size <= FIRST_OF_CURVE * trained]
    sizes = [size for size in sizes if size >= 3 * rows.classes]
    judged = {n: _out_of_fold(rows, folds, seed, None, n)[0] for n in sizes}
    judged[trained], trees = _out_of_fold(rows, folds, seed)
    return judged, trees


def _out_of_fold(rows, folds, seed, known=None, size=None):
    """Judge every scan by a head that was fitted without its fold, in every repeat.

    Args:
        known: bool array `(scans,)`. The scans that may be trained on, None for all.
        size: int. How many are drawn of them, None for all.

    Returns:
        float array `(repeats, scans, numbers of lines, classes)` of logits, and the share of
        the heads that have trees.
    """
    trees = []
    shape = len(folds.number), len(rows), len(rows.lines), rows.classes
    logits = np.zeros(shape)
    for repeat, train, judged in folds.parts():
        train = train if known is None else train & known
        chosen = np.flatnonzero(train)
        if size is not None and size < len(chosen):
            share = size / len(chosen)
            part = assign_scans(
                rows.labels[chosen], (share, 1 - share), (seed, repeat, size), rows.classes
            )
            chosen = chosen[part == 0]
        if len(chosen):
            head = fit_head(rows.take(chosen), seed)
            logits[repeat, judged] = head.logits(rows.take(judged))
            trees.append(head.trees is not None)
    return logits, float(np.mean(trees))


def _cross_calibrated(logits, rows, folds):
    """Soften logits by temperatures that other folds gave: dict of lines to probabilities."""
    by_lines = {}
    for index, lines in enumerate(rows.lines.tolist()):
        part = logits[:, :, index]
        shares = np.zeros(part.shape)
        for repeat, others, judged in folds.parts():
            temperature = fit_temperature(rows.labels[others], part[repeat, others])
            shares[repeat, judged] = softmax(part[repeat, judged], temperature)
        by_lines[lines] = shares
    return by_lines


@dataclass(frozen=True)
class _OutOfFold:
    """Answers to scans that were left out of the fit, as `fit_reliability` asks for them."""

    classes: tuple
    logits: dict  # lines seen to (scans, classes)
    unknown: np.ndarray  # (scans, lines)
    every_line: bool = True

    def by_lines(self, images, seen):
        return {n: softmax(self.logits[n]) for n in seen}

    def heads(self, images):
        return {"unknown": self.unknown}


def _reliability(dataset, logits, unknown, lines):
    """Fit confidence and thresholds on what was judged out of fold, in all repeats."""
    after = np.zeros((len(dataset), dataset.images.shape[1]))
    after[:, lines - 1] = unknown
    models = [
        _OutOfFold(
            dataset.classes,
            {int(n): part[:, index] for index, n in enumerate(lines)},
            after,
        )
        for part in logits
    ]
    return fit_reliability(models, [dataset] * len(models))


def _metadata(start, dataset, network):
    """Say of the adapted model what holds for it of the first, which is all but the classes."""
    kept = ("input", "preprocessing", "pixels", "max_lines", "change")
    metadata = {key: start.metadata[key] for key in kept if key in start.metadata}
    widths = np.zeros(0) if dataset.size_nm is None else dataset.size_nm[:, 0]
    widths = widths[np.isfinite(widths)]
    known = trained_sizes(start.metadata)
    if len(widths) and known is not None and start.classes == dataset.classes:
        widths = np.append(widths, (known.low, known.high))
    if len(widths):
        metadata["size_nm"] = [float(widths.min()), float(widths.max())]
    return metadata | {
        "classes": list(dataset.classes),
        "parameters": network.count_params(),
    }


def _seen_before(start, dataset):
    """Say whether the first model may have been trained on sessions of these scans."""
    training = start.metadata.get("training") or {}
    of = (training.get("environment") or {}).get("dataset") or {}
    simulated = ((training.get("config") or {}).get("data") or {}).get("path") is None
    if simulated or tuple(start.classes) != tuple(dataset.classes):
        return ""
    return (
        f"The model to start from was trained on real scans of these classes ({of.get('scans')} "
        f"of {of.get('sessions')} sessions). If yours are among them, all scores here are "
        "optimistic: start from h_si100_simulated to know."
    )


def _earlier(before, dataset, hashes, name):
    """Return which scans an earlier `adapt` was given: bool array `(scans,)`."""
    if before["classes"] != list(dataset.classes):
        raise MismatchError(
            f"{dataset.source}: the earlier model knows {', '.join(before['classes'])}. Received: "
            f"scans labelled {', '.join(dataset.classes)}. Leave --compare out."
        )
    known = np.isin(hashes, before["hashes"])
    if not known.any():
        raise MismatchError(
            f"{dataset.source}: none of the scans that the earlier model was adapted to is among "
            "these. Add the new labels to the old ones."
        )
    return known
