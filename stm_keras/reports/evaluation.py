"""The report on an evaluation: scores, curves, worst mistakes and facts in one HTML file."""

from stm_keras.data.dataset import read_images
from stm_keras.evaluation import text
from stm_keras.evaluation.paper import LRCN, beside_paper
from stm_keras.evaluation.plots import (
    plot_confusion,
    plot_history,
    plot_lines,
    plot_reliability,
    plot_roc,
)
from stm_keras.evaluation.plots_reliability import (
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
from stm_keras.evaluation.text import TITLES, number, percent, score
from stm_keras.reports import page

MISTAKES = 24
ATTENTION = (
    "Of each class a scan judged right and the surest mistake, and how much the network looked "
    "at each line: attention, averaged over heads and followed through the blocks."
)
EVIDENCE = (
    "Of each class a scan judged right and the surest mistake. Left the scan; middle the "
    "probability of each class after every line, from top to bottom; right how much each line "
    "spoke for the last verdict, and for a tip change."
)


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
        path: str or `Path`.
        title: str.
        scores: dict, as of `score_predictions`. Entries without a value are left out. May
            also hold what `reliability_parts` reads.
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
        figures=_figures(scores, classes, predictions, history, traces),
        traces_note=ATTENTION if traces and "attention" in traces else EVIDENCE,
        reliability=reliability_parts(scores),
        mistakes=mistakes,
        caveats=text.caveats(scores, protocol, reference=True),
        facts=_facts(facts, protocol),
    )


def _figures(scores, classes, predictions, history, traces):
    """Draw the figures that there are data for: dict of name to PNG, in bytes."""
    figures = {"confusion": plot_confusion(scores["confusion"], classes)}
    if scores.get("by_lines"):
        reference = beside_paper(scores)
        figures["lines"] = plot_lines(scores["by_lines"], reference, len(classes))
    if predictions is not None:
        pair = predictions["labels"], predictions["probabilities"]
        figures["roc"] = plot_roc(*pair, classes)
        figures["reliability"] = plot_reliability(*pair)
    if traces is not None:
        draw = plot_attention if "attention" in traces else plot_evidence
        figures["traces"] = draw(**traces)
    if history is not None:
        figures["history"] = plot_history({"run": history})
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


def reliability_parts(scores):
    """Say how far the model knows its own limits, as far as the scores hold it.

    Args:
        scores: dict that may hold `rejection` (as of `score_rejection`), `unknown` (as of
            `score_unknown`) and `changes` (as of `score_changes`; may hold `votes`, as
            of `score_votes`). An entry of None is left out.

    Returns:
        list of dict of `title`, `note`, `figure` (PNG), `description` and `size` of it, and
        `heads` and `rows` of a table.
    """
    writers = {"rejection": _rejection, "unknown": _unknown, "changes": _changes}
    return [
        write(scores[name])
        for name, write in writers.items()
        if scores.get(name) is not None
    ]


def _rejection(rejection):
    return {
        "title": "Unsure verdicts",
        "note": (
            "A verdict below a confidence is given as unsure. Each threshold was chosen on "
            f"{rejection['validation']:,} validation scans, so that the stated share of them "
            "is judged; the table says what came of it on the test scans. The curve is of "
            "the test scans, the surest first, and the area below it is the mean risk."
        ),
        "figure": figure_png(plot_risk_coverage(rejection)),
        "description": "Risk and coverage",
        "size": "medium",
        "heads": (
            "coverage asked for",
            "confidence from",
            "coverage",
            "accuracy of verdicts",
            TITLES["balanced_accuracy"],
            "verdicts",
        ),
        "rows": [
            [
                percent(point["wanted"]),
                number(point["threshold"]),
                percent(point["coverage"], point["intervals"]["coverage"]),
                score(point["accuracy"], point["intervals"]["accuracy"]),
                number(point["balanced_accuracy"]),
                f"{point['n']:,} of {rejection['n']:,}",
            ]
            for point in rejection["points"]
        ],
    }


def _unknown(unknown):
    first = [
        "all",
        score(unknown["auroc"], unknown["interval"]),
        percent(unknown["found"]),
        f"{unknown['n_other']:,}",
    ]
    rows = [
        [kind, number(row["auroc"]), percent(row["found"]), f"{row['n']:,}"]
        for kind, row in unknown["kinds"].items()
    ]
    return {
        "title": "Unknown surfaces",
        "note": (
            "A score above the threshold is reported as an unknown surface. "
            f"On {unknown['n_known']:,} test scans of the known surface, "
            f"{percent(unknown['false_alarms'])} lie above: false alarms. To detect 95 % of "
            f"other surfaces would cost {percent(unknown['false_alarms_at_95'])}."
        ),
        "figure": figure_png(plot_unknown(unknown)),
        "description": "Scores of known and other surfaces",
        "size": "medium",
        "heads": ("surface", "AUROC", "called unknown", "scans"),
        "rows": [first, *rows],
    }


def _changes(changes):
    calm = f"{changes['n_calm']:,} scans without a change"
    changed = f"{changes['n_changes']:,}"
    rows = [
        ["changes detected", percent(changes["found"]), f"{changed} changes"],
        ["false alarms per scan", number(changes["false_alarms"]), calm],
        [
            "extra calls per scan with a change",
            number(changes["extra"]),
            f"{changed} scans",
        ],
        ["AUROC of a scan's largest score", number(changes["auroc"]), "changed or not"],
    ]
    votes = changes.get("votes")
    if votes:
        ticked = f"{votes['n_ticked']:,} of {votes['n']:,} real scans ticked"
        clear = f"{votes['n_clear']:,} real scans"
        rows += [
            ["AUROC against votes for tip change", number(votes["auroc"]), ticked],
            ["the same where all raters agree", number(votes["auroc_clear"]), clear],
        ]
    return {
        "title": "Tip changes",
        "note": (
            f"A change counts as detected within {changes['tolerance']} lines. A line is called "
            f"{changes['delay']} lines later, with what is known by then, and no other within "
            f"{changes['refractory']} lines. The true lines are those of simulated scans: in "
            "real ones nobody marked any, and votes say only that there was a change."
        ),
        "figure": figure_png(plot_changes(changes)),
        "description": "Tip changes detected, and delays",
        "size": "wide",
        "heads": ("measure", "value", "of"),
        "rows": rows,
    }
