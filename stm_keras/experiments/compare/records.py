"""What the JSON files of a comparison must hold to be worked with."""

from typing import Annotated, Literal

from pydantic import Field

from stm_keras.experiments.compare.setups import Setup
from stm_keras.records import Count, Place, Record, Share

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

    config: Place
    sides: list[Setup]
    command: Place = ""


class Material(Record):
    """What all setups start from: material.json."""

    data: Place
    split: Place
    split_note: Place
    weights: Place
    classes: list[Place]
    scans: Count
    batches: list[Place]


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
    name: Place
    processor: Place
    cores: Count | None
    cores_allowed: Count | None
    memory_gb: float
    system: Place
    python: Place
    date: Place
    load: Annotated[list[float], Field(min_length=1)]
    slurm_job: Place | None


class Identity(Record):
    data: Place
    split: Place
    batches: list[Place]


class Part(Record):
    """What a setup measured, or why it did not: parts/SETUP.json."""

    side: Setup
    name: Place
    status: Literal["done", "failed"]
    session: Place
    machine: Machine
    identity: Identity


class Failed(Part):
    """A setup that did not run."""

    reason: Place


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
    runs: dict[Place, SeedScores]
    failed: dict[Place, Place]
    epochs: Count


class Done(Part):
    """A setup that ran."""

    parameters: Count
    weights: Place
    dtypes: dict[Place, Place | list[Place]]
    devices: list[Place]
    versions: dict[Place, Place]
    seconds: dict[Place, float]
    first_step: Clocks
    rounds: Annotated[list[Round], Field(min_length=1)]
    agreement: Agreement
    loading: Loading | None = None
    scores: Scored | None = None
