"""When a run is finished, what it then says, and how it is prolonged; Keras is not needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from stm_keras.config import Config, differences, load_config
from stm_keras.errors import UsageError
from stm_keras.runs import PROLONGS, Run
from stm_keras.settings import TrainConfig

if TYPE_CHECKING:
    from stm_keras.data.dataset import Dataset  # numpy takes a tenth of a second

OTHER_DATA = "{}: the data is not what this run began with. Choose another --output."


def best_epoch(rows: list[dict]) -> dict | None:
    """Return the row of the epoch with the highest validation AUROC, the first of equals."""
    return max(rows, key=lambda row: (row["val_auroc"], -row["epoch"]), default=None)


def should_stop(rows: list[dict], patience: int) -> bool:
    """Tell whether the best epoch lies `patience` epochs back."""
    best = best_epoch(rows)
    return best is not None and rows[-1]["epoch"] - best["epoch"] >= patience


def is_finished(state: dict, settings: TrainConfig) -> bool:
    """Tell whether a training is complete under a `TrainConfig`; `state` as of `Run.state`."""
    rows, patience = state["rows"], settings.early_stopping
    if state.get("stopped"):  # by a callback of the user
        return True
    stopped = patience is not None and should_stop(rows, patience)
    return stopped or len(rows) >= settings.epochs


def finished_scores(
    run: Run, config: Config, dataset: "Dataset | None" = None
) -> dict | None:
    """Return the scores of a finished run, without loading Keras; None of any other.

    `dataset` are the scans where they were given in Python; else the config names them.

    Raises:
        UsageError: The data has changed since.
    """
    trees = config.model.name == "trees"
    model = "best.skops" if trees else "best.keras"
    if not all(run.file(name).exists() for name in ("report.html", "split.json", model)):
        return None
    if not trees and not is_finished(run.state(), config.train):
        return None
    scores = run.scores()  # which is written last
    if scores is not None and (dataset is not None or config.data.path is not None):
        _check_data(run, config.data.path, dataset)
    return scores


def data_stamp(path: str | Path) -> list[int] | None:
    """Return size and time of the last change of a file of data; None of a folder.

    While they are the same nobody need read all scans to see that they are.
    """
    path = Path(path)
    if not path.is_file():
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _check_data(run, path, dataset):
    saved = run.read_json("split.json")
    if dataset is None:
        if saved.get("stamp") is not None and saved["stamp"] == data_stamp(path):
            return
        from stm_keras.data.load import load_dataset  # which takes its time

        dataset = load_dataset(path)
    if saved["dataset"] != dataset.digest():
        raise UsageError(OTHER_DATA.format(run.path))


def prolonged_config(
    run: Run, more: int, config: str | Path | None = None, settings: tuple | list = ()
) -> Config:
    """Return the config of a finished run with more epochs than are done.

    Of a run that is not finished it is the config as it was: the same command goes on after
    an interrupt, and adds nothing twice.

    Args:
        run: A run of a network.
        more: Epochs to add.
        config: What `load_config` reads; None for the config of the run.
        settings: Likewise; nothing but `train.early_stopping` may differ from the run.

    Raises:
        UsageError: The run has no epochs, is of another config, or would stop at once.
    """
    own, rows = Run.open(run.path).config(), run.epochs()
    if own.model.name == "trees" or not rows:
        raise UsageError(
            f"`--more-epochs`: {run.path} has no epochs that could be continued. Give the run "
            "of a network that `stm-keras train` made."
        )
    wanted = load_config(config or run.file("config.toml"), settings)
    changed = set(differences(wanted, own)) - PROLONGS
    if changed:
        raise UsageError(
            f"`--more-epochs`: {run.path} was trained with another config, different in "
            f"{', '.join(sorted(changed))}. Leave CONFIG and settings out."
        )
    finished = finished_scores(run, own) is not None
    epochs = len(rows) + more if finished else own.train.epochs
    train = wanted.train.model_copy(update={"epochs": epochs})
    if finished and is_finished({"rows": rows}, train):
        raise UsageError(
            f"`--more-epochs`: {run.path} stopped early, {train.early_stopping} epochs after "
            "its best, and would stop again at once. Add --set train.early_stopping=none, or "
            "a larger number."
        )
    return wanted.model_copy(update={"train": train})
