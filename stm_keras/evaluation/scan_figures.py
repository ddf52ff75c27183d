"""Which lines decided: scans beside what a model said after each of their lines."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stm_keras.evaluation.pictures import scan_picture
from stm_keras.evaluation.style import COLOURS, INK, class_colour, escape, style_axes

EXAMPLES = 8  # scans, two of each of four classes
CHANGE_COLOUR = COLOURS[5]


def line_evidence(state):
    """Measure how much each line moved the verdict.

    Args:
        state: float array of shape `(..., lines, classes)`. Class probabilities after
            each line.

    Returns:
        float array of shape `(..., lines)`: by how much the line raised the logarithm of
        the probability of the class that is the last word, in nats; below 0 it spoke
        against it. The first line is compared with knowing nothing.
    """
    state = np.asarray(state, float)
    last = state[..., -1:, :].argmax(-1)[..., None]
    own = np.take_along_axis(state, np.broadcast_to(last, (*state.shape[:-1], 1)), -1)
    logarithm = np.log(np.maximum(own[..., 0], 1e-6))
    nothing = np.full((*logarithm.shape[:-1], 1), -np.log(state.shape[-1]))
    return np.diff(np.concatenate([nothing, logarithm], -1), axis=-1)


def choose_examples(labels, state, count=EXAMPLES):
    """Choose scans to show: of each class one judged right and one judged wrong.

    Args:
        labels: int array of shape `(scans,)`.
        state: float array of shape `(scans, lines, classes)`.
        count: int. At most so many.

    Returns:
        int array of scan indices: the right one of each class is that of middling
        confidence, the wrong one the surest.
    """
    labels, final = np.asarray(labels), np.asarray(state)[:, -1]
    right = final.argmax(1) == labels
    confidence = final.max(1)
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero((labels == label) & right)
        if len(own):
            chosen.append(own[np.argsort(confidence[own], kind="stable")[len(own) // 2]])
        missed = np.flatnonzero((labels == label) & ~right)
        if len(missed):
            chosen.append(missed[confidence[missed].argmax()])
    return np.array(chosen[:count], int)


def plot_attention(scans, attention, labels, classes, names=None):
    """Draw scans beside how much a transformer looked at each of their lines.

    Args:
        scans: array of shape `(scans, lines, pixels)`. Heights, any unit.
        attention: float array of shape `(scans, lines)`, sums to 1 over the lines.
        labels: int array of shape `(scans,)`.
        classes: sequence of str.
        names: sequence of str, one of each scan, or None.

    Returns:
        `Figure`.
    """
    count = len(scans)
    rows = -(-count // 4)
    figure = Figure(figsize=(12.4, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 8, squeeze=False, width_ratios=[2, 1] * 4)
    for axes in grid.flat:
        axes.set_visible(False)
    for index in range(count):
        left, right = grid[index // 4, 2 * (index % 4) :][:2]
        _draw_scan(left, scans[index], labels[index], classes)
        if names is not None:
            left.set_xlabel(escape(names[index])[-28:], size=7, color=INK)
        right.set_visible(True)
        style_axes(right, "", "attention (%)", "")
        right.barh(np.arange(len(attention[index])), 100 * attention[index], 1.0, color=INK)
        right.set_ylim(len(attention[index]) - 0.5, -0.5)
        right.set_yticks([])
        right.xaxis.label.set_size(8)
        right.tick_params(labelsize=7)
    return figure


def plot_evidence(scans, state, labels, classes, change=None, names=None):
    """Draw scans beside the class probabilities after each line.

    Each scan has three panels that share its lines, the first on top: the scan; the
    probabilities, stacked; how much each line spoke for the last word, with the
    probability of a tip change where the model has one.

    Args:
        scans: array of shape `(scans, lines, pixels)`. Heights, any unit.
        state: float array of shape `(scans, lines, classes)`.
        labels: int array of shape `(scans,)`.
        classes: sequence of str.
        change: float array of shape `(scans, lines)`, or None.
        names: sequence of str, one of each scan, or None.

    Returns:
        `Figure`.
    """
    count = len(scans)
    columns = 2 if count > 1 else 1
    rows = -(-count // columns)
    figure = Figure(figsize=(6.2 * columns, 2.6 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, 3 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    moved = line_evidence(state)
    widest = max(float(np.abs(moved).max()), 0.1)
    for index in range(count):
        panels = grid[index // columns, 3 * (index % columns) :][:3]
        _draw_scan(panels[0], scans[index], labels[index], classes)
        _draw_state(panels[1], state[index])
        _draw_moved(
            panels[2], moved[index], widest, None if change is None else change[index]
        )
        if names is not None:
            panels[1].set_title(escape(names[index])[-36:], size=7, color=INK)
    handles = [Patch(color=class_colour(index)) for index in range(len(classes))]
    labels_of = [escape(name) for name in classes]
    if change is not None:
        handles.append(Patch(color=CHANGE_COLOUR))
        labels_of.append("tip change")
    columns = min(len(handles), 6)
    figure.legend(
        handles, labels_of, loc="outside lower center", ncols=columns, frameon=False
    )
    return figure


def _draw_scan(axes, scan, label, classes):
    axes.set_visible(True)
    axes.imshow(scan_picture(scan), aspect="auto", interpolation="nearest")
    axes.set_title(f"label: {escape(classes[label])}", loc="left", size=8, color=INK)
    axes.set_xticks([])
    axes.set_ylabel("line", color=INK, size=8)
    axes.tick_params(labelsize=7)


def _draw_state(axes, state):
    axes.set_visible(True)
    place = np.arange(len(state))
    edges = np.concatenate([np.zeros((len(state), 1)), np.cumsum(state, axis=1)], axis=1)
    for index in range(state.shape[1]):
        axes.fill_betweenx(
            place, edges[:, index], edges[:, index + 1], color=class_colour(index), lw=0
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(state) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlabel("probability", size=8, color=INK)
    axes.tick_params(labelsize=7)


def _draw_moved(axes, moved, widest, change):
    axes.set_visible(True)
    style_axes(axes, "", "evidence (nats)", "")
    place = np.arange(len(moved))
    axes.barh(place, moved, height=1.0, color=INK, lw=0)
    axes.set_xlim(-widest, widest)
    axes.set_ylim(len(moved) - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.label.set_size(8)
    axes.tick_params(labelsize=7)
    if change is not None:
        axes.plot(np.asarray(change) * widest, place, color=CHANGE_COLOUR, lw=1)
