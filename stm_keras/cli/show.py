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
    return "\n".join(lines)


def _number(value):
    return "  -  " if value is None else f"{value:.3f}"


def _interval(scores, key):
    interval = scores["intervals"].get(key)
    if not interval or interval[0] is None:
        return ""
    return f"  [{interval[0]:.3f}, {interval[1]:.3f}]"
