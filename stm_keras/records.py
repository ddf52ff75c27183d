"""What the JSON files of runs, benchmarks and comparisons must hold to be worked with.

stm-keras writes them and reads them back, from whatever machine or person they come. What
is looked at here once need not be asked for again; keys that are not named here stay.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    model_validator,
)

from stm_keras.errors import InputError, StmKerasError

Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = float | None
Bounds = Annotated[list[float], Field(min_length=2, max_length=2)] | None
Place = Annotated[str, Field(max_length=10_000)]
Protocol = Literal["p1", "p2", "p3"]


class Record(BaseModel):
    """A table of JSON whose values are of exactly these kinds."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def check_record(
    kind: type[BaseModel],
    value: object,
    path: str | Path,
    error: type[StmKerasError] = InputError,
) -> None:
    """See that what was read from a file can be worked with.

    Args:
        kind: class of the record.
        value: what JSON gave; it is not changed.
        path: str or `Path`. Named in the error.
        error: class of the error that is raised.

    Raises:
        error: Something is missing, of another kind, or impossible.
    """
    try:
        kind.model_validate(value)
    except ValidationError as reason:
        first = reason.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        told = f"`{place}`: " if place else ""
        said = first["msg"].removeprefix("Value error, ")
        said = said[:1].lower() + said[1:]
        raise error(f"{path}: is damaged ({told}{said}). Copy or make it again.") from None


class Split(Record):
    """Which scans train, validate and test: split.json."""

    dataset: Place = ""
    protocol: Protocol
    seed: Count
    fold: Count | None
    parts: dict[Literal["train", "validation", "test"], list[Count] | str]
    groups: list[str] | list[int] | None
    note: Place


class State(Record):
    """What training goes on from: checkpoints/state.json."""

    weights: Annotated[str, Field(pattern=r"^epoch-\d+\.weights\.h5$")] | None
    rows: list[dict[Place, Share]]

    @model_validator(mode="after")
    def _one_an_epoch(self):
        for number, row in enumerate(self.rows, 1):
            if row.keys() != self.rows[0].keys() or None in row.values():
                raise ValueError(f"epoch {number} lacks a score")
            if row.get("epoch") != number or row.get("seconds", -1) < 0:
                raise ValueError(f"no epoch {number}")
        return self


class Leg(Record):
    """On what a part of a run was made."""

    git: Place | None
    backend: Place
    devices: list[Place]
    precision: Place
    started: Place | None = None
    host: Place | None = None
    stm_keras: Place | None = None
    packages: dict[Place, Place] = {}
    variables: dict[Place, Place] = {}
    epochs_before: Count = 0


class Environment(Leg):
    """On what a run was made: environment.json."""

    seed: Count
    legs: list[Leg] = []


class OfClass(Record):
    """Scores of one class."""

    auroc: Share
    recall: Share
    precision: Share
    count: Count


class OfClassIntervals(Record):
    """Their intervals."""

    auroc: Bounds
    recall: Bounds


class Intervals(Record):
    """Intervals of headline scores."""

    auroc: Bounds
    balanced_accuracy: Bounds
    accuracy: Bounds
    ece: Bounds = None
    per_class: dict[Place, OfClassIntervals] = {}


class Measured(Record):
    """Headline scores."""

    auroc: Share
    balanced_accuracy: float
    accuracy: float
    n: Count
    intervals: Intervals


class AtLines(Measured):
    """Headline scores after so many lines."""

    lines: Count
    ece: Share = None


class Drawn(Record):
    """What intervals are of."""

    unit: Place
    units: Count


class Subset(Measured):
    """Scores with those of each class."""

    ece: Share
    per_class: dict[Place, OfClass]
    confusion: list[list[Count]]
    resampled: Drawn | None = None

    @model_validator(mode="after")
    def _same_classes(self):
        if not self.per_class or self.per_class.keys() != self.intervals.per_class.keys():
            raise ValueError("scores and intervals must be of the same classes")
        return self


class Point(Record):
    """What comes of a threshold of confidence."""

    wanted: float
    coverage: Share
    accuracy: Share


class Rejection(Record):
    """What comes of saying unsure."""

    points: list[Point]


class OfKind(Record):
    """How one kind of other surfaces is found."""

    auroc: Share
    found: Share
    n: Count
    interval: Bounds = None


class Found(Record):
    """How other surfaces are found, in short."""

    auroc: Share = None
    found: Share = None
    false_alarms: Share = None


class Unknown(Found):
    """How other surfaces are found."""

    n_known: Count
    n_other: Count
    interval: Bounds = None
    kinds: dict[Place, OfKind]


class OfPart(Record):
    """How a kind or a source of other surfaces is found, each source weighing alike."""

    auroc: Share
    found: Share
    scans: Count


class SourceIntervals(Record):
    """Their intervals."""

    auroc: Bounds
    found: Bounds


class OfLines(Record):
    """How other surfaces are found after so many lines."""

    auroc: Share
    found: float
    false_alarms: Share
    scans: Count
    sources: Count
    intervals: SourceIntervals
    by_kind: dict[Place, OfPart] = {}
    by_source: dict[Place, OfPart] = {}


class Told(Record):
    """What one file of other surfaces told."""

    lines: Annotated[
        dict[Annotated[str, Field(pattern=r"^\d{1,6}$")], OfLines], Field(min_length=1)
    ]
    taught: Count


class Votes(Record):
    """Tip changes against votes."""

    auroc: Share = None


class Changes(Record):
    """How tip changes are found."""

    found: Share = None
    false_alarms: Share = None
    votes: Votes | None = None


class Reached(Record):
    """What a benchmark, a sweep and a comparison ask evaluation.json for."""

    n: Count | None = None
    protocol: Protocol | None = None
    auroc: Share = None
    balanced_accuracy: Share = None
    parameters: Count | None = None
    rejection: Rejection | None = None
    unknown: Found | None = None
    changes: Changes | None = None
    trust: dict[Place, float] = {}


class Scores(Subset):
    """What a model reached, all that can be shown of it: evaluation.json."""

    by_lines: list[AtLines]
    protocol: Protocol
    split: Place
    data: Place = ""
    full_agreement: Subset | None = None
    consensus: Subset | None = None
    unknown: Unknown | None = None
    sources: dict[Place, Told] = {}


class Lined(Subset):
    """Scores of a benchmark, after few lines and many."""

    by_lines: list[AtLines]
    sources: dict[Place, Told] = {}


Folds = Annotated[list[float], Field(min_length=1)]


class Row(Record):
    """A config under a protocol, as a benchmark writes it."""

    config: Place
    base: Place | None = None
    protocol: Protocol
    folds: Count
    folds_done: Count
    fold_numbers: list[Count] | None = None  # earlier versions wrote neither
    command: Place
    epochs: Annotated[list[Count], Field(min_length=1)]
    seconds: Folds
    backend: list[Place]
    devices: list[Place]
    precision: list[Place]
    git: list[Place]
    seed: Count
    data: Place
    auroc_by_fold: Folds | None = None
    balanced_accuracy_by_fold: Folds
    parameters: Count | None = None
    trust: dict[Place, float] = {}
    whole: Lined = Field(alias="all")
    agreed: Lined | None = Field(None, alias="full agreement")
    consensus: Lined | None = None

    @model_validator(mode="after")
    def _one_a_fold(self):
        for each in (self.fold_numbers, self.auroc_by_fold):
            if each is not None and len(each) != len(self.balanced_accuracy_by_fold):
                raise ValueError("must have a score for each of its folds")
        return self


class Rows(RootModel[list[Row]]):
    """The results of a benchmark."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="after")
    def _same_classes_and_lines(self):
        def known(row):
            return list(row.whole.per_class), [point.lines for point in row.whole.by_lines]

        if any(known(row) != known(self.root[0]) for row in self.root):
            raise ValueError("rows must be of the same classes and lines")
        return self


class Array(Record):
    """A job array of a sweep."""

    job: Place
    first: Count
    names: list[Place]
    at_once: Count = 1


class Queued(RootModel[list[Array]]):
    """The arrays of a sweep: jobs.json."""

    model_config = ConfigDict(strict=True)
