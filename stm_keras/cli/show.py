"""Scores as lines of text for a terminal."""


def score_lines(scores):
    """Return the headline scores of a `score_predictions` dict as text."""
    from stm_keras.evaluation.scores import SUBSETS

    lines = [
        f"{scores['n']} scans, protocol {scores['protocol'].upper()}, {scores['split']}"
    ]
    for key, name in (
        ("auroc", "AUROC (macro)"),
        ("balanced_accuracy", "balanced accuracy"),
        ("accuracy", "accuracy"),
        ("ece", "calibration error"),
    ):
        lines.append(f"  {name:<20}{_number(scores[key])}{_interval(scores, key)}")
    for key in SUBSETS:
        if scores.get(key):
            part = scores[key]
            name = f"{key.replace('_', ' ')} ({part['n']})"
            lines.append(
                f"  {name:<22}AUROC {_number(part['auroc'])}, balanced accuracy "
                f"{_number(part['balanced_accuracy'])}"
            )
    lines.append("  class                 AUROC  recall  scans")
    for name, values in scores["per_class"].items():
        lines.append(
            f"  {name:<20}  {_number(values['auroc'])}   {_number(values['recall'])}"
            f"  {values['count']:5d}"
        )
    lines.append(
        "  lines seen  " + "  ".join(f"{p['lines']:5d}" for p in scores["by_lines"])
    )
    for key, name in (("auroc", "AUROC"), ("balanced_accuracy", "bal. acc.")):
        row = "  ".join(_number(point[key]) for point in scores["by_lines"])
        lines.append(f"  {name:<11} {row}")
    if scores.get("unknown"):
        lines += _other_lines(scores["unknown"])
    for name, told in scores.get("sources", {}).items():
        lines += _source_lines(name, told)
    return "\n".join(lines)


def _other_lines(unknown):
    """Say how other surfaces were told from the known one."""
    width = max(20, *map(len, unknown["kinds"]))
    alarms = f"{_number(unknown['false_alarms'])} of {unknown['n_known']} known scans too"
    rows = {"all": {**unknown, "n": unknown["n_other"]}, **unknown["kinds"]}
    return [
        f"  {'other surfaces':<{width}}  AUROC  found  scans",
        *(
            f"  {name:<{width}}  {_number(row['auroc'])}  {_number(row['found'])}"
            f"  {row['n']:5d}{_bounds(row.get('interval'))}"
            for name, row in rows.items()
        ),
        f"  called unknown: {alarms}",
    ]


def _source_lines(name, told):
    """Say how other surfaces were told by kind and source, each source weighing alike."""
    last = told["lines"][max(told["lines"], key=int)]
    parts = {**last["by_kind"], **last["by_source"]}
    width = max(20, *map(len, parts))
    rows = [
        f"  {name}: {last['scans']} scans of {last['sources']} sources, each weighing alike",
        f"  {'after lines':<{width}}  AUROC  found  alarms",
    ]
    for lines, scores in told["lines"].items():
        cells = (_number(scores[key]) for key in ("auroc", "found", "false_alarms"))
        bounds = ", ".join(_bounds(scores["intervals"][k]) for k in ("auroc", "found"))
        rows.append(f"  {lines:<{width}}  {'  '.join(cells)}{bounds}")
    for part, scores in parts.items():
        cells = f"{_number(scores['auroc'])}  {_number(scores['found'])}"
        rows.append(f"  {part:<{width}}  {cells}  {scores['scans']:5d}")
    if told["taught"]:
        rows.append(
            f"  {told['taught']} of these scans are of sources that the model learnt from: "
            "its card says how it does without them"
        )
    return rows


def _number(value):
    return "  -  " if value is None else f"{value:.3f}"


def _interval(scores, key):
    return _bounds(scores["intervals"].get(key))


def _bounds(interval):
    if not interval or interval[0] is None:
        return ""
    return f"  [{interval[0]:.3f}, {interval[1]:.3f}]"
