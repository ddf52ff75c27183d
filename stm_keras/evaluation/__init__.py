"""Scores of predictions, with intervals, and their figures.

The same names mean the same in all modules, and are not explained again:

- `labels`, `predicted`: int arrays `(scans,)`, numbers of classes;
- `probabilities`: float array `(scans, classes)`, after the whole scan;
- `state`: float array `(scans, lines, classes)`, probabilities after each line;
- `scores` of tip changes: float array `(scans, lines)`; `change_line`: int array `(scans,)`, the
  first line with the new tip, -1 without a change; `lines`: int array `(scans,)`, how many were
  recorded, None for all;
- `groups`: array `(scans,)`, the session of each scan, which is then resampled as a whole; None
  resamples scans;
- `resamples`: int, 0 leaves intervals out; `seed`: int, the same seed draws the same resamples.
"""
