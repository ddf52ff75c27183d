"""What the results of a benchmark must hold before they are shown: benchmarks/results.json."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, RootModel, Tag, model_validator

from stm_keras.records import (
    HUMAN,
    AtLines,
    Count,
    Measured,
    Record,
    Sources,
    Subset,
    Text,
)
from stm_keras.settings import Protocol


class ByLines(Subset):  # of a benchmark, also after some of the lines
    by_lines: list[AtLines]
    sources: dict[Text, Sources] = {}


Folds = Annotated[list[float], Field(min_length=1)]


Bounded = Annotated[list[float], Field(min_length=3, max_length=3)]  # and its interval


class Splices(Record):
    """How soon a new tip is named, see `live/splices.py`."""

    splices: Count
    folds: list[Count]
    called: Bounded
    named: Bounded
    named_by_scan: Bounded
    at: dict[Text, Annotated[list[float], Field(min_length=2, max_length=2)]]
    median_lines: float | None
    calm: Count
    changes: float
    disturbed: float


class Compared(Record):
    """Scores without and with the scans before, `[value, low, high]`."""

    scans: Count
    alone: Bounded
    context: Bounded
    gain: Bounded


class AfterLines(Record):
    """The same after some lines, see `inference/evaluate_context.py`."""

    lines: Count
    alone: dict[Text, Bounded | float]
    context: dict[Text, Bounded | float]
    gain: dict[Text, Bounded]
    changed: Compared | None
    same: Compared | None


class Early(Record):
    """What is gained with the scans before after fewer lines than alone."""

    lines: Count
    gain: dict[Text, Bounded]


class ScansBefore(Record):
    """What the scans before a scan bring, see `inference/evaluate_context.py`."""

    folds: list[Count]
    scans: Count
    before: Count
    dropped: Count
    numbers: list[dict[Text, float]]
    chosen: bool
    lines: Annotated[list[AfterLines], Field(min_length=1)]
    early: list[Early] = []  # earlier versions did not write it


class Row(Record):
    """A config under a protocol, as a benchmark writes it."""

    config: Text
    base: Text | None = None
    protocol: Protocol
    folds: Count
    folds_done: Count
    fold_numbers: list[Count] | None = None  # earlier versions wrote neither
    command: Text
    epochs: Annotated[list[Count], Field(min_length=1)]
    seconds: Folds
    backend: list[Text]
    devices: list[Text]
    precision: list[Text]
    git: list[Text]
    seed: Count
    data: Text
    auroc_by_fold: Folds | None = None
    balanced_accuracy_by_fold: Folds
    parameters: Count | None = None
    trust: dict[Text, float] = {}
    splices: Splices | None = None
    context: ScansBefore | None = None
    whole: ByLines = Field(alias="all")
    agreed: ByLines | None = Field(None, alias="full agreement")
    consensus: ByLines | None = None

    @model_validator(mode="after")
    def _one_a_fold(self):
        for each in (self.fold_numbers, self.auroc_by_fold):
            if each is not None and len(each) != len(self.balanced_accuracy_by_fold):
                raise ValueError("must have a score for each of its folds")
        return self


Limits = Annotated[list[float], Field(min_length=2, max_length=3)]


class HumanScores(Record):  # a value and its interval
    balanced_accuracy: Bounded | None
    accuracy: Bounded | None


class Beside(Record):  # a human rater, and a model on the same scans: `evaluation/human.py`
    n: float
    certain: float
    human: HumanScores
    model: HumanScores | None = None
    difference: HumanScores | None = None


class Besides(Record):
    pairs: Beside
    mixed: Beside


class OfCeiling(Record):
    auroc: Limits
    balanced_accuracy: Limits
    accuracy: Limits


Kinds = dict[Literal["single-class", "consensus"], OfCeiling]


class Ceiling(Record):  # as of `evaluation/ceiling.py`
    types: Count
    among: Annotated[list[Count], Field(min_length=1)]
    scores: Kinds
    range: Kinds
    pairs: dict[Literal["balanced_accuracy", "accuracy"], float]
    scans: Count


class HumanModel(Record):
    beside: Besides
    label_rule: dict[Literal["kept", "sure", "sums"], Measured]


class Human(Record):  # the human beside the models of a benchmark: `experiments/human.py`
    config: Literal["human raters"]
    protocol: Protocol
    data: Text
    raters: Besides
    ceiling: Ceiling
    label_rule: dict[Literal["kept", "sure", "sums"], Count] | None
    models: dict[Text, HumanModel]


def _kind(row):
    return "human" if isinstance(row, dict) and row.get("config") == HUMAN else "config"


AnyRow = Annotated[Row, Tag("config")] | Annotated[Human, Tag("human")]


class Rows(RootModel[list[Annotated[AnyRow, Discriminator(_kind)]]]):  # of a benchmark
    @model_validator(mode="after")
    def _same_classes_and_lines(self):
        def axes(row):
            return list(row.whole.per_class), [point.lines for point in row.whole.by_lines]

        rows = [row for row in self.root if isinstance(row, Row)]
        if any(axes(row) != axes(rows[0]) for row in rows):
            raise ValueError("rows must be of the same classes and lines")
        return self
