"""What the JSON files of a comparison must hold to be worked with."""

from typing import Annotated, Literal

from pydantic import Field

from stm_keras.experiments.compare.setups import Setup
from stm_keras.records import Count, Record, Share, Text

Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(gt=0, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]


class Numbers(Record):
    """How much is measured."""

    steps: Whole = 40  # over which losses are compared
    repeats: Whole = 3  # rounds of timing over all setups
    steps_per_round: Whole = 5
    loading: Natural = 0  # batches fitted as they are made, to see how long training waits
    cores: Natural = 0  # that a setup may use, 0 for all
    epochs: Natural = 0  # of the runs that are scored, 0 for none
    seeds: Whole = 3  # scored runs of a backend


class PlanFile(Numbers):
    """What is compared: plan.json."""

    config: Text
    sides: list[Setup]
    command: Text = ""


class Material(Record):
    """What all setups start from: material.json."""

    data: Text
    split: Text
    split_note: Text
    weights: Text
    classes: list[Text]
    scans: Count
    batches: list[Text]


class Clocks(Record):  # s
    wall: Positive
    cpu: Positive


class Memory(Record):  # GB
    host: float
    device: float | None


class Round(Record):
    train: Clocks
    predict: Clocks
    memory: Memory


class Machine(Record):
    name: Text
    processor: Text
    cores: Count | None
    cores_allowed: Count | None
    memory_gb: float
    system: Text
    python: Text
    date: Text
    load: Annotated[list[float], Field(min_length=1)]
    slurm_job: Text | None


class Identity(Record):
    data: Text
    split: Text
    batches: list[Text]


class Part(Record):
    """What a setup measured, or why it did not: parts/SETUP.json."""

    side: Setup
    name: Text
    status: Literal["done", "failed"]
    session: Text
    machine: Machine
    identity: Identity


class Failed(Part):
    """A setup that did not run."""

    reason: Text


class Agreement(Record):
    logits: list[Share]
    losses: list[Share]
    logits_after: list[Share]


class Loading(Record):
    seconds: Positive
    waited: float


class SeedScores(Record):
    auroc: float
    balanced_accuracy: float


SCORES = tuple(SeedScores.model_fields)


class Scored(Record):
    runs: dict[Text, SeedScores]
    failed: dict[Text, Text]
    epochs: Count


class Done(Part):
    """A setup that ran."""

    parameters: Count
    weights: Text
    dtypes: dict[Text, Text | list[Text]]
    devices: list[Text]
    versions: dict[Text, Text]
    seconds: dict[Text, float]
    first_step: Clocks
    rounds: Annotated[list[Round], Field(min_length=1)]
    agreement: Agreement
    loading: Loading | None = None
    scores: Scored | None = None
