"""Scans beside what a model said after each of their lines: which lines decided?"""

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from stm_keras.data.preprocess import remove_line_trend
from stm_keras.evaluation.style import COLOURS, INK, class_colour, escape, style_axes

EXAMPLES = 8  # scans, two of each of four classes
CHANGE_COLOUR = COLOURS[5]
LETTERS = 26  # that fit beside a picture
RAMP = np.arange(256)
BROWN = np.stack(  # (256, 3), the colours of STM software
    [np.minimum(2 * RAMP, 255), RAMP, np.maximum(2 * RAMP - 256, 0)], axis=1
).astype(np.uint8)


def plot_evidence(scans, state, labels, classes, change=None, names=None):
    """Draw scans beside the class probabilities after each line.

    Each scan has three panels that share its lines, the first on top: the scan; the
    probabilities, stacked; how much each line spoke for the last verdict, with the
    probability of a tip change where the model has one.

    Args:
        scans: array of shape `(scans, lines, pixels)`. Heights, any unit.
        change: float array of shape `(scans, lines)`, or None.
    """
    count = len(scans)
    columns = 2 if count > 1 else 1
    rows = -(-count // columns)
    width = 6.2 * columns
    figure = Figure(figsize=(width, 2.6 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, 3 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    moved = line_evidence(state)
    widest = max(float(np.abs(moved).max()), 0.1)
    for index in range(count):
        panels = grid[index // columns, 3 * (index % columns) :][:3]
        name = None if names is None else names[index]
        _draw_scan(panels[0], scans[index], classes[labels[index]], name)
        _draw_state(panels[1], state[index])
        _draw_moved(
            panels[2], moved[index], widest, None if change is None else change[index]
        )
        for axes in panels:
            axes.set_visible(True)
            axes.set_box_aspect(scans[index].shape[0] / scans[index].shape[1])
    labels_of = [_shortened(name) for name in classes]
    handles = [Patch(color=class_colour(index)) for index in range(len(classes))]
    if change is not None:
        handles.append(Patch(color=CHANGE_COLOUR))
        labels_of.append("tip change")
    widest = 0.8 + 0.085 * max(map(len, labels_of))  # inches
    figure.legend(
        handles,
        labels_of,
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(width / widest))),
        frameon=False,
    )
    return figure


def plot_attention(scans, attention, labels, classes, names=None):
    """Draw scans beside how much a transformer looked at each of their lines.

    Args:
        scans: array of shape `(scans, lines, pixels)`. Heights, any unit.
        attention: float array of shape `(scans, lines)`, sums to 1 over the lines.
    """
    count = len(scans)
    rows = -(-count // 4)
    figure = Figure(figsize=(12.4, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 8, squeeze=False, width_ratios=[2, 1] * 4)
    for axes in grid.flat:
        axes.set_visible(False)
    for index in range(count):
        left, right = grid[index // 4, 2 * (index % 4) :][:2]
        name = None if names is None else names[index]
        _draw_scan(left, scans[index], classes[labels[index]], name)
        left.set_visible(True)
        right.set_visible(True)
        style_axes(right, "", "attention (%)", "")
        right.barh(np.arange(len(attention[index])), 100 * attention[index], 1.0, color=INK)
        _share_lines(right, len(attention[index]))
        shape = scans[index].shape[0] / scans[index].shape[1]
        left.set_box_aspect(shape)
        right.set_box_aspect(2 * shape)
    return figure


def line_evidence(state):
    """Measure how much each line moved the verdict.

    Args:
        state: float array of shape `(..., lines, classes)`. Class probabilities after
            each line.

    Returns:
        float array of shape `(..., lines)`: by how much the line raised the logarithm of
        the probability of the class that is the last verdict, in nats; below 0 it spoke
        against it. The first line is compared with knowing nothing.
    """
    state = np.asarray(state, float)
    last = state[..., -1:, :].argmax(-1)[..., None]  # (..., 1, 1)
    own = np.take_along_axis(state, np.broadcast_to(last, (*state.shape[:-1], 1)), -1)
    logarithm = np.log(np.maximum(own[..., 0], 1e-6))  # (..., lines)
    nothing = np.full((*logarithm.shape[:-1], 1), -np.log(state.shape[-1]))
    return np.diff(np.concatenate([nothing, logarithm], -1), axis=-1)


def choose_examples(labels, state, count=EXAMPLES):
    """Choose scans to show: of each class one judged right and one judged wrong.

    Returns:
        int array of scan indices: the right one of each class is that of middling
        confidence, the wrong one the surest.
    """
    labels, final = np.asarray(labels), np.asarray(state)[:, -1]  # (scans, classes)
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


def scan_picture(heights):
    """Turn a scan into a picture: lines levelled, the outermost 1 % cut off.

    Args:
        heights: array of shape `(lines, pixels)`, any unit. Lines with NaN, and
            constant ones at the end, were not recorded and stay black.

    Returns:
        uint8 array of shape `(lines, pixels, 3)`.
    """
    heights = np.asarray(heights, float)
    recorded = np.isfinite(heights).all(axis=1)
    uneven = np.flatnonzero(recorded & (heights != heights[:, :1]).any(axis=1))
    recorded[uneven[-1] + 1 if len(uneven) else 0 :] = False
    values = np.zeros(heights.shape, np.uint8)
    if recorded.any():
        levelled = remove_line_trend(heights[recorded])
        low, high = np.percentile(levelled, (1, 99))
        span = high - low if high > low else 1.0
        values[recorded] = np.clip((levelled - low) / span, 0, 1) * 254 + 1
    return BROWN[values]


def picture_png(picture):
    """Write a picture as PNG, in bytes."""
    stream = io.BytesIO()
    Image.fromarray(picture).quantize(256).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _draw_scan(axes, scan, label, name):
    axes.imshow(scan_picture(scan), aspect="auto", interpolation="nearest")
    axes.set_title(f"label: {_shortened(label)}", loc="left", size=7.5, color=INK)
    axes.set_xticks([])
    if name is not None:
        axes.set_xlabel(escape(name)[-LETTERS:], size=7, color=INK)
    axes.set_ylabel("line", color=INK, size=8)
    axes.tick_params(labelsize=7)


def _draw_state(axes, state):
    lines = np.arange(len(state))
    edges = np.pad(np.cumsum(state, axis=1), ((0, 0), (1, 0)))  # (lines, classes + 1)
    for index in range(state.shape[1]):
        axes.fill_betweenx(
            lines, edges[:, index], edges[:, index + 1], color=class_colour(index), lw=0
        )
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability", color=INK)
    _share_lines(axes, len(state))


def _draw_moved(axes, moved, widest, change):
    style_axes(axes, "", "evidence (nats)", "")
    lines = np.arange(len(moved))
    axes.barh(lines, moved, height=1.0, color=INK, lw=0)
    axes.set_xlim(-widest, widest)
    _share_lines(axes, len(moved))
    if change is not None:
        axes.plot(np.asarray(change) * widest, lines, color=CHANGE_COLOUR, lw=1)


def _share_lines(axes, lines):
    """Let a panel have the lines of the scan beside it, the first on top."""
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.label.set_size(8)
    axes.tick_params(labelsize=7)


def _shortened(name):
    name = escape(name)
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
