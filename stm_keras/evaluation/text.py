"""The text of reports: numbers with intervals, protocols, surfaces and caveats."""

from stm_keras.evaluation.paper import CITATION, beside_paper

TITLES = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "ece": "calibration error (ECE)",
    "recall": "recall",
    "precision": "precision",
    "loss": "loss",
}
MEANINGS = {
    "auroc": "Chance that a scan of a class is ranked above one of another class, averaged "
    "over the classes. Guessing gives 0.5.",
    "balanced_accuracy": "Share of scans judged right, averaged over the classes.",
    "accuracy": "Share of scans judged right. Common classes weigh more.",
    "ece": "Mean distance between confidence and accuracy; 0 is calibrated. Chance adds to "
    "it, so its interval, which is corrected for that, may lie below.",
}
PROTOCOLS = {  # title and meaning
    "p1": (
        "P1, random split per scan",
        "As in Gordon et al. 2020. Comparable with that paper, and optimistic on real scans: "
        "nearly every test scan has a sibling of the same session in training. Simulated scans "
        "are independent, and need no sessions.",
    ),
    "p2": (
        "P2, split by session",
        "As a user meets it: every test scan is of a day that the model has not seen. The "
        "headline.",
    ),
    "p3": (
        "P3, one campaign left out",
        "As another laboratory meets it: months of work that the model has not seen. Scan angle "
        "and class go together within a campaign: the hardest test.",
    ),
}
FEW_SESSIONS = 10


def number(value, digits=3):
    """Write a score, or a dash where it is undefined."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def bounds(interval, digits=3):
    """Write an interval as `[0.801, 0.843]`, or nothing where it is undefined."""
    if interval is None:
        return ""
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def score(value, interval):
    """Write a score and, where there is one, its interval."""
    return f"{number(value)} {bounds(interval)}".rstrip()


def scores_of(part, names):
    """Write scores of a dict with their `intervals`: list of str."""
    return [score(part[name], part["intervals"].get(name)) for name in names]


def percent(share, interval=None):
    """Write a share, 0 to 1, in per cent, and its interval."""
    if share is None:
        return number(None)
    limits = None if interval is None else [100 * limit for limit in interval]
    return f"{100 * share:.1f} % {bounds(limits, 1)}".rstrip()


def fact(value):
    """Write a fact in one line: text, number, list, or dict as `name value, ...`."""
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{name} {fact(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(fact, value))
    return str(value)


def protocol(name):
    """Return title and meaning of a protocol, whatever it is called.

    Args:
        name: str such as `p2`, or None.

    Returns:
        Tuple of two str. The meaning is empty for an unknown protocol.
    """
    return PROTOCOLS.get(str(name).strip().lower(), (fact(name), ""))


def caveats(scores, protocol_name=None, reference=False):
    """List what a reader must know before trusting the scores.

    Args:
        scores: dict, as of `score_predictions`.
        protocol_name: str such as `p2`, or None.
        reference: bool. Whether the scores stand beside those of Gordon et al. 2020.

    Returns:
        list of str, one sentence or two each.
    """
    name = str(protocol_name).strip().lower()
    drawn = scores.get("resampled") or {"unit": "scan", "units": scores["n"]}
    units = drawn["units"]
    texts = []
    if name in PROTOCOLS:
        texts.append(": ".join(PROTOCOLS[name]))
    others = [title for key, (title, _) in PROTOCOLS.items() if key != name]
    texts.append(f"Look at the other protocols too: {'; '.join(others)}.")
    texts.append(_interval_caveat(scores, drawn))
    if drawn["unit"] == "session" and units < FEW_SESSIONS:
        texts.append(
            f"Only {units} test session{'s' * (units != 1)}: with fewer than "
            f"{FEW_SESSIONS} the true intervals are wider than these."
        )
    if drawn["unit"] == "scan" and name in ("p2", "p3"):
        texts.append(
            "The sessions of the scans were not given, so scans were resampled: for a "
            "new session the intervals are too narrow."
        )
    absent = [c for c, row in scores["per_class"].items() if not row["count"]]
    if absent:
        texts.append(f"No test scan is of: {', '.join(absent)}. Averages leave it out.")
    few = [c for c, row in scores["per_class"].items() if 0 < row["count"] < 20]
    if few:
        texts.append(f"Fewer than 20 test scans are of: {', '.join(few)}.")
    texts.append(
        "Labels of real scans are votes, often of one person, and people disagree on half "
        "of the scans that several have seen: no score can be better than its labels. "
        "Scores on simulated scans say how well the simulator is known, not the microscope."
    )
    if reference and beside_paper(scores):
        texts.append(
            f"The reference is {CITATION}: other scans, split per scan, and only those that "
            "all raters agree on. Its numbers were read off its figures (±0.003)."
        )
    return texts


def _interval_caveat(scores, drawn):
    if scores["intervals"]["accuracy"] is None:
        return "There are no intervals: too little was resampled to give any."
    return (
        f"Brackets are 95 % bootstrap intervals over {drawn['units']} {drawn['unit']}s"
        f"{_whole(drawn)}: how far a score could be off by the luck of the test scans. "
        "They hold neither the luck of the training nor a new surface or microscope."
    )


def _whole(drawn):
    return ", each drawn as a whole" if drawn["unit"] == "session" else ""
