"""From how many lines on a verdict is worth giving: measured, not chosen."""

LINES = (1, 2, 4, 8, 16)  # that are asked about
FOUND = 0.5  # share of other surfaces that must be called unknown: else most get a class


def min_lines(states: list, classes: int, surfaces: dict | None = None) -> dict:
    """Find the fewest lines from which on a verdict is worth giving.

    It is where the state of the tip is judged better than by chance, by the lower end of
    its interval, and, where that was measured, more than half of the scans of other surfaces
    are called unknown: before, most of them would be given a class. Where even the most
    lines asked about do not do, it is those.

    Args:
        states: list of dict with `lines`, `balanced_accuracy` and its interval under
            `intervals`, as `by_lines` of `score_predictions`: of scans that the model, or
            one of its recipe, had not seen.
        classes: int.
        surfaces: dict of str, number of lines, to scores as of `score_compared`; or None.

    Returns:
        dict for the facts of a model file: `min_lines`, and `min_lines_measured`, dict of
        str, number of lines, to dict of what was measured.
    """
    measured = {}
    chosen = None
    for point in states:
        lines = point["lines"]
        if lines not in LINES:
            continue
        limits = (point.get("intervals") or {}).get("balanced_accuracy")
        if limits is None:
            limits = [point["balanced_accuracy"]] * 2
        row = {
            "balanced_accuracy": round(point["balanced_accuracy"], 4),
            "interval": [round(each, 4) for each in limits],
        }
        enough = limits[0] > 1 / classes
        if surfaces is not None and str(lines) in surfaces:
            told = surfaces[str(lines)]
            row["found"] = round(told["found"], 4)
            row["found_interval"] = [round(e, 4) for e in told["intervals"]["found"]]
            enough &= told["found"] > FOUND
        measured[str(lines)] = row
        if enough and chosen is None:
            chosen = lines
    if not measured:
        return {}
    chosen = max(map(int, measured)) if chosen is None else chosen
    return {"min_lines": chosen, "min_lines_measured": measured}


def with_min_lines(facts: dict, states: list | None = None) -> dict:
    """Return the facts of a model file with `min_lines` and how it was measured.

    Args:
        facts: dict of a model file.
        states: list of dict as for `min_lines`, or None for what `facts` measured before.

    Returns:
        dict.
    """
    if states is None:
        states = [
            {
                "lines": int(lines),
                "balanced_accuracy": row["balanced_accuracy"],
                "intervals": {"balanced_accuracy": row["interval"]},
            }
            for lines, row in facts.get("min_lines_measured", {}).items()
        ]
    surfaces = (facts.get("unknown") or {}).get("measured")
    return {**facts, **min_lines(states, len(facts["classes"]), surfaces)}
