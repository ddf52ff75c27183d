"""How well raters agree: the page, and the text of the command line.

stm-keras label agreement labels --report agreement.html
"""

from pathlib import Path

from stm_keras.reports import page

FEW_PICTURES = 50
RARE = 0.05  # of a mark's pictures: with fewer, a handful of them decides
RELIABLE, TENTATIVE = 0.8, 0.667  # Krippendorff 2004, section 11.4
AXIS = (-0.25, 1.0)  # of alpha, as drawn
KAPPAS = {
    None: "not defined for one rater",
    "Cohen": "Cohen's κ of the two raters",
    "Fleiss": "Fleiss' κ: every rater rated every picture",
    "mean of Cohen": "the mean of Cohen's κ over pairs of raters",
}


def write_agreement(path: str | Path, scores: dict, overwrite: bool = False) -> None:
    """Write the scores of `score_agreement` as one HTML page.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    sets = scores["sets"]
    page.write(
        path,
        "agreement.html",
        overwrite,
        title=f"Agreement of raters, {Path(scores['source']).name}",
        scores=scores,
        names=list(scores["raters"]),
        whole=whole_name(scores),
        rows=[
            (name, row, _drawn(row))
            for name, row in [*scores["marks"].items(), (None, sets)]
        ],
        ticks={f"{alpha:g}": _place(alpha) for alpha in (0, TENTATIVE, RELIABLE, AXIS[1])},
        grid=_grid(scores),
        kappa=KAPPAS[scores["kappa_kind"]],
        caveats=caveats(scores),
    )


def agreement_text(scores: dict) -> str:
    """Return the scores of `score_agreement` as text for a terminal."""
    return page.render(
        "agreement.txt",
        scores=scores,
        names=list(scores["raters"]),
        whole=whole_name(scores),
        grid=_grid(scores),
        kappa=KAPPAS[scores["kappa_kind"]],
        caveats=caveats(scores),
    ).rstrip("\n")


def whole_name(scores: dict) -> str:
    """Return what the agreement on all marks at once is of."""
    return "labels" if scores["single"] else "whole sets of marks"


def caveats(scores: dict) -> list[str]:
    """List what a reader must know before trusting the scores."""
    said, number = [], scores["rated_twice"]
    if len(scores["raters"]) < 2:
        said.append("There is one rater alone: agreement is not defined.")
    elif number < FEW_PICTURES:
        said.append(f"Pictures that two raters or more rated: {number}, which is few.")
    rare = [
        name
        for name, row in scores["marks"].items()
        if row["alpha"] is not None and not RARE <= row["prevalence"] <= 1 - RARE
    ]
    if rare:
        said.append(
            f"Set on fewer than {RARE:.0%} of pictures, or on nearly all, so that a handful of "
            f"them decides: {', '.join(rare)}."
        )
    return [*said, *scores["notes"]]


def _grid(scores):
    """Return the row of each rater in a table rater by rater: of pairs, or None."""
    pairs = {frozenset(pair["raters"]): pair for pair in scores["pairs"]}
    names = scores["raters"]
    return [[pairs.get(frozenset((one, other))) for other in names] for one in names]


def _drawn(row):
    """Return where alpha and its interval lie on the axis, in per cent, or None."""
    if row["alpha"] is None:
        return None
    low, high = row["interval"] or (row["alpha"], row["alpha"])
    return [_place(each) for each in (low, row["alpha"], high)]


def _place(alpha):
    low, high = AXIS
    return 100 * (min(max(alpha, low), high) - low) / (high - low)
