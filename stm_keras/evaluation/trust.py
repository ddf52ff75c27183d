"""The report's sections on what a model does not know."""

from stm_keras.evaluation import markup
from stm_keras.evaluation.plots_reliability import (
    plot_changes,
    plot_risk_coverage,
    plot_unknown,
)
from stm_keras.evaluation.text import TITLES, bounds, number
from stm_keras.reports import page


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
            markup.cell(point["accuracy"], point["intervals"]["accuracy"]),
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
        markup.cell(unknown["auroc"], unknown["interval"]),
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
        f"<p>{page.text(note)}</p>{markup.picture(figure, description, size)}"
        f"{markup.table(heads, rows)}"
    )


def _percent(share, limits=None):
    if share is None:
        return number(None)
    bracket = "" if limits is None else bounds([100 * limit for limit in limits], 1)
    return f"{100 * share:.1f} % {bracket}".rstrip()
