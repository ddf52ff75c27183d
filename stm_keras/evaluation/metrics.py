"""Score class probabilities: AUROC, balanced accuracy, accuracy and confusion.

Training calls these after every epoch, so this file imports numpy alone. All agree
with scikit-learn wherever scikit-learn has an answer.
"""

import numpy as np

from stm_keras.errors import MismatchError


def auroc(labels, probabilities):
    """Measure how well each class is ranked above the others.

    The one-vs-rest area under the ROC curve is the chance that a scan of the class
    gets a higher probability of it than a scan of any other; ties count half.

    Args:
        probabilities: float array of shape `(scans, classes)`. Only their order
            matters, so logits of a sigmoid would do too.

    Returns:
        Tuple of float and float array of shape `(classes,)`: the macro average and
        the area per class. A class that no scan has, that all scans have, or with a
        score that is not a number has no area: NaN. The average is over those that
        have one, NaN when none has; it is NaN too when a score is not a number.
    """
    labels, probabilities = check_pair(labels, probabilities, finite=False)
    areas = np.array(
        [area(labels == i, scores) for i, scores in enumerate(probabilities.T)]
    )
    if not np.isfinite(probabilities).all() or np.isnan(areas).all():
        return float("nan"), areas
    return float(np.nanmean(areas)), areas


def area(is_class, scores):
    """Return the area under the ROC curve of one class, NaN where `auroc` says so."""
    others = np.sort(scores[~is_class])
    own = scores[is_class]
    if not len(own) or not len(others) or not np.isfinite(scores).all():
        return np.nan
    below = np.searchsorted(others, own, "left").sum(dtype=np.int64)
    through = np.searchsorted(others, own, "right").sum(dtype=np.int64)
    return (below + through) / (2 * len(own) * len(others))


def balanced_accuracy(labels, predicted, num_classes):
    """Average the share of scans judged right over the classes that occur.

    Returns:
        float. Chance is one over the number of classes. NaN without scans.
    """
    share = recall(confusion_matrix(labels, predicted, num_classes))
    return float("nan") if np.isnan(share).all() else float(np.nanmean(share))


def accuracy(labels, predicted):
    """Return the share of scans judged right, NaN without scans."""
    return float(np.mean(labels == predicted)) if len(labels) else float("nan")


def epoch_scores(labels, probabilities, prefix=""):
    """Return loss, macro AUROC and balanced accuracy by the names of `history.csv`."""
    of_label = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    predicted, classes = probabilities.argmax(1), probabilities.shape[1]
    return {
        f"{prefix}loss": float(-np.log(of_label).mean()),
        f"{prefix}auroc": float(auroc(labels, probabilities)[0]),
        f"{prefix}balanced_accuracy": float(balanced_accuracy(labels, predicted, classes)),
    }


def confusion_matrix(labels, predicted, num_classes):
    """Count scans by true class (rows) and predicted class (columns): a square int array."""
    labels = _check_classes(labels, num_classes)
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def recall(confusion):
    """Share of the scans of each class that are put into it, `(classes,)`; NaN without scans."""
    return _share(np.diag(confusion), np.sum(confusion, axis=1))


def precision(confusion):
    """Share of the scans put into each class that are of it, `(classes,)`; NaN without any."""
    return _share(np.diag(confusion), np.sum(confusion, axis=0))


def roc_points(is_class, scores):
    """Follow the ROC curve of one class over all thresholds.

    Args:
        is_class: bool array of shape `(scans,)`.
        scores: float array of shape `(scans,)`.

    Returns:
        Tuple of float arrays of shape `(points,)`: false and true positive rate, both
        from 0 to 1.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    last_of_tie = np.r_[np.diff(np.asarray(scores)[order]) != 0, True]
    true = np.cumsum(np.asarray(is_class)[order])[last_of_tie]
    false = np.cumsum(~np.asarray(is_class)[order])[last_of_tie]
    return _share(np.r_[0, false], false[-1:]), _share(np.r_[0, true], true[-1:])


def finite(value) -> float | None:
    """Return a number for JSON, None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def check_pair(labels, probabilities, finite=True):
    """Return int labels and float probabilities that fit each other, and are `finite`."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.dtype.kind not in "fiub":
        raise MismatchError(
            "`probabilities` must be numbers of shape (scans, classes). "
            f"Received: {probabilities.dtype} of shape {probabilities.shape}."
        )
    labels = _check_classes(labels, probabilities.shape[1])
    if len(labels) != len(probabilities):
        raise MismatchError(
            "`labels` and `probabilities` must be of the same scans. "
            f"Received: {len(labels)} labels, {len(probabilities)} probabilities."
        )
    broken = 0 if not finite else np.sum(~np.isfinite(probabilities).all(axis=1))
    if broken:
        raise MismatchError(
            f"`probabilities` are not a number for {broken} of {len(labels)} scans. "
            "Check the scans for NaN, and that training did not diverge."
        )
    return labels, probabilities


def _share(part, whole):
    """Divide, with NaN where there is nothing to divide by."""
    whole = np.asarray(whole, float)
    return np.divide(part, np.where(whole == 0, np.nan, whole))


def _check_classes(labels, num_classes):
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and labels.size):
        raise MismatchError(
            "`labels` must be integers of shape (scans,). "
            f"Received: {labels.dtype} of shape {labels.shape}."
        )
    labels = labels.astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise MismatchError(
            f"`labels` must lie between 0 and {num_classes - 1}. Received: "
            f"{labels.min()} to {labels.max()}. Score single-class scans, with the "
            "classes of the model."
        )
    return labels
