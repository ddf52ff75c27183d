"""The style of every figure: colours, axes, and how names are written."""

import io
import warnings

import numpy as np

from stm_keras.terminal import printable

# Okabe and Ito: told apart by colour-blind eyes too
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#7F7F7F")
NO_CLASS = {  # colours of verdicts that are not a class, none of the above
    "unsure": "#A8A29E",
    "unknown surface": "#7C3AED",
    "unknown size": "#A78BFA",
    "not judged": "#B91C1C",
}
CHANGE = COLOURS[4]  # of a tip change in pictures of scans
INK, GREY, FAINT = "#222222", "#8A8A8A", "#E4E4E4"


def class_colour(index):
    """Return the colour that class `index` has in every figure."""
    return COLOURS[index % len(COLOURS)]


def verdict_colour(verdict: str, classes: tuple) -> str:
    """Return the colour of a verdict: that of its class, or one of its own."""
    if verdict in classes:
        return class_colour(classes.index(verdict))
    return NO_CLASS[verdict]


def dark(colour):
    """Darken a class colour until it can be read as text on white."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{int(0.72 * channel):02x}" for channel in channels)


def style_axes(axes, title, xlabel, ylabel):
    """Give axes a title, labels, a faint grid and no frame."""
    axes.set_title(title, loc="left", color=INK, size=11)
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.grid(color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=INK, labelsize=9)


def escape(text):
    """Make a name safe to draw: no controls, and no dollar sign is read as mathematics."""
    return printable(text).replace("$", r"\$")


def broken(name):
    """Break a class name over two lines, at its middle blank or after a slash."""
    text = escape(name)
    cuts = [i + 1 for i, letter in enumerate(text) if letter in " /"]
    if not cuts:
        return text
    cut = min(cuts, key=lambda i: abs(i - len(text) / 2))
    return f"{text[:cut].rstrip()}\n{text[cut:]}"


def apart(positions: list, gap: float, low: float, high: float) -> list:
    """Move labels along an axis until neighbours are `gap` apart, between `low` and `high`.

    Where there are too many for that they are spread evenly.
    """
    order = np.argsort(positions, kind="stable")
    moved = np.clip(np.asarray(positions, float)[order], low, high)
    if gap * (len(moved) - 1) > high - low:
        gap = (high - low) / (len(moved) - 1)
    for index in range(1, len(moved)):  # towards `high`, and from there back
        moved[index] = max(moved[index], moved[index - 1] + gap)
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], high - gap * (len(moved) - 1 - index))
    result = np.empty(len(moved))
    result[order] = moved
    return result.tolist()


def figure_png(figure, dpi=150):
    """Draw a figure as PNG, in bytes."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a class name in another script
        figure.savefig(stream, format="png", dpi=dpi, facecolor="white")
    return stream.getvalue()
