"""What a model is trained on: scans, a target for each, and how much each counts."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import select_rows
from stm_keras.data.preprocess import last_lines
from stm_keras.data.split import session_campaigns
from stm_keras.errors import DatasetError
from stm_keras.simulate import clear_changes

CHANGE_LINES = 3  # lines after the first with a new tip in which the head must report it
CHANGE_WEIGHT = 5.0  # of these lines over all others: they are few


@dataclass(frozen=True)
class TrainingSet:
    """Scans to train on, with their targets and weights."""

    images: object  # array-like (scans of the dataset, lines, pixels): heights
    indices: np.ndarray  # of the `scans` of the dataset to train on
    state: np.ndarray  # float32 (scans, classes): target of each, sums to 1
    weight: np.ndarray  # float32 (scans,): how much each counts, 1 on average
    line_labels: np.ndarray | None = None  # int (scans, lines), -1 where not recorded
    change_line: np.ndarray | None = None  # int (scans,), -1 without a change
    # bool (scans,), None for all. In the others something changed that has no line, so the
    # change head is not trained on them
    change_known: np.ndarray | None = None
    fixed: np.ndarray | None = None  # bool (scans,): lines must keep their order
    unknown: bool = False  # of unknown surfaces: only that head is trained on them

    def __len__(self):
        return len(self.indices)

    def line_targets(self, chosen, inputs, late=0.0):
        """Turn the targets of some scans into targets of each line.

        A line that was not recorded has weight 0. Where only the scan has a label, that is
        the target after every line: the best answer on the lines so far.

        Args:
            chosen: int array. Indices into `indices`.
            inputs: The model's input `(chosen, lines, pixels)`; lines past the last one that
                is not 0 were not recorded.
            late: How much more the last line counts for the state than the first, relative
                to the first; the mean over a whole scan is 1.

        Returns:
            Dicts of targets and weights, float32: "state" `(chosen, lines, classes)`,
            "change" and "unknown" `(chosen, lines, 1)`; all weights `(chosen, lines)`.
        """
        lines = inputs.shape[1]
        line = np.arange(lines)
        recorded = line < last_lines(inputs)[:, None]
        ramp = 1 + late * line / max(lines - 1, 1)
        weight = self.weight[chosen, None] * recorded * (ramp / ramp.mean())
        state = np.repeat(self.state[chosen, None], lines, axis=1)
        change = np.zeros((len(chosen), lines), np.float32)
        change_weight = np.zeros_like(change)
        if self.line_labels is not None:
            labels = self.line_labels[chosen]
            known = labels >= 0
            state[known] = np.eye(state.shape[2], dtype=np.float32)[labels[known]]
        if self.change_line is not None and not self.unknown:
            change, line_weight = _change_targets(self.change_line[chosen], line)
            if self.change_known is not None:
                line_weight = line_weight * self.change_known[chosen, None]
            change_weight = recorded * line_weight
        unknown = np.full((len(chosen), lines, 1), self.unknown)
        targets = {"state": state, "change": change[..., None], "unknown": unknown}
        weights = {"state": weight, "change": change_weight, "unknown": recorded}
        return targets, {name: array.astype(np.float32) for name, array in weights.items()}


def _change_targets(change_line, line):
    """Return in which lines the change head must report a change, and their weights.

    The first line with a new tip shows little: the head may wait for one more, and the
    lines after those in which it must answer hardly count. Both are `(scans, lines)`.
    """
    since = line - change_line[:, None]
    changed = change_line[:, None] >= 0
    must = changed & (since >= 1) & (since <= CHANGE_LINES)
    weight = np.where(must, CHANGE_WEIGHT, 1.0)
    weight[changed & (since == 0)] = 0
    weight[changed & (since > CHANGE_LINES) & (since <= 2 * CHANGE_LINES)] = 0.3
    return must.astype(np.float32), weight


def make_training_set(dataset, indices, *, soft=0.0, balanced=True, extra=None):
    """Choose targets and weights for the training part of a dataset.

    Args:
        dataset: A `Dataset`.
        indices: Complete scans of a single class.
        soft: Share of the votes in the target of a scan, the rest is its class. Above 0 a
            scan counts the more the more raters saw it, and the scans in `extra` are trained
            on as well, by their votes alone.
        balanced: Weight classes by their inverse frequency, so that they count alike. A scan
            between two classes then counts more for the rarer.
        extra: Further scans with votes: of several classes, or partial.
    """
    classes = len(dataset.classes)
    if soft:
        if dataset.votes is None:
            raise DatasetError(
                f"{dataset.source}: `data.soft_labels` needs votes, and there are none. Leave "
                "it out, or add a `votes` array."
            )
        extra = np.zeros(0, int) if extra is None else np.asarray(extra, int)
        indices = np.sort(np.concatenate([indices, extra]))
        votes = dataset.votes[indices].astype(np.float64)
        votes /= votes.sum(1, keepdims=True)
        label = np.eye(classes)[np.maximum(dataset.labels[indices], 0)]
        votes_only = np.isin(indices, extra)[:, None]
        state = np.where(votes_only, votes, soft * votes + (1 - soft) * label)
    else:
        state = np.eye(classes)[dataset.labels[indices]]
    weight = np.ones(len(indices))
    if balanced:
        totals = state.sum(0)
        if not totals.all():
            missing = ", ".join(np.array(dataset.classes)[totals == 0])
            raise DatasetError(f"Every class needs a training scan. None is of: {missing}.")
        state = state * (len(indices) / (classes * totals))
        weight = state.sum(1)
        state = state / weight[:, None]
    if soft and dataset.raters is not None:
        raters = np.maximum(dataset.raters[indices], 1)
        weight = weight * raters / (raters + 1)
    if dataset.weight is not None:
        weight = weight * dataset.weight[indices]
    fixed = dataset.lines[indices] < dataset.images.shape[1]
    change = known = None
    if dataset.change_line is not None:
        change = dataset.change_line[indices]
        fixed = fixed | (change >= 0)
        if "apex_line" in dataset.parameters:
            known = clear_changes(dataset)[indices]
    return TrainingSet(
        images=dataset.images,
        indices=np.asarray(indices),
        state=state.astype(np.float32),
        weight=(weight / weight.mean()).astype(np.float32),
        line_labels=select_rows(dataset.line_labels, indices),
        change_line=change,
        change_known=known,
        fixed=fixed,
    )


def unknown_surface_set(dataset, num_classes):
    """Make a `TrainingSet` for the unknown-surface head alone, as of `simulate_unknown`."""
    count = len(dataset)
    return TrainingSet(
        images=dataset.images,
        indices=np.arange(count),
        state=np.full((count, num_classes), 1 / num_classes, np.float32),
        weight=np.zeros(count, np.float32),
        unknown=True,
    )


def extra_voted_scans(dataset, split):
    """Find scans with votes that are in no part, and whose session is in none but training.

    Returns:
        int array: scans of several classes, of none above one half, or partial.
    """
    if dataset.votes is None:
        return np.zeros(0, int)
    extra = ~dataset.single_class() & (dataset.votes.sum(1) > 0)
    if split.groups is not None:
        groups = np.asarray(split.groups)
        held_out = np.concatenate([split.parts["validation"], split.parts["test"]])
        extra &= ~np.isin(groups, groups[held_out])
    if split.protocol == "p3":
        campaigns = session_campaigns(dataset)
        extra &= ~np.isin(campaigns, campaigns[split.parts["test"]])
    return np.flatnonzero(extra)


def draw_few(dataset, indices, count, seed):
    """Draw few of the training scans, as even over the classes as there are scans."""
    rng = np.random.default_rng((seed, count))
    order = rng.permutation(indices)
    labels = dataset.labels[order]
    rank = np.zeros(len(order), int)  # of a scan among those of its class
    for label in np.unique(labels):
        of_class = labels == label
        rank[of_class] = np.arange(of_class.sum())
    return np.sort(order[np.argsort(rank, kind="stable")[:count]])
