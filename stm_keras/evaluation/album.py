"""The figures of a report as PNG files, for talks and papers."""

from pathlib import Path

from stm_keras.errors import OutputError
from stm_keras.evaluation.plots import (
    figure_png,
    plot_confusion,
    plot_history,
    plot_lines,
    plot_reliability,
    plot_roc,
)
from stm_keras.evaluation.text import beside_paper
from stm_keras.files import atomic

NAMES = ("confusion.png", "lines.png", "roc.png", "reliability.png", "history.png")


def write_album(folder, scores, predictions=None, history=None, overwrite=False):
    """Draw what a report shows, one PNG a figure.

    Args:
        folder: str or `Path`.
        scores: dict, as of `score_predictions`.
        predictions: dict of `labels` and `probabilities`, or None: then there are no
            ROC and reliability.
        history: dict of arrays, as of `read_history`, or None.
        overwrite: bool. Whether existing pictures may be replaced.

    Returns:
        list of `Path` of the pictures.

    Raises:
        OutputError: A picture exists, or cannot be written.
    """
    classes = list(scores["per_class"])
    figures = {
        "confusion.png": plot_confusion(scores["confusion"], classes),
        "lines.png": plot_lines(scores["by_lines"], beside_paper(scores), len(classes)),
    }
    if predictions is not None:
        labels, probabilities = predictions["labels"], predictions["probabilities"]
        figures["roc.png"] = plot_roc(labels, probabilities, classes)
        figures["reliability.png"] = plot_reliability(labels, probabilities)
    if history is not None:
        figures["history.png"] = plot_history({"run": history})
    paths = [Path(folder) / name for name in figures]
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
    for path, figure in zip(paths, figures.values(), strict=True):
        with atomic(path, overwrite) as temporary:
            temporary.write_bytes(figure_png(figure))
    return paths
