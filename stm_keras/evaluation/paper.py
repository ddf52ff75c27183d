"""The scores of Gordon, Junqueira and Moriarty 2020, whom models are compared with.

They are of the LRCN with a window of 20 lines on full-agreement scans, split per scan. Those
after fewer than all lines are read off the figures, +-0.003.
"""

from stm_keras.data.dataset import CLASSES

CITATION = (
    "Gordon, Junqueira, Moriarty 2020, Mach. Learn.: Sci. Technol. 1 015001 "
    "(arXiv 1907.13401)"
)
LRCN = {"auroc": 0.960, "balanced_accuracy": 0.847}
LINES = (21, 32, 48, 64, 80, 96, 112, 126)
LRCN_BY_LINES = {  # score to lines to value
    name: dict(zip(LINES, values, strict=True))
    for name, values in {
        "auroc": (0.933, 0.937, 0.942, 0.946, 0.951, 0.954, 0.958, 0.960),
        "balanced_accuracy": (0.793, 0.800, 0.809, 0.820, 0.829, 0.841, 0.849, 0.851),
    }.items()
}
PADDED_BY_LINES = {  # the full-scan network, missing lines set to zero
    "auroc": {2: 0.858, 8: 0.867, 20: 0.875},
    "balanced_accuracy": {2: 0.657, 8: 0.667, 20: 0.678},
}


def is_paper(classes) -> bool:
    """Tell whether scores over these classes may stand beside the paper's."""
    return tuple(classes) == CLASSES


def beside_paper(scores: dict) -> bool:
    """Tell whether scores are of the paper's classes and of real scans, as the paper's are."""
    source = str(scores.get("source") or scores.get("data"))
    return is_paper(scores["per_class"]) and not source.startswith("simulated")


def lrcn_after(score: str, lines: int) -> float | None:
    """Return a score of the LRCN after so many lines, give or take two; None elsewhere."""
    known = LRCN_BY_LINES.get(score, {})
    return next((known[each] for each in known if abs(each - lines) <= 2), None)
