"""What the JSON files of a comparison must hold to be worked with."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel

from stm_keras.records import Count, Place, Record, Share

Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(gt=0, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]


class Side(Record):
    """A row of a comparison."""

    library: Literal["tensorflow", "jax", "torch", "native", "native-unmasked", "timm"]
    precision: Literal["float32", "mixed_bfloat16"]
    jit: Literal["auto", "true", "false", "eager"]


class Plan(Record):
    """What is compared: plan.json."""

    config: Place
    sides: list[Side]
    steps: Whole
    repeats: Whole
    steps_per_round: Whole
    loading: Natural
    cores: Natural
    epochs: Natural
    seeds: Whole = 3
    command: Place = ""


class Material(Record):
    """What all sides begin with: material.json."""

    data: Place
    split: Place
    split_note: Place
    weights: Place
    classes: list[Place]
    scans: Count
    batches: list[Place]


class Clocks(Record):
    """Seconds by two clocks."""

    wall: Positive
    cpu: Positive


class Memory(Record):
    """Gigabytes."""

    host: float
    device: float | None


class Round(Record):
    """What a side did in a round."""

    train: Clocks
    predict: Clocks
    memory: Memory


class Machine(Record):
    """Where a side ran."""

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
    """What a side began with."""

    data: Place
    split: Place
    batches: list[Place]


class Part(Record):
    """What a side of a comparison measured, or why it did not: parts/SIDE.json."""

    side: Side
    name: Place
    status: Literal["done", "failed"]
    session: Place
    machine: Machine
    identity: Identity


class Failed(Part):
    """A side that did not run."""

    reason: Place


class Agreement(Record):
    """What a side computed."""

    logits: list[Share]
    losses: list[Share]
    logits_after: list[Share]


class Loading(Record):
    """How long training waited for batches."""

    seconds: Positive
    waited: float


class Reached(Record):
    """Scores of a seed."""

    auroc: float
    balanced_accuracy: float


class Seeds(Record):
    """Scores of several seeds."""

    runs: dict[Place, Reached]
    failed: dict[Place, Place]
    epochs: Count


class Done(Part):
    """A side that ran."""

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
    scores: Seeds | None = None


class Jobs(RootModel[dict[Place, Place]]):
    """Numbers of SLURM jobs by name."""

    model_config = ConfigDict(strict=True)
