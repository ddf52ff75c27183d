"""Whether an exported file says what the model says."""

import numpy as np

from stm_keras.errors import OutputError
from stm_keras.inference.verdict import sigmoid, softmax

TOLERANCE = 1e-4  # of a probability, between backends, runtimes and machines
NUM_SCANS = 100  # made up to compare on


def made_up_scans(facts, seed=0):
    """Make up scans to compare on: some begun only, with some lost lines.

    Args:
        facts: dict of a model file.
        seed: int.

    Returns:
        float32 array of heights, `(NUM_SCANS, max_lines, pixels)`.
    """
    rng = np.random.default_rng(seed)
    most = facts["max_lines"]
    scans = rng.normal(size=(NUM_SCANS, most, facts["pixels"])).cumsum(axis=2)
    scans *= np.exp(0.3 * rng.normal(size=(NUM_SCANS, most, 1)))
    scans[rng.random((NUM_SCANS, most)) < 0.05] = 0
    lines = rng.integers(1, most + 1, NUM_SCANS)
    begun = (np.arange(NUM_SCANS) % 2 == 1)[:, None]
    scans[begun & (np.arange(most) >= lines[:, None])] = 0
    return scans.astype(np.float32)


def difference(predictor, run, seed=0):
    """Return the largest difference of a probability over `NUM_SCANS` scans.

    Args:
        predictor: A `Predictor`.
        run: callable of prepared scans, as `read` of each format gives.
        seed: int. Of the scans.

    Returns:
        float; infinite where the heads are not the same.
    """
    given = predictor.prepare(made_up_scans(predictor.facts, seed))
    ours = predictor.model.predict(given, batch_size=20, verbose=0)
    ours, theirs = probabilities(ours), probabilities(run(given))
    shapes = [{name: each.shape for name, each in one.items()} for one in (ours, theirs)]
    if shapes[0] != shapes[1]:
        return float("inf")
    return float(max(np.abs(ours[name] - theirs[name]).max() for name in ours))


def probabilities(out):
    """Turn logits, of one head or a dict of several, into a dict of probabilities."""
    out = out if isinstance(out, dict) else {"state": out}
    out = {name: np.asarray(each, np.float32) for name, each in out.items()}
    return {n: softmax(each) if n == "state" else sigmoid(each) for n, each in out.items()}


def check(path, difference):
    """Raise an `OutputError` if a copy differs from the model, or is no number."""
    if not difference <= TOLERANCE:
        raise OutputError(
            f"{path}: the copy differs from the model by {difference:.1e} in a "
            f"probability, more than {TOLERANCE:.0e}. Nothing was written."
        )
