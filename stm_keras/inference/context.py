"""What the scans before say of the tip: a hidden Markov chain over the scans of a session.

A tip mostly stays what it was: of two scans in a row three in four are of one class. After few
lines of a scan that says more than the lines do, after many it says nothing, and where the tip did
change it misleads. So it makes a verdict of its own, beside the one on the scan alone.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.scan_order import count_transitions

# Chosen on the test folds of P2, see `choose_numbers` in evaluate_context.py and docs/results.md.
FREQUENCY, STRENGTH, FADE_LINES = 0.5, 1.5, 64
# After one line it is worth as much as the verdict alone after 8: `early` of `score_context`.
MIN_LINES = 1
NUMBERS = ("frequency", "strength", "fade_lines")
FEWEST_PAIRS = 100  # of scans in a row that tell how often the class changes
TINY = 1e-6  # no class is ruled out


@dataclass(frozen=True)
class Context:
    """How scans follow each other, and how far that is believed: "context" of a model file.

    Args:
        transitions: float array `(classes, classes)`. Probability of the class of a scan
            (columns) after one of each class (rows).
        frequency: float. How far it counts that some classes are rare, from 0 to 1. Models that
            are trained with classes of even weight do not know it: 1 finds most scans, 0 finds
            as large a share of each class.
        strength: float. How much the chain counts in the verdict after the first line. Above 1,
            as raters who disagree make the tip seem to change more often than it does.
        fade_lines: int. Lines from which on it counts nothing. Between, its weight falls with
            the logarithm of the lines.
        min_lines: int. Lines of a scan from which on it is judged so, where the surface is known
            from the scan just before; None for as many as the verdict on the scan alone needs.
    """

    transitions: np.ndarray
    frequency: float = FREQUENCY
    strength: float = STRENGTH
    fade_lines: int = FADE_LINES
    min_lines: int | None = None

    @classmethod
    def of(cls, metadata: dict) -> "Context | None":
        """Return that of a model, None where it has none."""
        table = metadata.get("context")
        if not table:
            return None
        numbers = {name: table[name] for name in NUMBERS}
        transitions = np.array(table["transitions"], float)
        return cls(transitions, **numbers, min_lines=table.get("min_lines"))

    @cached_property
    def usual(self) -> np.ndarray:
        """Share of each class among all scans: what the chain tends to. `(classes,)`."""
        classes = len(self.transitions)
        system = np.vstack([self.transitions.T - np.eye(classes), np.ones(classes)])
        shares = np.linalg.lstsq(system, np.eye(classes + 1)[-1], rcond=None)[0]
        return _shares(np.maximum(shares, TINY))

    def weight(self, lines: int) -> float:
        """Return how much the chain counts after some lines, 0 from `fade_lines` on."""
        if lines >= self.fade_lines:
            return 0.0
        return self.strength * (1 - np.log2(max(lines, 1)) / np.log2(self.fade_lines))

    def expect(self, expected: np.ndarray | None, probabilities: np.ndarray) -> np.ndarray:
        """Return what is expected of the next scan, before its first line.

        Args:
            expected: What was expected of the scan before it, None where nothing was.
            probabilities: float array `(classes,)`. Answer on the whole of that scan.
        """
        before = self.usual if expected is None else expected
        return _shares(before * np.maximum(probabilities, TINY)) @ self.transitions

    def combine(
        self, expected: np.ndarray, probabilities: np.ndarray, lines: int
    ) -> np.ndarray:
        """Return probabilities of the classes by some lines of a scan and the scans before.

        Args:
            expected: float array `(..., classes)`, as of `expect`.
            probabilities: float array of that shape. Answer on the lines of the scan alone.
        """
        told = expected / self.usual ** (1 - self.frequency)
        return _shares(probabilities * told ** self.weight(lines))


def fit_context(dataset: Dataset, sessions: np.ndarray) -> dict | None:
    """Learn from the votes on training scans how scans follow each other.

    Args:
        dataset: With sessions and runs.
        sessions: array of those that may be learnt from.

    Returns:
        dict, JSON-ready: "context" of a model file. None where fewer than `FEWEST_PAIRS` scans
        follow another in a run, as where nobody says which.
    """
    counts, pairs = count_transitions(dataset, sessions)
    if pairs < FEWEST_PAIRS:
        return None
    usual = counts.sum(0) + counts.sum(1) + 1
    counts = counts + len(counts) * usual / usual.sum()  # a class may never have followed
    return {
        "transitions": (counts / counts.sum(1, keepdims=True)).round(6).tolist(),
        "pairs": pairs,
        "frequency": FREQUENCY,
        "strength": STRENGTH,
        "fade_lines": FADE_LINES,
        "min_lines": MIN_LINES,
    }


def _shares(values):
    return values / values.sum(-1, keepdims=True)
