"""One self-contained HTML file that says what a model is worth."""

from stm_keras.data.dataset import read_images
from stm_keras.evaluation import text
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
from stm_keras.evaluation.scores import HEADLINES, SUBSETS, worst_mistakes
from stm_keras.evaluation.text import TITLES, bounds, number
from stm_keras.files import atomic
from stm_keras.reports import page

MISTAKES = 24


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
    """Write scores, curves and the worst mistakes as one HTML file.

    Pictures are inside the file and nothing is loaded from elsewhere: it can be mailed,
    kept for years and read on a computer without network.

    Args:
        path: str or `Path`.
        title: str.
        scores: dict, as of `score_predictions`. Entries without a value are left out. May
            also hold what `trust_sections` tells of.
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
    sections = [
        ("What this is", _facts(facts, protocol)),
        ("Scores", _headlines(scores)),
        ("Each class", _per_class(scores)),
        ("Confusion", _confusion(scores, classes)),
    ]
    if scores.get("by_lines"):
        sections.append(("Score against lines seen", _by_lines(scores, classes)))
    if predictions is not None:
        labels, probabilities = predictions["labels"], predictions["probabilities"]
        ranking = page.picture(plot_roc(labels, probabilities, classes), "ROC curves")
        trust = page.picture(
            plot_reliability(labels, probabilities), "Confidence and accuracy"
        )
        curves = ranking + trust
        sections.append(("Ranking and confidence", f'<div class="pair">{curves}</div>'))
    sections.extend(trust_sections(scores))
    if traces is not None:
        sections.append(("Which lines decided", _traces(traces)))
    if history is not None:
        curves = page.picture(plot_history({"run": history}), "Training curves")
        sections.append(("Training", curves))
    if predictions is not None and images is not None:
        sections.append(("Worst mistakes", _mistakes(predictions, images, classes)))
    notes = "".join(
        f"<li>{page.text(t)}</li>" for t in text.caveats(scores, protocol, reference=True)
    )
    sections.append(("Before you trust this", f"<ul>{notes}</ul>"))
    with atomic(path, overwrite) as temporary:
        temporary.write_text(
            page.page(title, sections), encoding="utf-8", errors="backslashreplace"
        )


def _facts(facts, protocol):
    rows = []
    for name, value in facts.items():
        shown = page.text(text.fact(value))
        if name == "command":
            shown = f"<pre>{shown}</pre>"
        if name == "protocol":
            heading, meaning = text.protocol(value)
            shown = f"<b>{page.text(heading)}.</b> {page.text(meaning)}"
        rows.append(
            f"<tr><th>{page.text(name.replace('_', ' '))}</th><td>{shown}</td></tr>"
        )
    if "protocol" not in facts and protocol is not None:
        shown = page.text(": ".join(filter(None, text.protocol(protocol))))
        rows.append(f"<tr><th>protocol</th><td>{shown}</td></tr>")
    return f'<table class="facts">{"".join(rows)}</table>'


def _headlines(scores):
    cards = []
    for name in HEADLINES:
        bracket = bounds(scores["intervals"].get(name))
        paper = ""
        if name in text.PAPER_LRCN and text.beside_paper(scores):
            paper = f"<small>2020 LRCN: {number(text.PAPER_LRCN[name])}</small>"
        cards.append(
            f'<div class="card"><h3>{page.text(TITLES[name])}</h3>'
            f"<strong>{number(scores[name])}</strong> <span>{bracket}</span>{paper}"
            f"<p>{page.text(text.MEANINGS[name])}</p></div>"
        )
    subsets = [("all single-class scans", scores)]
    subsets += [(name, scores[key]) for key, name in SUBSETS.items() if scores.get(key)]
    rows = [
        [name, f"{part['n']:,}", *(page.bracketed(part, score) for score in HEADLINES)]
        for name, part in subsets
    ]
    heads = ["scans", "number", *(TITLES[name] for name in HEADLINES)]
    return f'<div class="cards">{"".join(cards)}</div>{page.table(heads, rows)}'


def _per_class(scores):
    heads = ["class", "scans", "AUROC", TITLES["recall"], TITLES["precision"]]
    rows = []
    for index, (name, row) in enumerate(scores["per_class"].items()):
        limits = scores["intervals"]["per_class"][name]
        rows.append(
            [
                page.swatch(index) + page.text(name),
                f"{row['count']:,}",
                *(page.cell(row[key], limits[key]) for key in ("auroc", "recall")),
                page.cell(row["precision"], None),
            ]
        )
    return page.table(heads, rows, escaped=True)


def _confusion(scores, classes):
    figure = plot_confusion(scores["confusion"], classes)
    return page.picture(figure, "Confusion matrix, rows are true classes", "medium")


def _by_lines(scores, classes):
    reference = text.beside_paper(scores)
    figure = plot_lines(scores["by_lines"], reference, len(classes))
    names = ("auroc", "balanced_accuracy", "accuracy")
    rows = [
        [str(entry["lines"]), *(page.bracketed(entry, name) for name in names)]
        for entry in scores["by_lines"]
    ]
    table = page.table(["lines", *(TITLES[name] for name in names)], rows)
    return (
        f"{page.picture(figure, 'Score against the number of lines seen')}"
        f"<details><summary>The numbers</summary>{table}</details>"
    )


def _traces(traces):
    if "attention" in traces:
        return (
            "<p>Of each class a scan judged right and the surest mistake, and how much the "
            "network looked at each line: attention, averaged over heads and followed "
            "through the blocks.</p>"
            + page.picture(plot_attention(**traces), "Attention to each line")
        )
    figure = plot_evidence(**traces)
    return (
        "<p>Of each class a scan judged right and the surest mistake. Left the scan; middle "
        "the probability of each class after every line, from top to bottom; right how much "
        "each line spoke for the last word, and for a tip change.</p>"
        + page.picture(figure, "Probabilities after every line")
    )


def _mistakes(predictions, images, classes):
    labels, probabilities = predictions["labels"], predictions["probabilities"]
    names = predictions.get("names")
    worst = worst_mistakes(labels, probabilities, MISTAKES)
    if not len(worst):
        return "<p>No scan was judged wrong.</p>"
    tiles = []
    for index, scan in zip(worst, read_images(images, worst), strict=True):
        label = int(labels[index])
        judged = int(probabilities[index].argmax())
        name = f"scan {index}" if names is None else names[index]
        source = page.data_url(picture_png(scan_picture(scan)))
        tiles.append(
            f'<figure><img src="{source}" alt="Scan {index}"/><figcaption>'
            f"<span>label</span> {page.swatch(label)}{page.text(classes[label])}<br/>"
            f"<span>judged</span> {page.swatch(judged)}{page.text(classes[judged])} "
            f"<b>{probabilities[index, judged]:.2f}</b><br/>"
            f"<small>{page.text(name)}</small></figcaption></figure>"
        )
    return (
        "<p>The scans judged wrong with the most confidence, lines levelled. Some are "
        f'mistakes of the label.</p><div class="gallery">{"".join(tiles)}</div>'
    )


def trust_sections(scores):
    """Write a section for each of these entries that the scores have.

    Args:
        scores: dict that may hold `rejection` (as of `score_rejection`), `unknown` (as of
            `score_unknown`) and `changes` (as of `score_changes`; may hold `votes`, as
            of `score_votes`). An entry of None is left out.

    Returns:
        list of tuples of str: title and HTML.
    """
    writers = {
        "rejection": ("When it says unsure", _rejection),
        "unknown": ("Surfaces it does not know", _unknown),
        "changes": ("Tip changes", _changes),
    }
    return [
        (title, write(scores[name]))
        for name, (title, write) in writers.items()
        if scores.get(name) is not None
    ]


def _rejection(rejection):
    rows = [
        [
            _percent(point["wanted"]),
            number(point["threshold"]),
            _percent(point["coverage"], point["intervals"]["coverage"]),
            page.cell(point["accuracy"], point["intervals"]["accuracy"]),
            number(point["balanced_accuracy"]),
            f"{point['n']:,} of {rejection['n']:,}",
        ]
        for point in rejection["points"]
    ]
    heads = (
        "asked for",
        "confidence from",
        "scans judged",
        "accuracy of verdicts",
        TITLES["balanced_accuracy"],
        "verdicts",
    )
    note = (
        "A verdict below a confidence is given as unsure. Each threshold was chosen on "
        f"{rejection['validation']:,} validation scans, so that the stated share of them "
        "is judged; the table says what came of it on the test scans. The curve is of "
        "the test scans, the surest first, and the area below it is the mean risk."
    )
    return _section(note, plot_risk_coverage(rejection), "Risk and coverage", heads, rows)


def _unknown(unknown):
    first = [
        "all",
        page.cell(unknown["auroc"], unknown["interval"]),
        _percent(unknown["found"]),
        f"{unknown['n_other']:,}",
    ]
    rows = [
        [kind, number(row["auroc"]), _percent(row["found"]), f"{row['n']:,}"]
        for kind, row in unknown["kinds"].items()
    ]
    note = (
        "A score above the threshold is reported as a surface that the model does not know. "
        f"On {unknown['n_known']:,} test scans of the surface it knows, "
        f"{_percent(unknown['false_alarms'])} lie above: false alarms. To find 95 % of the "
        f"others would cost {_percent(unknown['false_alarms_at_95'])}."
    )
    heads = ("surface", "AUROC", "found", "scans")
    figure = plot_unknown(unknown)
    return _section(
        note, figure, "Scores of known and other surfaces", heads, [first, *rows]
    )


def _changes(changes):
    rows = [
        ["changes found", _percent(changes["found"]), f"{changes['n_changes']:,} changes"],
        [
            "false alarms per scan",
            number(changes["false_alarms"]),
            f"{changes['n_calm']:,} scans without a change",
        ],
        [
            "calls too many per scan with a change",
            number(changes["extra"]),
            f"{changes['n_changes']:,} scans",
        ],
        ["AUROC of a scan's largest score", number(changes["auroc"]), "changed or not"],
    ]
    votes = changes.get("votes")
    if votes:
        rows += [
            [
                "AUROC against votes for tip change",
                number(votes["auroc"]),
                f"{votes['n_ticked']:,} of {votes['n']:,} real scans ticked",
            ],
            [
                "the same, all raters of one mind",
                number(votes["auroc_clear"]),
                f"{votes['n_clear']:,} real scans",
            ],
        ]
    note = (
        f"A change counts as found within {changes['tolerance']} lines. A line is called "
        f"{changes['delay']} lines later, with what is known by then, and no other within "
        f"{changes['refractory']} lines. The true lines are those of simulated scans: in "
        "real ones nobody marked any, and votes tell only that there was a change."
    )
    figure = plot_changes(changes)
    return _section(
        note, figure, "Tip changes found", ("what", "value", "of"), rows, "wide"
    )


def _section(note, figure, description, heads, rows, size="medium"):
    return (
        f"<p>{page.text(note)}</p>{page.picture(figure, description, size)}"
        f"{page.table(heads, rows)}"
    )


def _percent(share, limits=None):
    if share is None:
        return number(None)
    bracket = "" if limits is None else bounds([100 * limit for limit in limits], 1)
    return f"{100 * share:.1f} % {bracket}".rstrip()
