"""What the JSON files of runs and comparisons must hold; of benchmarks: benchmark_records.py.

stm-keras writes them and reads them back, from whatever machine or person they come. What is
checked here once need not be checked again; keys that are not named here stay.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    model_validator,
)

from stm_keras.errors import InputError, StmKerasError
from stm_keras.settings import Protocol

Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = float | None
Bounds = Annotated[list[float], Field(min_length=2, max_length=2)] | None
Text = Annotated[str, Field(max_length=10_000)]
COLUMNS = (  # of every history; a user's metrics come after them
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
HUMAN = "human raters"  # a row of the results of a benchmark that is not of a config


class Record(BaseModel):
    """A table of JSON whose values are of exactly these kinds."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def check_record(
    kind: type[BaseModel],
    value: object,
    path: str | Path,
    error: type[StmKerasError] = InputError,
) -> Any:
    """Return the record that a value read from JSON is, or raise `error`, which names `path`."""
    try:
        return kind.model_validate(value)
    except ValidationError as reason:
        first = reason.errors(include_input=False, include_url=False)[0]
        key = ".".join(map(str, first["loc"]))[:80]
        key = f"`{key}`: " if key else ""
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise error(
            f"{path}: is damaged ({key}{message}). Copy or make it again."
        ) from None


class Split(Record):  # scans of the training, validation and test part: split.json
    dataset: Text = ""
    protocol: Protocol
    seed: Count
    fold: Count | None
    parts: dict[Literal["train", "validation", "test"], list[Count] | str]
    groups: list[str] | list[int] | None
    note: Text


class RunSplit(Split):  # the same of a run, which says of what data it is
    dataset: Text
    stamp: list[int] | None = None  # size and time of the file of the data


class State(Record):  # what a training resumes from: checkpoints/state.json
    weights: Annotated[str, Field(pattern=r"^epoch-\d+\.weights\.h5$")] | None
    rows: list[dict[Text, Share]]
    stopped: bool = False  # by a callback of the user, before the last epoch

    @model_validator(mode="after")
    def _one_an_epoch(self):
        ours = {*self.rows[0]}.intersection(COLUMNS) if self.rows else set()
        for number, row in enumerate(self.rows, 1):
            if not ours <= row.keys() or None in row.values():
                raise ValueError(f"epoch {number} lacks a score")
            if row.get("epoch") != number or row.get("seconds", -1) < 0:
                raise ValueError(f"no epoch {number}")
        return self


class Leg(Record):  # where and with what versions a part of a run was trained
    git: Text | None
    backend: Text
    devices: list[Text]
    precision: Text
    started: Text | None = None
    host: Text | None = None
    stm_keras: Text | None = None
    packages: dict[Text, Text] = {}
    variables: dict[Text, Text] = {}
    epochs_before: Count = 0


class Environment(Leg):  # the same of a whole run: environment.json
    seed: Count
    own_code: dict[Text, Text] = {}  # files of a user's functions, with their SHA-256
    legs: list[Leg] = []


class AdaptNotes(Record):  # what a later `adapt` is compared with: adapt.json
    start: Text
    classes: list[Text]
    hashes: list[Text]
    sessions: list[Text] = []


class OfClass(Record):  # scores of one class
    auroc: Share
    recall: Share
    precision: Share
    count: Count


class OfClassIntervals(Record):
    auroc: Bounds
    recall: Bounds


class Intervals(Record):  # of headline scores
    auroc: Bounds
    balanced_accuracy: Bounds
    accuracy: Bounds
    ece: Bounds = None
    per_class: dict[Text, OfClassIntervals] = {}


class Measured(Record):  # headline scores
    auroc: Share
    balanced_accuracy: float
    accuracy: float
    n: Count
    intervals: Intervals


class AtLines(Measured):  # headline scores after so many lines
    lines: Count
    ece: Share = None


class Resampled(Record):  # what the bootstrap of the intervals resampled
    unit: Text
    units: Count


class Subset(Measured):  # scores with those of each class
    ece: Share
    per_class: dict[Text, OfClass]
    confusion: list[list[Count]]
    resampled: Resampled | None = None

    @model_validator(mode="after")
    def _same_classes(self):
        if not self.per_class or self.per_class.keys() != self.intervals.per_class.keys():
            raise ValueError("scores and intervals must be of the same classes")
        return self


class Point(Record):  # coverage and accuracy at a threshold of confidence
    wanted: float
    coverage: Share
    accuracy: Share


class Rejection(Record):
    points: list[Point]


class OfKind(Record):  # how well one kind of other surfaces is called unknown
    auroc: Share
    found: Share
    n: Count
    interval: Bounds = None


class UnknownShort(Record):  # how well other surfaces are called unknown
    auroc: Share = None
    found: Share = None
    false_alarms: Share = None


class Unknown(UnknownShort):
    n_known: Count
    n_other: Count
    interval: Bounds = None
    kinds: dict[Text, OfKind]


class OfPart(Record):  # the same of a kind or source; each source has the same weight
    auroc: Share
    found: Share
    scans: Count


class SourceIntervals(Record):
    auroc: Bounds
    found: Bounds


class OfLines(Record):  # how well other surfaces are called unknown after so many lines
    auroc: Share
    found: float
    false_alarms: Share
    scans: Count
    sources: Count
    intervals: SourceIntervals
    by_kind: dict[Text, OfPart] = {}
    by_source: dict[Text, OfPart] = {}


class Sources(Record):  # scores on one file of other surfaces
    lines: Annotated[
        dict[Annotated[str, Field(pattern=r"^\d{1,6}$")], OfLines], Field(min_length=1)
    ]
    taught: Count


class Votes(Record):  # tip changes against votes
    auroc: Share = None


class Changes(Record):  # how well tip changes are detected
    found: Share = None
    false_alarms: Share = None
    votes: Votes | None = None


class Summary(Record):
    """What a benchmark, a sweep and a comparison read of evaluation.json."""

    n: Count | None = None
    protocol: Protocol | None = None
    auroc: Share = None
    balanced_accuracy: Share = None
    parameters: Count | None = None
    rejection: Rejection | None = None
    unknown: UnknownShort | None = None
    changes: Changes | None = None
    trust: dict[Text, float] = {}


class Scores(Subset):
    """All scores of a model that can be shown: evaluation.json."""

    by_lines: list[AtLines]
    protocol: Protocol
    split: Text
    data: Text = ""
    full_agreement: Subset | None = None
    consensus: Subset | None = None
    unknown: Unknown | None = None
    sources: dict[Text, Sources] = {}


class Array(Record):  # a job array of a sweep
    job: Text
    first: Count
    names: list[Text]
    at_once: Count = 1


Queued = RootModel[list[Array]]  # the arrays of a sweep: jobs.json
