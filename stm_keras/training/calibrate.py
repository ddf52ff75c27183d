"""Make a trained model say how sure it may be: what the validation scans teach it last.

Temperatures, how often a verdict is right at its confidence, the confidence below which a
verdict is "unsure", the score above which a surface is unknown, and the score at which a tip
change is called. Test scans play no part.
"""

import numpy as np

from stm_keras.evaluation.calibration import fit_confidence, fit_temperature
from stm_keras.evaluation.change_scores import choose_change_threshold
from stm_keras.evaluation.rejection import confidence_threshold
from stm_keras.evaluation.unknown import unknown_threshold
from stm_keras.inference.evaluate import LINES_SEEN
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.inference.trust import changed_scans
from stm_keras.runtime.verdict import calibrated, softmax

LIMITS = (0.2, 5.0)  # few validation scans, all easy or all hard, can ask for anything
COVERAGE = 0.9  # of verdicts that are not "unsure"
FALSE_ALARMS = 0.05  # of scans that are called unknown, and of changes in calm scans
CHANGE_SEED = 20_201  # of the scans that choose the threshold for changes
CHANGE_SCANS = 1200


def calibrate(run, dataset, split, say=None):
    """Fit what a model says of itself on the validation scans, once, and store it.

    Args:
        run: A `stm_keras.runs.Run` with `best.keras`.
        dataset: The `Dataset` of the run.
        split: Its `Split`.
        say: callable of str that tells the user what happens, or None.

    Returns:
        `Predictor`.
    """
    path = run.file("best.keras")
    predictor = load_predictor(path)
    chosen = split.parts["validation"]
    if "temperature" in predictor.facts or not len(chosen):
        return predictor
    facts = {**predictor.facts, **trust_facts(predictor, dataset.take(chosen))}
    save_model(predictor.model, path, facts, overwrite=True)
    values = facts["temperature"]["values"]
    if say:
        say(f"Calibrated on {len(chosen)} scans: temperature {values[0]} to {values[-1]}.")
    return load_predictor(path)


def trust_facts(predictor, part):
    """Fit temperatures and thresholds on scans that the model did not learn from.

    Args:
        predictor: A `Predictor`, not calibrated.
        part: `Dataset` of complete single-class scans.

    Returns:
        dict, JSON-ready: `temperature`, `confidence`, `unsure`, and where the model has the heads
        `unknown` and `change`.
    """
    total = part.images.shape[1]
    seen = sorted({min(lines, total) for lines in (*LINES_SEEN, total)})
    by_lines = predictor.by_lines(part.images, seen)
    logits = {lines: np.log(np.maximum(p, 1e-12)) for lines, p in by_lines.items()}
    fitted = [fit_temperature(part.labels, logits[lines]) for lines in seen]
    values = np.clip(smooth(np.log2(seen), fitted), *LIMITS).round(4).tolist()
    facts = {"temperature": {"lines": seen, "values": values}}
    softened = [softmax(logits[n], t) for n, t in zip(seen, values, strict=True)]
    curves = np.round([fit_confidence(part.labels, p) for p in softened], 4)
    facts["confidence"] = {
        "lines": seen,
        "slopes": curves[:, 0].tolist(),
        "shifts": curves[:, 1].tolist(),
    }
    shares = [calibrated(logits[lines], facts, lines) for lines in seen]
    facts["unsure"] = {
        "coverage": COVERAGE,
        "lines": seen,
        "thresholds": [round(confidence_threshold(p, COVERAGE), 6) for p in shares],
    }
    if not predictor.every_line:
        return facts
    outputs = predictor.heads(part.images)
    if "unknown" in outputs:
        thresholds = [
            float(unknown_threshold(outputs["unknown"][:, lines - 1], FALSE_ALARMS))
            for lines in seen
        ]
        facts["unknown"] = {
            "false_alarms": FALSE_ALARMS,
            "lines": seen,
            "thresholds": thresholds,
        }
    if "change" in outputs and part.images.shape[1:] == (128, 128):
        scans = changed_scans(CHANGE_SCANS, CHANGE_SEED)
        scores = predictor.heads(scans.images)["change"]
        threshold = choose_change_threshold(
            scores, scans.change_line, lines=scans.lines, false_alarms=FALSE_ALARMS
        )
        facts["change"] = {"threshold": float(threshold), "false_alarms": FALSE_ALARMS}
    return facts


def smooth(place, values):
    """Fit a parabola through temperatures: a few hundred scans fix no more than that.

    Args:
        place: float array `(points,)`. Logarithm of the number of lines.
        values: sequence of float.

    Returns:
        float array `(points,)`; the values as they are where there are three or fewer.
    """
    if len(values) <= 3:
        return np.asarray(values, float)
    return np.exp(np.polyval(np.polyfit(place, np.log(values), 2), place))
