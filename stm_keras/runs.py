"""A training run is a directory: its config, its history, its results.

config.toml        the resolved config          history.csv       a row per epoch
command.txt        what was typed               checkpoints/      to resume from
environment.json   versions, devices, data       best.keras        best epoch by AUROC
split.json         which scans in which part    evaluation.json   scores on the test part
card.md            model card                   report.html       the same, to look at

With `train.refit` best.keras is of the last training, whose own files are in refit/. The files
of those that calibrate it (`train.calibration_folds`) are in calibration-2/ and on.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from stm_keras.config import Config, differences, dump_config, load_config
from stm_keras.errors import InputError, OutputError, UsageError
from stm_keras.files import atomic, check_folder
from stm_keras.locks import LOCK, claimed, is_foreign, locked
from stm_keras.records import (
    COLUMNS,
    AdaptNotes,
    Environment,
    RunSplit,
    Scores,
    State,
    Summary,
    check_record,
)
from stm_keras.terminal import shell
from stm_keras.untrusted import read_json, read_text

NOTES = "adapt.json"  # of `stm-keras adapt`; a later one is compared with it
RECORDS = {  # what each file must hold
    "split.json": RunSplit,
    "checkpoints/state.json": State,
    "environment.json": Environment,
    "evaluation.json": Summary,
    NOTES: AdaptNotes,
}
NEW = (  # files of a run without an epoch; the last marks a folder as a run
    *("environment.json", "split.json", "best.keras", "best.skops"),
    *("command.txt", "config.toml"),
)
FILES = (  # of a run: nothing else is written to these
    *NEW,
    *("history.csv", "evaluation.json", "card.md", "report.html"),
    *("predictions.npz", "validation.npz", "checkpoints/state.json"),
)
LARGEST = 1 << 28  # bytes of a JSON file: a split names the session of every scan
OF_FINISHED = (
    "config.toml",
    "command.txt",
    "evaluation.json",
    "checkpoints/state.json",
)  # that prolonging changes first
_REFUSAL = "{}: another process trains here. Wait for it, or choose another --output."
_STRANGER = "{}: is not empty and is not a run. Choose another --output."
PROLONGS = {"train.epochs", "train.early_stopping"}  # settings that a run may have anew
OF_ALL = ("dataset", "seed")  # of environment.json: what is the same in every leg
AGAIN = "refit"  # folder of the last training
CALIBRATION = "calibration-{}"  # folder of one that calibrates it


@dataclass(frozen=True)
class JsonFolder:
    """A folder of JSON and text files: of a run, a sweep, jobs or a comparison.

    Args:
        path: `Path` of the folder, or str.
    """

    path: Path
    kind: ClassVar[str] = "a folder of stm-keras"  # for messages
    records: ClassVar[dict] = {}  # name of a file to the record that it must hold
    names: ClassVar[tuple] = ()  # of what makes it up, whether it is there or not

    def __post_init__(self):
        object.__setattr__(self, "path", Path(self.path))

    def file(self, *names: str | Path) -> Path:
        """Return the `Path` of a file of the folder."""
        return self.path.joinpath(*names)

    def files(self) -> list[Path]:
        """Return the paths of what makes up the folder, whether it is there or not."""
        return [self.file(name) for name in self.names]

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        with atomic(self.file(name), overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file whole or not at all."""
        self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str, keys: Iterable[str] = ()) -> Any:
        """Read a JSON file that must hold some keys, or return None where there is none.

        Raises:
            InputError: The file is damaged.
        """
        path = self.file(name)
        if not os.path.lexists(path):
            return None
        value = read_json(path, self.kind, limit=LARGEST)
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise InputError(f"{path}: is damaged (no {missing[0]}).")
        record = self.records.get(name)
        if record is not None:
            check_record(record, value, path)
        return value


@dataclass(frozen=True)
class Run(JsonFolder):
    """The directory of one training run."""

    kind: ClassVar[str] = "a file of a run"
    records: ClassVar[dict] = RECORDS
    names: ClassVar[tuple] = FILES

    @classmethod
    def start(cls, path: str | Path, config: Config, prolong: bool = False) -> "Run":
        """Make the directory of a run, or open it to resume, or to `prolong` it.

        Raises:
            UsageError: The directory holds a run of another config.
            OutputError: It holds something else, or cannot be written.
        """
        path = Path(path)
        run = cls(path)
        if run.file("config.toml").exists():
            changed = differences(config, run.config())
            if changed and not (prolong and PROLONGS.issuperset(changed)):
                hint = f" Or prolong it: stm-keras train -o {path} --more-epochs N."
                raise UsageError(
                    f"{path}: holds a run with another config, different in "
                    f"{', '.join(changed)}. Choose another --output, or the same config "
                    f"to resume.{hint if changed == ['train.epochs'] else ''}"
                )
            check_folder(path)
            if prolong and run.file("evaluation.json").exists():
                state = run.state()
                if state.pop("stopped", False):  # goes on, though a callback stopped it
                    run.write_json("checkpoints/state.json", state)
                    run.file("evaluation.json").unlink()
            if changed:
                run.file("evaluation.json").unlink(missing_ok=True)  # finished no more
                former = read_text(run.file("command.txt"), cls.kind).rstrip("\n")
                run.write_text("command.txt", f"{former}\n{_typed()}\n")
                run.write_text("config.toml", dump_config(config))
            return run
        if is_foreign(path, "config.toml"):
            raise OutputError(_STRANGER.format(path))
        check_folder(path)
        run.write_text("command.txt", _typed() + "\n")
        run.write_text("config.toml", dump_config(config))
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open the directory of an existing run.

        Raises:
            InputError: It is not a run.
        """
        path = Path(path)
        if not (path / "config.toml").exists():
            raise InputError(f"{path}: is not a run (no config.toml).")
        return cls(path)

    def config(self) -> Config:
        """Read the config of the run."""
        return load_config(self.file("config.toml"))

    def scores(self) -> dict | None:
        """Read evaluation.json, checked for all that can be shown; None where there is none."""
        scores = self.read_json("evaluation.json")
        if scores is not None:
            check_record(Scores, scores, self.file("evaluation.json"))
        return scores

    def epochs(self) -> list[dict]:
        """Return the scores of each epoch that is done."""
        return self.state()["rows"]

    def state(self) -> dict:
        """Return what a training resumes from: `rows`, a dict an epoch, and more once it began."""
        return self.read_json("checkpoints/state.json") or {"rows": []}

    def write_history(self, rows: Iterable[dict]) -> None:
        """Write history.csv, one row an epoch; a user's metrics come after our columns."""
        rows = list(rows)
        own = {key for row in rows for key in row if not key.endswith("_loss")} - {*COLUMNS}
        columns = *COLUMNS, *sorted(own)
        cells = ({key: _cell(row[key]) for key in columns if key in row} for row in rows)
        self.write_text("history.csv", csv_text(cells, columns))

    def below(self, name: str) -> "Run":
        """Return the run in a folder of this one, whether it exists or not."""
        return type(self)(self.path / name)

    def trainings(self) -> list["Run"]:
        """Return the runs of all its trainings, itself first."""
        settings = self.config().train
        if not settings.refit:
            return [self]
        more = [CALIBRATION.format(k) for k in range(2, settings.calibration_folds + 1)]
        return [self, *map(self.below, [*more, AGAIN])]

    @contextmanager
    def claimed(self, config: Config, prolong: bool = False) -> Iterator[None]:
        """Make the directory of a run, or open it, as `start` does; keep a second process out.

        Without a single epoch nothing is kept, neither of a run that was killed nor of this
        one: a corrected command often has another config, which the directory would refuse. A
        run that was to be prolonged, and got no epoch, is finished as before.

        Raises:
            UsageError: The directory holds a run of another config.
            OutputError: It holds something else, another process trains here, or it cannot
                be written.
        """
        refusal, stranger = _REFUSAL.format(self.path), _STRANGER.format(self.path)
        with claimed(self.path, "config.toml", refusal, stranger):
            finished = self._finished() if prolong else {}
            try:
                self.forget()
                type(self).start(self.path, config, prolong)
                yield
            except BaseException:
                if finished and len(self.epochs()) == finished["epochs"]:
                    for name in OF_FINISHED:
                        self.write_text(name, finished[name])
                self.forget()
                if not self.has_epochs():
                    with contextlib.suppress(OSError):  # Windows keeps what is open
                        self.file(LOCK).unlink()
                        self.path.rmdir()  # unless it holds something else
                raise

    def _finished(self):
        """Return what a prolonging changes first, of a finished run: texts, and its epochs."""
        if not all(self.file(name).is_file() for name in OF_FINISHED):
            return {}
        texts = {name: read_text(self.file(name), self.kind) for name in OF_FINISHED}
        return {**texts, "epochs": len(self.epochs())}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process out of the directory while this one trains.

        Raises:
            OutputError: Another process trains here.
        """
        with locked(self.file(LOCK), _REFUSAL.format(self.path)):
            yield

    def has_epochs(self) -> bool:
        """Return whether there is an epoch to resume from."""
        return self.file("checkpoints/state.json").exists()

    def forget(self) -> None:
        """Remove the files of a run without a single epoch; the caller has the lock."""
        ours = self.file("command.txt").exists() and self.file("config.toml").exists()
        if not ours or self.has_epochs():
            return
        shutil.rmtree(self.file("checkpoints"), ignore_errors=True)
        for name in map(Path, NEW):
            self.file(name).unlink(missing_ok=True)
            for temporary in self.path.glob(f".{name.stem}-*{name.suffix}"):
                temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class FollowedRun(Run):
    """A run that another process writes, for those that train with it."""

    def write_text(self, name: str, text: str) -> None:
        """Write nothing: the first process does."""


def read_notes(path: str | Path) -> dict:
    """Read what an earlier `stm-keras adapt` left in a folder.

    Raises:
        InputError: It left nothing there, or the file is damaged.
    """
    notes = Run(Path(path)).read_json(NOTES)
    if notes is None:
        raise InputError(f"{path}: is not a folder of `stm-keras adapt` (no {NOTES}).")
    return notes


def csv_text(rows: Iterable[dict], columns: Sequence[str]) -> str:
    """Write rows, each a dict of column to value, as CSV text with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def legs(environment: dict) -> list[dict]:
    """Return the parts of a run, each as environment.json, in order.

    A run may go on on another machine, with another backend or other versions. Those of
    version 0.1.0 hold only the last.
    """
    return environment.get("legs") or [environment]


def with_legs(environment: dict, former: dict | None, epochs: int) -> dict:
    """Return `environment` with its `legs`, those of the `former` environment.json first.

    Each leg has `epochs_before`; of `epochs` that are done, the epochs of a former leg beyond
    them are lost.
    """
    now = {key: environment[key] for key in environment if key not in OF_ALL}
    kept = [
        {
            **{key: leg[key] for key in leg if key not in (*OF_ALL, "legs")},
            "epochs_before": n,
        }
        for leg in (legs(former) if former else ())
        if (n := leg.get("epochs_before", 0)) < epochs
    ]
    if not (kept and _same_machine(kept[-1], now)):
        kept.append({**now, "epochs_before": epochs})
    return {**environment, "legs": kept}


def _same_machine(one, other):
    when = ("started", "epochs_before")
    return all(one.get(k) == other.get(k) for k in {*one, *other} if k not in when)


def default_path(config, root="runs", today=None):
    """Return the default directory of a run: `runs/<date>-<name>`."""
    return Path(root) / f"{today or date.today().isoformat()}-{config.name}"


def _typed():
    return shell(["stm-keras", *sys.argv[1:]])


def _cell(value):
    return value if isinstance(value, int) else f"{value:.6g}"
