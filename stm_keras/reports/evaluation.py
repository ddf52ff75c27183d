"""The report on an evaluation: scores, curves, worst mistakes and facts in one HTML file."""

from stm_keras.data.dataset import read_images
from stm_keras.evaluation import text
from stm_keras.evaluation.paper import LRCN, beside_paper
from stm_keras.evaluation.plots import (
    draw_figures,
    plot_changes,
    plot_risk_coverage,
    plot_unknown,
)
from stm_keras.evaluation.scan_figures import (
    picture_png,
    plot_attention,
    plot_evidence,
    scan_picture,
)
from stm_keras.evaluation.scores import HEADLINES, LINE_SCORES, SUBSETS, worst_mistakes
from stm_keras.evaluation.style import figure_png
from stm_keras.evaluation.text import TITLES
from stm_keras.reports import page

MISTAKES = 24
RELIABILITY = {  # what scores may hold, as of `score_rejection` and so on, and its figure
    "rejection": plot_risk_coverage,
    "unknown": plot_unknown,
    "changes": plot_changes,
}


def write_report(
    path,
    *,
    title,
    scores,
    facts,
    history=None,
    predictions=None,
    images=None,
    traces=None,
    overwrite=False,
):
    """Write scores, curves, the worst mistakes and, last, facts as one HTML file.

    Pictures are inside the file and nothing is loaded from elsewhere: it can be mailed,
    kept for years and read on a computer without network.

    Args:
        scores: dict, as of `score_predictions`. Entries without a value are left out. May
            also hold the keys of `RELIABILITY`.
        facts: dict of str to text, number, list or dict, shown in this order: model,
            data, protocol, command, date, versions and whatever else matters.
            `protocol` ("p1", "p2", "p3") also decides what is said about the split.
        history: dict of arrays, as of `read_history`, or None.
        predictions: dict of `labels`, int array `(scans,)`, and `probabilities`, float
            array `(scans, classes)`; may hold `names`, a str per scan. Or None: then
            ROC, reliability and mistakes are left out.
        images: array-like of shape `(scans, lines, pixels)`, in the order of the
            predictions, or None. Only the mistakes are read.
        traces: dict of arguments of `plot_evidence`, for a model that answers after
            every line, or of `plot_attention`, for a transformer; or None.
        overwrite: bool. Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    classes = list(scores["per_class"])
    protocol = facts.get("protocol", scores.get("protocol"))
    mistakes = None
    if predictions is not None and images is not None:
        mistakes = _mistakes(predictions, images, classes)
    subsets = [("all single-class scans", scores)]
    subsets += [(name, scores[key]) for key, name in SUBSETS.items() if scores.get(key)]
    page.write(
        path,
        "evaluation.html",
        overwrite,
        title=title,
        scores=scores,
        adapted=scores.get("adapted"),
        headlines=HEADLINES,
        line_scores=LINE_SCORES,
        meanings=text.MEANINGS,
        titles_of=lambda names: [TITLES[name] for name in names],
        paper=LRCN if beside_paper(scores) else {},
        subsets=[
            [name, f"{part['n']:,}", *text.scores_of(part, HEADLINES)]
            for name, part in subsets
        ],
        by_lines=[
            [entry["lines"], *text.scores_of(entry, LINE_SCORES)]
            for entry in scores.get("by_lines") or ()
        ],
        figures=_figures(scores, predictions, history, traces),
        attention=traces is not None and "attention" in traces,
        mistakes=mistakes,
        caveats=page.caveats(scores, protocol, reference=True),
        facts=_facts(facts, protocol),
    )


def _figures(scores, predictions, history, traces):
    """Draw the figures that there are data for: dict of name to PNG, in bytes."""
    figures = draw_figures(scores, predictions, history)
    for name, draw in RELIABILITY.items():
        if scores.get(name) is not None:
            figures[name] = draw(scores[name])
    if traces is not None:
        draw = plot_attention if "attention" in traces else plot_evidence
        figures["traces"] = draw(**traces)
    return {name: figure_png(figure) for name, figure in figures.items()}


def _facts(facts, protocol):
    shown = {name: text.fact(value) for name, value in facts.items()}
    if "protocol" in facts or protocol is not None:
        shown["protocol"] = text.protocol(protocol)
    return shown


def _mistakes(predictions, images, classes):
    labels, probabilities = predictions["labels"], predictions["probabilities"]
    names = predictions.get("names")
    worst = worst_mistakes(labels, probabilities, MISTAKES)
    scans = read_images(images, worst) if len(worst) else ()
    mistakes = []
    for index, scan in zip(worst, scans, strict=True):
        label, predicted = int(labels[index]), int(probabilities[index].argmax())
        mistakes.append(
            {
                "index": int(index),
                "name": f"scan {index}" if names is None else names[index],
                "picture": picture_png(scan_picture(scan)),
                "ratio": scan.shape[1] / scan.shape[0],
                "label": label,
                "label_name": classes[label],
                "predicted": predicted,
                "predicted_name": classes[predicted],
                "confidence": probabilities[index, predicted],
            }
        )
    return mistakes
