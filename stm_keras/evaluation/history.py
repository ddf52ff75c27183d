"""Read the history of runs, and find and compare their best epochs."""

import csv
from pathlib import Path

import numpy as np

from stm_keras.errors import InputError
from stm_keras.evaluation.metrics import finite
from stm_keras.untrusted import read_text

NOT_SCORES = ("epoch", "learning_rate", "seconds")
CRITERIA = ("val_auroc", "val_balanced_accuracy", "val_loss", "auroc", "loss")


def read_history(path):
    """Read `history.csv` of a run: that file, or the one in the folder of a run.

    A run killed while it writes leaves half a line: a last line without its end is
    left out, for its last number may be cut. A resumed run may write an epoch again:
    the later one counts.

    Returns:
        dict of column name to array of shape `(epochs,)`, by increasing epoch; `epoch`
        is int, the others are float with NaN for an empty cell. Columns that the run
        does not have are not there.
    """
    path = Path(path)
    path = path / "history.csv" if path.is_dir() else path
    text = read_text(path, "the folder of a run or its history.csv")
    lines = text.split("\n")[:-1]
    lines = [line for line in lines if line.strip("\0 ")]
    if len(lines) < 2:
        raise InputError(f"{path}: holds no epoch. Train for one epoch at least.")
    try:
        names, *rows = (list(map(str.strip, row)) for row in csv.reader(lines))
    except csv.Error as error:  # a cell without end
        raise InputError(f"{path}: is damaged ({error}).") from None
    if "epoch" not in names:
        raise InputError(f"{path}: has no column `epoch`. Columns: {', '.join(names)}.")
    latest = {}
    for number, row in enumerate(rows, start=2):
        values = _parse_row(path, number, names, row)
        latest[int(values["epoch"])] = values
    epochs = sorted(latest)
    columns = {n: np.array([latest[epoch][n] for epoch in epochs]) for n in names}
    return {**columns, "epoch": np.array(epochs)}


def scores_of(history):
    """Return the names of the columns that are scores, in the order of the file."""
    return [name for name in history if name not in NOT_SCORES]


def lower_is_better(name):
    """Return whether a score should fall: losses and calibration errors do."""
    return name.endswith(("loss", "ece", "error"))


def best_epochs(history):
    """Find the best and the latest epoch of every score.

    Returns:
        dict of score to dict of `best_epoch`, `best`, `latest_epoch`, `latest`. Of
        equal values the first is best. Scores without any value are left out.
    """
    return {
        name: {
            "best_epoch": int(history["epoch"][best]),
            "best": float(history[name][best]),
            "latest_epoch": int(history["epoch"][-1]),
            "latest": finite(history[name][-1]),
        }
        for name in scores_of(history)
        if (best := _best(history, name)) is not None
    }


def compare_runs(histories):
    """Put runs side by side, the best first.

    A run is judged by its best epoch: of `val_auroc` where it has one, else of
    `val_balanced_accuracy`, `val_loss`, `auroc`, `loss`. That is the epoch whose
    weights a run keeps.

    Returns:
        list of dict of `run`, `epochs`, `latest_epoch`, `judged_by`, `best_epoch`, the
        scores at the best epoch by their names (None where unknown), `seconds` in all
        and `seconds_per_epoch` (median). Every row has the same keys.
    """
    names = list(dict.fromkeys(n for h in histories.values() for n in scores_of(h)))
    rows = [_row(run, history, names) for run, history in histories.items()]
    return sorted(rows, key=_rank)


def _row(run, history, names):
    criterion = next((n for n in CRITERIA if _best(history, n) is not None), None)
    best = _best(history, criterion)
    seconds = history.get("seconds", np.full(1, np.nan))
    seconds = seconds[np.isfinite(seconds)]
    return {
        "run": run,
        "epochs": len(history["epoch"]),
        "latest_epoch": int(history["epoch"][-1]),
        "judged_by": criterion,
        "best_epoch": None if best is None else int(history["epoch"][best]),
        **{
            name: None
            if best is None or name not in history
            else finite(history[name][best])
            for name in names
        },
        "seconds": float(seconds.sum()) if len(seconds) else None,
        "seconds_per_epoch": float(np.median(seconds)) if len(seconds) else None,
    }


def _rank(row):
    name = row["judged_by"]
    if name is None:
        return len(CRITERIA), 0.0
    value = row[name]
    return CRITERIA.index(name), value if lower_is_better(name) else -value


def _best(history, name):
    values = history.get(name)
    if values is None or not np.isfinite(values).any():
        return None
    values = np.where(np.isfinite(values), values, np.nan)
    return int(np.nanargmin(values) if lower_is_better(name) else np.nanargmax(values))


def _parse_row(path, number, names, row):
    if len(row) != len(names):
        raise InputError(
            f"{path}: line {number} has {len(row)} cells, the header {len(names)}. "
            "Correct or delete that line."
        )
    values = {}
    for name, cell in zip(names, row, strict=True):
        try:
            values[name] = float(cell) if cell else np.nan
            if np.isinf(values[name]):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path}: line {number}, `{name}` is not a number. Received: {cell[:80]!r}."
            ) from None
    if not values["epoch"].is_integer() or not 0 <= values["epoch"] < 1e9:
        raise InputError(
            f"{path}: line {number}, `epoch` is not a whole number. "
            f"Received: {row[names.index('epoch')]!r}."
        )
    return values
