"""A training run is a directory: what was asked, what happened, what came out.

config.toml        the resolved config          history.csv       a row per epoch
command.txt        what was typed               checkpoints/      to resume from
environment.json   versions, device, git, data  best.keras        best epoch by AUROC
split.json         which scans in which part    evaluation.json   scores on the test part
card.md            model card                   report.html       the same, to look at

With `train.refit` best.keras is of the last training, whose own files are in refit/. Those of
others that say how sure it may be (`train.calibration_folds`) are in calibration-2/ and on.
"""

import csv
import io
import json
import os
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from stm_keras.config import differences, dump_config, load_config
from stm_keras.errors import InputError, OutputError, UsageError
from stm_keras.files import atomic, check_folder, locked
from stm_keras.records import Environment, Reached, Scores, Split, State, check_record
from stm_keras.untrusted import read_json

SPLIT = ("dataset", "protocol", "seed", "fold", "parts", "groups", "note")  # of split.json
STATE = ("weights", "rows")  # of checkpoints/state.json
RECORDS = {  # what a file must hold
    "split.json": Split,
    "checkpoints/state.json": State,
    "environment.json": Environment,
    "evaluation.json": Reached,
}
FILES = (  # of a run: never the place of another result
    *("config.toml", "command.txt", "environment.json", "split.json", "history.csv"),
    *("best.keras", "best.skops", "evaluation.json", "card.md", "report.html"),
    *("predictions.npz", "validation.npz", "checkpoints/state.json"),
)
LARGEST = 1 << 28  # bytes of a JSON file: a split names the session of every scan
AGAIN = "refit"  # folder of the last training
CALIBRATION = "calibration-{}"  # folder of one that says how sure the last may be
COLUMNS = (
    "epoch",
    "loss",
    "auroc",
    "balanced_accuracy",
    "val_loss",
    "val_auroc",
    "val_balanced_accuracy",
    "learning_rate",
    "seconds",
)


@dataclass(frozen=True)
class Run:
    """The directory of one training run.

    Args:
        path: `Path` of the directory.
    """

    path: Path

    @classmethod
    def start(cls, path, config):
        """Make the directory of a run, or open it to resume.

        Raises:
            UsageError: The directory holds a run of another config.
            OutputError: It holds something else, or cannot be written.
        """
        path = Path(path)
        run = cls(path)
        if run.file("config.toml").exists():
            changed = differences(config, run.config())
            if changed:
                raise UsageError(
                    f"{path}: holds a run with another config, different in "
                    f"{', '.join(changed)}. Choose another --output, or the same config "
                    "to resume."
                )
            check_folder(path)
            return run
        if path.is_dir() and any(path.iterdir()):
            raise OutputError(f"{path}: is not empty and no run. Choose another --output.")
        check_folder(path)
        run.write_text("command.txt", shlex.join(["stm-keras", *sys.argv[1:]]) + "\n")
        run.write_text("config.toml", dump_config(config))
        return run

    @classmethod
    def open(cls, path):
        """Open the directory of an existing run.

        Raises:
            InputError: There is no run.
        """
        path = Path(path)
        if not (path / "config.toml").exists():
            raise InputError(f"{path}: is no run (no config.toml).")
        return cls(path)

    def file(self, name):
        """Return the `Path` of a file of the run."""
        return self.path / name

    def files(self):
        """Return the paths of what makes up the run, there or not: list of `Path`."""
        return [self.file(name) for name in FILES]

    def config(self):
        """Read the config of the run."""
        return load_config(self.file("config.toml"))

    def write_text(self, name, text):
        """Write a file of the run whole or not at all."""
        with atomic(self.file(name), overwrite=True) as temporary:
            temporary.write_text(text)

    def write_json(self, name, value):
        """Write a JSON file of the run whole or not at all."""
        self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name, keys=()):
        """Read a JSON file of the run, or return None where there is none.

        Args:
            name: str. Name of the file.
            keys: sequence of str that the file must hold.

        Raises:
            InputError: The file is damaged.
        """
        path = self.file(name)
        if not os.path.lexists(path):
            return None
        value = read_json(path, "a file of a run", limit=LARGEST)
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise InputError(f"{path}: is damaged (no {missing[0]}).")
        if name in RECORDS:
            check_record(RECORDS[name], value, path)
        return value

    def scores(self):
        """Read evaluation.json with all that can be shown of it, None where there is none."""
        scores = self.read_json("evaluation.json")
        if scores is not None:
            check_record(Scores, scores, self.file("evaluation.json"))
        return scores

    def epochs(self):
        """Return what is known of each epoch that is done: list of dict."""
        state = self.read_json("checkpoints/state.json", ("rows",))
        return state["rows"] if state else []

    def write_history(self, rows):
        """Write history.csv from a list of dicts, one an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(row[key]) for key in COLUMNS if key in row})
        self.write_text("history.csv", text.getvalue())

    def below(self, name):
        """Return the run in a folder of this one, there or not."""
        return type(self)(self.path / name)

    def trainings(self):
        """Return the runs of all its trainings, itself first: list of `Run`."""
        settings = self.config().train
        if not settings.refit:
            return [self]
        more = [CALIBRATION.format(k) for k in range(2, settings.calibration_folds + 1)]
        return [self, *map(self.below, [*more, AGAIN])]

    @contextmanager
    def locked(self):
        """Keep a second process out of the directory while this one trains.

        Raises:
            OutputError: Another process trains here.
        """
        refusal = (
            f"{self.path}: another process trains here. Wait for it, or choose another "
            "--output."
        )
        with locked(self.file(".lock"), refusal):
            yield


@dataclass(frozen=True)
class FollowedRun(Run):
    """A run that another process writes, as seen by those who train with it."""

    def write_text(self, name, text):
        """Write nothing: the first process does."""

    @contextmanager
    def locked(self):
        """Lock nothing: the first process does."""
        yield


def default_path(config, root="runs", today=None):
    """Return the directory of a run that was given none: `runs/<date>-<name>`."""
    return Path(root) / f"{today or date.today().isoformat()}-{config.name}"


def _cell(value):
    return value if isinstance(value, int) else f"{value:.6g}"
