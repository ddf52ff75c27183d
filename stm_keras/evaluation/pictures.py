"""Scans as pictures: levelled, through the colour map that operators know."""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import remove_line_trend
from stm_keras.evaluation.scores import worst_mistakes
from stm_keras.evaluation.style import INK, class_colour, dark, escape

RAMP = np.arange(256)
BROWN = np.minimum(2 * RAMP, 255), RAMP, np.maximum(2 * RAMP - 256, 0)
LETTERS = 36  # what fits above a picture
MAPS = {
    "brown": np.stack(BROWN, axis=1).astype(np.uint8),
    "grey": np.stack([RAMP] * 3, axis=1).astype(np.uint8),
}


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
