"""What a comparison measures, a setup each, and what its JSON files hold."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from stm_keras.backend import BACKENDS
from stm_keras.config import Config, dump_config, load_config
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.records import Count, Record, Share, Text
from stm_keras.untrusted import parse_toml

REFERENCES = ("native", "native-unmasked", "timm")
PRECISIONS = ("float32", "mixed_bfloat16")
EAGER = "eager"
JITS = ("auto", "true", "false", EAGER)
SHORT = {
    "float32": "",
    "mixed_bfloat16": "bf16",
    "auto": "",
    "true": "jit",
    "false": "no-jit",
}

Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(gt=0, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]


class Setup(Record, frozen=True):
    """One row of a comparison: a library, and how it computes."""

    library: Literal[(*BACKENDS, *REFERENCES)]
    precision: Literal[PRECISIONS] = "float32"
    jit: Literal[JITS] = "auto"  # as `train.jit_compile`, or "eager"

    @property
    def name(self):  # of the row, such as "jax bf16"
        words = (self.library, SHORT[self.precision], SHORT.get(self.jit, self.jit))
        return " ".join(word for word in words if word)

    @property
    def slug(self):  # the name as part of a file name
        return self.name.replace(" ", "-")

    @property
    def uses_keras(self):  # or is a reference
        return self.library in BACKENDS

    @property
    def train_settings(self):
        """Settings of `TrainConfig` that make a run compute as this setup."""
        jit = {"auto": "auto", "true": True}.get(self.jit, False)
        return {"precision": self.precision, "jit_compile": jit}


class Numbers(Record):  # how much is measured
    steps: Whole = 40  # over which losses are compared
    repeats: Whole = 3  # rounds of timing over all setups
    steps_per_round: Whole = 5
    loading: Natural = 0  # batches fitted as they are made, to see how long training waits
    cores: Natural = 0  # that a setup may use, 0 for all
    epochs: Natural = 0  # of the runs that are scored, 0 for none
    seeds: Whole = 3  # scored runs of a backend


def _read_config(given):
    """Return the `Config` of a plan, which is TOML where it was read from plan.json."""
    try:
        config = given
        if isinstance(given, str):
            config = load_config(None, parse_toml(given, "config").items())
    except StmKerasError as error:
        raise ValueError(str(error)) from None
    if config.data.path is None:
        raise ValueError("it names no data")
    return config


class Plan(Numbers):
    """What is compared, as plan.json holds it: setups, and a config with `data.path`."""

    model_config = ConfigDict(populate_by_name=True)
    config: Annotated[Config, BeforeValidator(_read_config), PlainSerializer(dump_config)]
    setups: tuple[Setup, ...] = Field(alias="sides", strict=False)
    command: Text = ""  # that makes this comparison again


class Material(Record):  # what all setups start from: material.json
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


class Part(Record):  # what a setup measured, or why it did not: parts/SETUP.json
    side: Setup
    name: Text
    status: Literal["done", "failed"]
    session: Text
    machine: Machine
    identity: Identity


class Failed(Part):  # a setup that did not run
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


class Done(Part):  # a setup that ran
    parameters: Count
    weights: Text
    dtypes: dict[Text, Text | list[Text]]
    devices: list[Text]
    versions: dict[Text, Text]
    seconds: dict[Text, float]
    first_step: Clocks
    rounds: Annotated[list[Round], Field(min_length=1)]
    agreement: Agreement
    operations: Positive | None = None  # of a training step, as torch counts them
    peak: Positive | None = None  # 1e9 operations a second of a product of matrices
    loading: Loading | None = None
    scores: Scored | None = None


def plan_setups(backends, precisions, jits, references=(), compile_references=False):
    """List the setups of a comparison, those that differ in the library alone together.

    A reference is plain or compiled; it is compiled where "true" is asked for, and with
    `compile_references` as well.
    """
    for option, names, known in (
        ("--backends", backends, BACKENDS),
        ("--precision", precisions, PRECISIONS),
        ("--jit", jits, JITS),
        ("--reference", references, REFERENCES),
    ):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"`{option}`: unknown {name!r}. Known: {', '.join(known)}."
                )
    plain = any(jit != "true" for jit in jits)
    compiled = ["auto"] * plain + ["true"] * (compile_references or "true" in jits)
    setups = [
        Setup(library=library, precision=precision, jit=jit)
        for libraries, choices in ((backends, jits), (references, compiled))
        for precision in precisions
        for jit in choices
        for library in libraries
    ]
    if not setups:
        raise UsageError("Nothing to compare. Give --backends, such as tensorflow,jax.")
    return list(dict.fromkeys(setups))


def default_references(model, installed):
    """Choose the references of a `ModelConfig`: those that have the same network."""
    if not has_reference(model):
        return []
    modules = {"native": "torch", "timm": "timm"}
    return [name for name, module in modules.items() if installed(module)]


def has_reference(model):
    """Tell whether the references are the network of a `ModelConfig`."""
    parts = ("linear", "learned")
    return model.name == "vit" and (model.tokenizer, model.positions) == parts
