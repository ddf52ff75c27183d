"""What each training scan teaches: a target, how much it counts, labels of its lines."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import rows_of
from stm_keras.data.preprocess import last_lines
from stm_keras.data.split import session_campaigns
from stm_keras.errors import DatasetError
from stm_keras.simulate import clear_changes

CHANGE_LINES = 3  # lines after the first with a new tip in which the head must say so
CHANGE_SHARE = 5.0  # weight of these lines over all others: they are few


@dataclass(frozen=True)
class Lessons:
    """Scans to learn from.

    Args:
        images: array-like of shape `(scans of the dataset, lines, pixels)`. Heights.
        indices: int array. The scans of the dataset that teach.
        state: float32 array `(len(indices), classes)`. Target of each scan, sums to 1.
        weight: float32 array `(len(indices),)`. How much each counts, 1 on average.
        line_labels: int array `(len(indices), lines)`, -1 where not recorded, or None.
            May be read when indexed.
        change_line: int array `(len(indices),)`, -1 without a change, or None.
        change_known: bool array `(len(indices),)`, or None for all. In the others something
            changed that has no line, so they teach nothing of changes.
        fixed: bool array `(len(indices),)`. Scans whose lines must keep their places.
        unknown: bool. The scans are of surfaces that the model must not know: they teach
            that and nothing else.
    """

    images: object
    indices: np.ndarray
    state: np.ndarray
    weight: np.ndarray
    line_labels: np.ndarray | None = None
    change_line: np.ndarray | None = None
    change_known: np.ndarray | None = None
    fixed: np.ndarray | None = None
    unknown: bool = False

    def __len__(self):
        return len(self.indices)

    def line_targets(self, chosen, inputs, late=0.0):
        """Turn the targets of some scans into targets of each line.

        A line that is not there teaches nothing. Where only the scan has a label, it is
        the target after every line: what one should say on what there is so far.

        Args:
            chosen: int array. Places in `indices`.
            inputs: float array of shape `(chosen, lines, pixels)`. The model's input;
                lines past the last one that is not 0 were not recorded.
            late: float. How much more the last line counts for the state than the first,
                relative to the first; the mean over a whole scan is 1.

        Returns:
            Tuple of two dicts, targets and weights, of float32 arrays: "state"
            `(chosen, lines, classes)` and `(chosen, lines)`, "change" and "unknown"
            `(chosen, lines, 1)` and `(chosen, lines)`.
        """
        lines = inputs.shape[1]
        place = np.arange(lines)
        recorded = place < last_lines(inputs)[:, None]
        ramp = 1 + late * place / max(lines - 1, 1)
        weight = self.weight[chosen, None] * recorded * (ramp / ramp.mean())
        state = np.repeat(self.state[chosen, None], lines, axis=1)
        change = np.zeros((len(chosen), lines), np.float32)
        change_weight = np.zeros_like(change)
        if self.line_labels is not None:
            labels = self.line_labels[chosen]
            known = labels >= 0
            state[known] = np.eye(state.shape[2], dtype=np.float32)[labels[known]]
        if self.change_line is not None and not self.unknown:
            change, weighs = _change_targets(self.change_line[chosen], place)
            if self.change_known is not None:
                weighs = weighs * self.change_known[chosen, None]
            change_weight = recorded * weighs
        unknown = np.full((len(chosen), lines), self.unknown)
        targets = {
            "state": state,
            "change": change[..., None],
            "unknown": unknown[..., None],
        }
        weights = {"state": weight, "change": change_weight, "unknown": recorded}
        return targets, {name: array.astype(np.float32) for name, array in weights.items()}


def _change_targets(change_line, place):
    """Say in which lines the change head must speak, and how much each line counts.

    The first line with a new tip tells little: the head may wait for one more, and the
    lines after those in which it must speak hardly count.
    """
    since = place - change_line[:, None]
    changed = change_line[:, None] >= 0
    must = changed & (since >= 1) & (since <= CHANGE_LINES)
    weight = np.where(must, CHANGE_SHARE, 1.0)
    weight[changed & (since == 0)] = 0
    weight[changed & (since > CHANGE_LINES) & (since <= 2 * CHANGE_LINES)] = 0.3
    return must.astype(np.float32), weight


def make_lessons(dataset, indices, *, soft=0.0, balanced=True, extra=None):
    """Choose targets and weights for the training part of a dataset.

    Args:
        dataset: A `Dataset`.
        indices: int array. Complete scans of a single class.
        soft: float. Share of the votes in the target of a scan, the rest is its class.
            Above 0 a scan counts the more the more raters saw it, and the scans in
            `extra` teach as well, by their votes alone.
        balanced: bool. Weight classes by their inverse frequency, so that they count
            alike. A scan between two classes then speaks for the rarer.
        extra: int array. Further scans with votes: of several classes, or begun.

    Returns:
        `Lessons`.

    Raises:
        DatasetError: `soft` without votes, or a class without a scan.
    """
    classes = len(dataset.classes)
    if soft:
        if dataset.votes is None:
            raise DatasetError(
                f"{dataset.source}: `data.soft_labels` needs votes, and there are none. Leave "
                "it out, or add a `votes` array."
            )
        further = np.zeros(0, int) if extra is None else np.asarray(extra, int)
        indices = np.sort(np.concatenate([indices, further]))
        votes = dataset.votes[indices].astype(np.float64)
        votes /= votes.sum(1, keepdims=True)
        own = np.eye(classes)[np.maximum(dataset.labels[indices], 0)]
        alone = np.isin(indices, further)[:, None]
        state = np.where(alone, votes, soft * votes + (1 - soft) * own)
    else:
        state = np.eye(classes)[dataset.labels[indices]]
    weight = np.ones(len(indices))
    if balanced:
        shares = state.sum(0)
        if not shares.all():
            missing = ", ".join(np.array(dataset.classes)[shares == 0])
            raise DatasetError(f"Every class needs a training scan. None is of: {missing}.")
        state = state * (len(indices) / (classes * shares))
        weight = state.sum(1)
        state = state / weight[:, None]
    if soft and dataset.raters is not None:
        raters = np.maximum(dataset.raters[indices], 1)
        weight = weight * raters / (raters + 1)
    fixed = dataset.lines[indices] < dataset.images.shape[1]
    change = known = None
    if dataset.change_line is not None:
        change = dataset.change_line[indices]
        fixed = fixed | (change >= 0)
        if "apex_line" in dataset.parameters:
            known = clear_changes(dataset)[indices]
    return Lessons(
        images=dataset.images,
        indices=np.asarray(indices),
        state=state.astype(np.float32),
        weight=(weight / weight.mean()).astype(np.float32),
        line_labels=rows_of(dataset.line_labels, indices),
        change_line=change,
        change_known=known,
        fixed=fixed,
    )


def unknown_lessons(dataset, num_classes):
    """Teach with scans of other surfaces that they are unknown, and nothing else.

    Args:
        dataset: A `Dataset`, as of `simulate_unknown`.
        num_classes: int. Classes of the model.

    Returns:
        `Lessons`.
    """
    count = len(dataset)
    return Lessons(
        images=dataset.images,
        indices=np.arange(count),
        state=np.full((count, num_classes), 1 / num_classes, np.float32),
        weight=np.zeros(count, np.float32),
        unknown=True,
    )


def voted_extra(dataset, split):
    """Find scans with votes that are in no part, and whose session is in none but training.

    Args:
        dataset: A `Dataset`.
        split: Its `Split`.

    Returns:
        int array: scans of several classes, of none above one half, or begun.
    """
    if dataset.votes is None:
        return np.zeros(0, int)
    outside = ~dataset.single_class() & (dataset.votes.sum(1) > 0)
    if split.groups is not None:
        groups = np.asarray(split.groups)
        held = np.concatenate([split.parts["validation"], split.parts["test"]])
        outside &= ~np.isin(groups, groups[held])
    if split.protocol == "p3":
        campaigns = session_campaigns(dataset)
        outside &= ~np.isin(campaigns, campaigns[split.parts["test"]])
    return np.flatnonzero(outside)


def few_labels(dataset, indices, count, seed):
    """Draw few training scans, as even over the classes as there are scans.

    Args:
        dataset: A `Dataset`.
        indices: int array. The training part.
        count: int. Scans to draw.
        seed: int.

    Returns:
        int array, sorted.
    """
    rng = np.random.default_rng((seed, count))
    order = rng.permutation(indices)
    labels = dataset.labels[order]
    rank = np.zeros(len(order), int)
    for label in np.unique(labels):
        own = labels == label
        rank[own] = np.arange(own.sum())
    return np.sort(order[np.argsort(rank, kind="stable")[:count]])
