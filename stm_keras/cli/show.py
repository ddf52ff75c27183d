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


def _number(value):
    return "  -  " if value is None else f"{value:.3f}"


def _interval(scores, key):
    return _bounds(scores["intervals"].get(key))


def _bounds(interval):
    if not interval or interval[0] is None:
        return ""
    return f"  [{interval[0]:.3f}, {interval[1]:.3f}]"
