"""Which lines decided: scans beside what a model said after each of their lines."""

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import remove_line_trend
from stm_keras.evaluation.scores import worst_mistakes
from stm_keras.evaluation.style import COLOURS, INK, class_colour, dark, escape, style_axes

RAMP = np.arange(256)
BROWN = np.minimum(2 * RAMP, 255), RAMP, np.maximum(2 * RAMP - 256, 0)
LETTERS = 36  # what fits above a picture
MAPS = {
    "brown": np.stack(BROWN, axis=1).astype(np.uint8),
    "grey": np.stack([RAMP] * 3, axis=1).astype(np.uint8),
}

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


def scan_picture(heights, colour="brown"):
    """Turn a scan into a picture: lines levelled, the outermost 1 % cut off.

    Args:
        heights: array of shape `(lines, pixels)`, any unit. Lines with NaN, and
            constant ones at the end, were not recorded and stay black.
        colour: str, "brown" or "grey".

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
    return MAPS[colour][values]


def picture_png(picture):
    """Write a picture as PNG, in bytes."""
    stream = io.BytesIO()
    image = Image.fromarray(picture)
    image.quantize(256).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def plot_mistakes(labels, probabilities, classes, images, count=12, colour="brown"):
    """Draw the scans that were judged wrong with the most confidence.

    Args:
        labels: int array of shape `(scans,)`.
        probabilities: float array of shape `(scans, classes)`.
        classes: sequence of str.
        images: array-like of shape `(scans, lines, pixels)`. Only those drawn are read.
        count: int. At most so many.
        colour: str, "brown" or "grey".

    Returns:
        `Figure`. It says so when there is no mistake.
    """
    probabilities = np.asarray(probabilities)
    worst = worst_mistakes(labels, probabilities, count)
    captions = []
    for index in worst:
        judged = int(probabilities[index].argmax())
        captions.append(
            [
                (f"label {classes[labels[index]]}", labels[index]),
                (f"judged {classes[judged]} {probabilities[index, judged]:.2f}", judged),
            ]
        )
    pictures = [scan_picture(scan, colour) for scan in read_images(images, worst)]
    return _gallery(pictures, captions, "No scan was judged wrong.")


def plot_classes(labels, classes, images, seed=0, colour="brown"):
    """Draw one scan of every class, drawn at random.

    Args:
        labels: int array of shape `(scans,)`, -1 where no class holds.
        classes: sequence of str.
        images: array-like of shape `(scans, lines, pixels)`.
        seed: int.
        colour: str, "brown" or "grey".

    Returns:
        `Figure`. A class without a scan is left out.
    """
    random = np.random.default_rng(seed)
    found = {i: np.flatnonzero(np.asarray(labels) == i) for i in range(len(classes))}
    chosen = {i: random.choice(where) for i, where in found.items() if len(where)}
    scans = read_images(images, np.array(list(chosen.values()), int))
    pictures = [scan_picture(scan, colour) for scan in scans]
    return _gallery(pictures, [[(classes[i], i)] for i in chosen], "There is no scan.")


def _gallery(pictures, captions, otherwise):
    side, gap, text = 2.3, 0.15, 0.17  # inches
    head = text * max((len(caption) for caption in captions), default=1) + gap
    columns = min(4, max(1, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    width, height = columns * (side + gap) + gap, rows * (side + head) + gap
    figure = Figure(figsize=(width, height))
    if not pictures:
        figure.text(0.5, 0.5, otherwise, ha="center", va="center", color=INK)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = gap + column * (side + gap), height - row * (side + head) - head
        axes = figure.add_axes(
            (left / width, (top - side) / height, side / width, side / height)
        )
        axes.imshow(picture, interpolation="lanczos", aspect="auto")
        axes.axis("off")
        for line, (words, index) in enumerate(reversed(caption)):
            figure.text(
                left / width,
                (top + 0.06 + text * line) / height,
                escape(words if len(words) <= LETTERS else words[: LETTERS - 1] + "…"),
                color=dark(class_colour(int(index))),
                size=8.5,
            )
    return figure
