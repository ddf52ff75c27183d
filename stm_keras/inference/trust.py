"""How far a model can be trusted: abstention, unknown surfaces, tip changes."""

import numpy as np

from stm_keras.evaluation.abstention import score_rejection
from stm_keras.evaluation.change_scores import score_changes, score_votes
from stm_keras.evaluation.unknown import score_unknown

TEST_SEED = 20_202  # of simulated scans that score; no run trains or chooses on them
NUM_CHANGED = 1200
NUM_OTHER = 760  # 40 of each kind


def changed_scans(count, seed):
    """Simulate scans, half of them with a tip change that can be seen.

    Args:
        count: int. Scans before those are left out whose change does not show.
        seed: int.

    Returns:
        `Dataset`.
    """
    from stm_keras.simulate import SimulationConfig, clear_changes, simulate

    scans = simulate(count, seed, SimulationConfig(p_tip_change=0.5, p_partial=0.0))
    return scans.take(np.flatnonzero(clear_changes(scans)))


def trust_scores(predictor, part, validation=None, groups=None, seed=0, taught=False):
    """Score what a model says of its own verdicts, on scans it never saw.

    Args:
        predictor: A calibrated `Predictor`.
        part: `Dataset` of complete single-class scans to score on.
        validation: float array `(scans, classes)`. Probabilities of the scans whose
            confidence sets the thresholds, as given by a model that had not seen them;
            or None.
        groups: array of shape `(scans of part,)`. What to resample, or None.
        seed: int. Of the bootstrap.
        taught: bool. Whether the model learnt from `part` after all. It is then not asked
            how strange these scans are, nor where their tip changed.

    Returns:
        dict, JSON-ready: `rejection`, `unknown` and `changes`, as of `score_rejection`,
        `score_unknown` and `score_changes`; None where the model has no such head, or
        where the answer would be of scans that taught it.
    """
    scores = {"rejection": None, "unknown": None, "changes": None}
    if validation is not None and len(validation):
        scores["rejection"] = score_rejection(
            part.labels,
            predictor.probabilities(part.images),
            validation,
            groups=groups,
            seed=seed,
        )
    facts = predictor.facts
    heads = {}
    if predictor.every_line and not taught:
        heads = predictor.heads(part.images)
    if "unknown" in facts and heads:
        from stm_keras.simulate import OTHER_KINDS, simulate_others

        others = simulate_others(NUM_OTHER, TEST_SEED)
        found = predictor.heads(others.images)["unknown"]
        last = np.maximum(others.lines, 1) - 1
        scores["unknown"] = score_unknown(
            heads["unknown"][:, -1],
            found[np.arange(len(last)), last],
            facts["unknown"]["thresholds"][-1],
            kinds=np.array(OTHER_KINDS)[others.parameters["kind"]],
            groups=groups,
            seed=seed,
        )
    if "change" in facts:
        scans = changed_scans(NUM_CHANGED, TEST_SEED)
        scores["changes"] = score_changes(
            predictor.heads(scans.images)["change"],
            scans.change_line,
            facts["change"]["threshold"],
            lines=scans.lines,
        )
        votes = part.parameters.get("tip_change_votes")
        if votes is not None and heads:
            scores["changes"]["votes"] = score_votes(heads["change"], votes, part.lines)
    return scores
