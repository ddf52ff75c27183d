"""Scores of unknown surfaces from models that were trained on neither session nor source.

Every pair of a session of the known surface and a scan of another is compared by a model
that was trained on neither. Intervals resample sessions and sources: another scan of a source
that is there already says little of the next source.
"""

from dataclasses import dataclass

import numpy as np

LIMITS = (0.025, 0.975)


@dataclass(frozen=True)
class Compared:
    """What models said of sessions and sources that they were not trained on."""

    # (sessions, scans): share of a session's scans that a scan of another surface scores
    # above; ties count half
    below: np.ndarray
    known: np.ndarray  # int (sessions,): scans of each session
    alarms: np.ndarray  # (sessions,): share of them called unknown
    found: np.ndarray  # (scans,): share of models that call the scan unknown
    source: np.ndarray  # str (scans,)
    kind: np.ndarray  # str (scans,)


def share_below(known: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the share of known scores that each other score is above, ties half."""
    known = np.sort(known)
    both = [np.searchsorted(known, other, side) for side in ("left", "right")]
    return (both[0] + both[1]) / (2 * max(len(known), 1))


def score_compared(compared: Compared, resamples: int = 1000, seed: int = 0) -> dict:
    """Score other surfaces against the known one, each source with the same weight.

    Returns:
        dict of plain numbers: `auroc`, `found` and `false_alarms`, each with its interval
        under `intervals`; `by_kind` and `by_source`, dict of name to dict of `scans`,
        `sources`, `auroc` and `found`, where each source has the same weight; `scans`,
        `sources`, `sessions`.
    """
    names, source = np.unique(compared.source, return_inverse=True)
    weights = np.zeros((len(names), len(source)))  # (sources, scans)
    weights[source, np.arange(len(source))] = 1
    weights /= weights.sum(1, keepdims=True)
    counts = compared.known.astype(float)

    def measured(sessions, sources):
        """Counts of how often each is drawn, `(draws, ...)`, to three scores each."""
        drawn = sessions * counts  # (draws, sessions)
        drawn /= drawn.sum(1, keepdims=True)
        shares = sources / sources.sum(1, keepdims=True)
        above = drawn @ compared.below @ weights.T  # (draws, sources)
        return {
            "auroc": (above * shares).sum(1),
            "found": shares @ (weights @ compared.found),
            "false_alarms": drawn @ compared.alarms,
        }

    whole = measured(np.ones((1, len(counts))), np.ones((1, len(names))))
    scores = {name: float(values[0]) for name, values in whole.items()}
    rng = np.random.default_rng(seed)
    draws = [
        rng.multinomial(count, np.full(count, 1 / count), resamples)
        for count in (len(counts), len(names))
    ]
    scores["intervals"] = {
        name: np.quantile(values, LIMITS).tolist() if resamples else None
        for name, values in (measured(*draws) if resamples else whole).items()
    }
    above = counts @ compared.below / counts.sum()
    for key, group in (("by_kind", compared.kind), ("by_source", compared.source)):
        scores[key] = {
            str(name): _part(compared, above, group == name) for name in np.unique(group)
        }
    return scores | {
        "scans": len(source),
        "sources": len(names),
        "sessions": len(counts),
        "known": int(counts.sum()),
    }


def _part(compared, above, chosen):
    source = compared.source[chosen]
    weights = 1 / np.array([np.sum(source == each) for each in source])
    weights /= weights.sum()
    return {
        "scans": int(chosen.sum()),
        "sources": len(np.unique(source)),
        "auroc": float(weights @ above[chosen]),
        "found": float(weights @ compared.found[chosen]),
    }
