"""The text of reports: titles, protocols, and numbers with intervals."""

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


def counted(count, noun):
    """Write how many there are of something: `1 scan`, `1,234 scans`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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


def difference(part):
    """Write a difference of two scores, as of `paired_difference`, with its interval."""
    if part["difference"] is None:
        return number(None)
    limits = part["interval"]
    between = "" if limits is None else f" [{limits[0]:+.3f}, {limits[1]:+.3f}]"
    return f"{part['difference']:+.3f}{between}"


def gain(values):
    """Write a forecast: how much a score rises, and the interval of that."""
    value, *limits = values
    return difference({"difference": value, "interval": limits})


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
    """Return title and meaning of a protocol; the meaning of an unknown one is ""."""
    return PROTOCOLS.get(str(name).strip().lower(), (fact(name), ""))
