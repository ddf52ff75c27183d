"""Tip changes: decide a few lines later, while scanning, in which line the tip changed.

A model gives each line a probability that the tip changed there. A line is called a
change where that probability is high, the highest around, and not the echo of a change
just called. To be the highest around, a line must wait for the next `delay` lines, and
never for more: what is decided here can be decided at the microscope.
"""

import numpy as np

from stm_keras.errors import MismatchError

DELAY = 3  # lines that a verdict waits for
REFRACTORY = 10  # lines after a change in which no other is called


class ChangeTracker:
    """Call tip changes of one scan, one line after the other.

    Args:
        threshold: float. Least probability of a change.
        delay: int. Lines to wait for: a change in line j is called after line j + delay.
        refractory: int. Lines after a change in which no other is called.
    """

    def __init__(self, threshold, delay=DELAY, refractory=REFRACTORY):
        self.threshold, self.delay, self.refractory = threshold, delay, refractory
        self._recent = []  # probabilities of the last 2 delay + 1 lines
        self._seen = 0
        self._last = None

    def push(self, score):
        """Take the probability of the next line.

        Returns:
            int, the line of a change that is certain now; or None.
        """
        self._recent.append(score)
        del self._recent[: -2 * self.delay - 1]
        self._seen += 1
        return self._judge(self._seen - 1 - self.delay)

    def finish(self):
        """Call the lines that were still waiting when the scan ended: list of int, ascending."""
        waiting = range(max(self._seen - self.delay, 0), self._seen)
        return [line for line in waiting if self._judge(line) is not None]

    def _judge(self, line):
        if line < 1:  # before the first line there is no other tip
            return None
        first = self._seen - len(self._recent)
        index = line - first
        score = self._recent[index]
        before = self._recent[max(index - self.delay, 0) : index]
        after = self._recent[index + 1 : index + 1 + self.delay]
        highest = score > max(before, default=-np.inf) and score >= max(
            after, default=score
        )
        ready = self._last is None or line - self._last > self.refractory
        if not (score >= self.threshold and highest and ready):
            return None
        self._last = line
        return line


def find_changes(scores, threshold, *, lines=None, delay=DELAY, refractory=REFRACTORY):
    """Call the tip changes of whole scans, as `ChangeTracker` does line by line.

    Args:
        scores: float array of shape `(scans, lines)`. Probability of a change in each
            line. Of a model that answers d lines late, shift them by d first and ask for
            a `delay` that is shorter by d.
        threshold: float. Least probability of a change.
        delay: int. Line j is judged by the lines up to j + delay.
        refractory: int. Lines after a change in which no other is called.

    Returns:
        bool array of shape `(scans, lines)`: lines with a new tip. Never line 0.

    Raises:
        MismatchError: A score is not a number.
    """
    scores = _recorded_scores(scores, lines)
    changes = np.zeros(scores.shape, bool)
    last = np.full(len(scores), -refractory - 1)
    for line in np.flatnonzero((scores[:, 1:] >= threshold).any(0)) + 1:
        score = scores[:, line]
        before = scores[:, max(line - delay, 0) : line]
        around = scores[:, line : line + delay + 1]
        called = np.isfinite(score) & (score >= threshold) & (score >= around.max(1))
        if delay:
            called &= score > before.max(1)
        called &= line - last > refractory
        changes[called, line] = True
        last[called] = line
    return changes


def largest_change(scores, lines=None):
    """Score a whole scan by its likeliest change after line 0: float array `(scans,)`."""
    scores = _recorded_scores(scores, lines)
    largest = scores[:, 1:].max(1)
    return np.where(np.isfinite(largest), largest, np.nan_to_num(scores[:, 0], neginf=0))


def _recorded_scores(scores, lines):
    """Return scores as floats, with -inf in lines that were not recorded."""
    scores = scores.astype(float)
    if lines is not None:
        scores[np.arange(scores.shape[1]) >= lines[:, None]] = -np.inf
    if np.isnan(scores).any():
        raise MismatchError(
            f"`scores` are not a number in {int(np.isnan(scores).any(1).sum())} of "
            f"{len(scores)} scans. Check the scans for NaN."
        )
    return scores
