"""Which training runs an experiment has: grid x protocol x fold x seed."""

import itertools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from stm_keras.backend import BACKENDS
from stm_keras.config import load_config, parse_value, shown, toml_value
from stm_keras.data.split import session_campaigns
from stm_keras.errors import ConfigError, UsageError
from stm_keras.settings.section import Section
from stm_keras.untrusted import parse_toml, read_text

Value = bool | int | float | str | list | None
MAX_RUNS = 100_000  # of a sweep
BACKEND = "backend"  # a key of the grid that is not a setting of a config
QUEUE_SETTINGS = ("concurrent", "sbatch")  # which do not change what comes out


@dataclass(frozen=True)
class PlannedRun:
    """One training run of an experiment; what is None is left to its config."""

    path: Path  # its folder
    config: Path
    settings: tuple[str, ...] = ()  # section.key=value
    data: Path | None = None
    protocol: str | None = None
    fold: int | None = None
    seed: int | None = None
    backend: str | None = None
    variant: str = ""  # of a benchmark
    variant_settings: tuple[str, ...] = ()
    values: dict = field(default_factory=dict)  # point of a grid or a search
    result: str = "evaluation.json"  # file that a finished run has

    @property
    def name(self):
        """Name of the run's folder."""
        return self.path.name

    @property
    def group(self):
        """Name of config and variant, whose folds are scored together."""
        return self.config.stem + ("+" if self.variant else "") + self.variant

    @property
    def key(self):
        """Name of a fold for `--only` and messages."""
        return f"{self.group}:{self.protocol}:{self.fold}"

    def arguments(self):
        """Return the arguments of `stm-keras` that make this run: list of str."""
        arguments = ["train", str(self.config), "-o", str(self.path)]
        arguments += _option("--data", self.data)
        arguments += _option("--protocol", self.protocol) + _option("--fold", self.fold)
        for setting in (*self.settings, *self.variant_settings):
            arguments += ["--set", setting]
        return arguments + _option("--seed", self.seed) + _option("--backend", self.backend)

    def done(self):
        """Tell whether the run has its result."""
        return (self.path / self.result).exists()


def _option(name, value):
    return [] if value is None else [name, str(value)]


class Range(Section):
    """What a search may try for a setting: numbers from low to high, or one of some values."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    values: tuple[Value, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self):
        if bool(self.values) == (self.low is not None):
            raise ValueError("give `values`, or `low` and `high`")
        if not self.values and (self.high is None or self.high <= self.low):
            raise ValueError("`high` must be above `low`")
        if self.log and not self.low > 0:
            raise ValueError("`log` needs a `low` above 0")
        return self


class Sweep(Section):
    """Everything that decides which runs a sweep has."""

    config: str | None = None  # TOML file of the runs; none is the quickstart
    data: str | None = None
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    seeds: int = Field(1, gt=0, le=MAX_RUNS)  # 0, 1, 2, ...
    settings: tuple[str, ...] = ()  # section.key=value for every run
    grid: dict[str, tuple[Value, ...]] = {}
    space: dict[str, Range] = {}  # of a search, instead of a grid
    sampler: Literal["tpe", "random"] = "tpe"
    trials: int = Field(20, gt=0, le=MAX_RUNS)  # of a search
    concurrent: int = Field(8, gt=0, le=MAX_RUNS)  # jobs at a time
    sbatch: tuple[str, ...] = ()  # further options for sbatch

    @model_validator(mode="after")
    def _grid_or_space(self):
        if self.grid and self.space:
            raise ValueError("give a `grid`, or a `space` to search, not both")
        empty = [key for key, values in self.grid.items() if not values]
        if empty:
            raise ValueError(f"`{empty[0]}` has no values")
        count = self.seeds * math.prod(map(len, self.grid.values()))
        if count > MAX_RUNS:
            raise ValueError(f"{count} runs are more than {MAX_RUNS}. Give fewer values")
        return self


def read_sweep(path):
    """Read a sweep file: a dict with keys of `Sweep`, to be completed by `make_sweep`.

    Raises:
        InputError: The file cannot be read.
        ConfigError: It is not TOML.
    """
    return parse_toml(read_text(path, "a TOML file of a sweep"), str(path), ConfigError)


def make_sweep(table):
    """Make a `Sweep` of a dict, and check the config of every run."""
    try:
        sweep = Sweep.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "sweep"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"`{key}` is not a setting of a sweep. Known: "
                f"{', '.join(Sweep.model_fields)}."
            ) from None
        raise ConfigError(
            f"`{key}`: {message}. Received: {shown(repr(first['input']))}."
        ) from None
    base_config(sweep)
    for run in sweep_runs(sweep):
        if run.backend is not None and run.backend not in BACKENDS:
            raise ConfigError(
                f"`backend` is tensorflow, jax or torch. Received: {run.backend!r}."
            )
        own = [pair for pair in run.values.items() if pair[0] != BACKEND]
        load_config(sweep.config, [*sweep.settings, *own, ("seed", run.seed)])
    for key, span in sweep.space.items():
        for value in span.values or (span.low, span.high):
            load_config(sweep.config, [*sweep.settings, (key, value)])
    return sweep


def base_config(sweep):
    """Return the `Config` that all runs of a sweep share."""
    return load_config(sweep.config, sweep.settings)


def sweep_runs(sweep, folder="."):
    """List the runs of a grid; of a search there are none before it begins.

    Seeds come last: the first runs cover the grid once. Jobs start elsewhere, so paths are
    made absolute.
    """
    if sweep.space:
        return []
    points = [
        dict(zip(sweep.grid, values, strict=True))
        for values in itertools.product(*sweep.grid.values())
    ]
    pairs = itertools.product(range(sweep.seeds), points)
    return [
        _sweep_run(sweep, folder, run_name(number, point, seed), point, seed)
        for number, (seed, point) in enumerate(pairs)
    ]


def trial_runs(sweep, folder, number, values):
    """Return the runs of a trial of a search: list of `PlannedRun`, one for each seed."""
    return [
        _sweep_run(sweep, folder, f"trial-{int(number):04d}-seed-{seed}", values, seed)
        for seed in range(sweep.seeds)
    ]


def _sweep_run(sweep, folder, name, values, seed):
    folder = Path(folder).absolute()
    settings = (
        f"{key}={toml_value(value)}" for key, value in values.items() if key != BACKEND
    )
    return PlannedRun(
        path=folder / "runs" / name,
        config=folder / "config.toml",
        settings=tuple(settings),
        data=None if sweep.data is None else Path(sweep.data).absolute(),
        seed=seed,
        backend=values.get(BACKEND, sweep.backend),
        values=values,
    )


def run_name(number, values, seed):
    """Name the folder of a run, such as `0003-weight_decay-0.05-seed-1`."""
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in values.items()]
    text = "-".join([*parts, f"seed-{seed}"])
    return f"{number:04d}-" + re.sub(r"[^A-Za-z0-9._+-]+", "_", text)[:120]


def jobs(folder, sweep):
    """Return the jobs of a sweep: dict of name to arguments of `stm-keras`.

    A job of a grid makes one run; that of a search is a worker that tries one trial after
    another.
    """
    if sweep.space:
        arguments = ["submit", str(Path(folder).resolve()), "--worker"]
        count = min(sweep.concurrent, sweep.trials)
        return {f"worker-{number}": [*arguments, str(number)] for number in range(count)}
    return {run.name: run.arguments() for run in sweep_runs(sweep, folder)}


def benchmark_runs(
    configs, protocols, dataset, folder, num_folds=5, only=(), variants=(), **common
):
    """List the runs of a benchmark; `common` are fields of every `PlannedRun`.

    Each config is planned as it is and once with each of `variants`, pairs as of
    `read_variant`. Under P3 each campaign of the dataset is a fold, else there are `num_folds`.
    `only` are texts `config:protocol:fold`, each part of which may be left out from the right.
    """
    counts = dict.fromkeys(protocols, num_folds)
    if "p3" in counts:
        counts["p3"] = len(np.unique(session_campaigns(dataset)))
    runs = []
    for config in configs:
        for variant, changed in [("", ()), *variants]:
            stem = config.stem + ("+" if variant else "") + variant
            runs += [
                PlannedRun(
                    folder / f"{stem}-{protocol}-fold{fold}",
                    config,
                    protocol=protocol,
                    fold=fold,
                    variant=variant,
                    variant_settings=changed,
                    result="predictions.npz",
                    **common,
                )
                for protocol, count in counts.items()
                for fold in range(count)
            ]
    if not only:
        return runs
    chosen = [run for run in runs if any(f"{run.key}:".startswith(f"{o}:") for o in only)]
    if not chosen:
        known = ", ".join(run.key for run in runs[:3])
        raise UsageError(f"`--only {only[0]}` names no run. Runs are {known} ...")
    return chosen


def read_values(text):
    """Read `section.key=1,2,3` of `--grid`, or raise a `UsageError`: str and tuple of values."""
    key, values = _split_key(text, "`--grid` takes section.key=value,value.")
    return key, tuple(map(parse_value, _split_values(values)))


def read_space(text):
    """Read `section.key=low:high`, `low:high:log` or `one,other`, or raise a `UsageError`.

    Returns a tuple of str, the key, and dict for a `Range`.
    """
    usage = "`--space` takes section.key=low:high, low:high:log or value,value."
    key, values = _split_key(text, usage)
    low, colon, rest = values.partition(":")
    if not colon:
        return key, {"values": list(map(parse_value, _split_values(values)))}
    high, _, scale = rest.partition(":")
    low, high = parse_value(low), parse_value(high)
    if scale not in ("", "log") or isinstance(low, str) or isinstance(high, str):
        raise UsageError(f"{usage} Received: {shown(text)}.")
    return key, {"low": low, "high": high, "log": scale == "log"}


def _split_key(text, usage):
    key, equals, values = text.partition("=")
    if not equals or not key.isascii() or not key.strip() or not values.strip():
        raise UsageError(f"{usage} Received: {shown(text)}.")
    return key.strip(), values


def _split_values(text):
    """Split at commas that are not inside of a list or quotes."""
    return re.findall(r'(?:\[[^\]]*\]|"[^"]*"|[^,\[\]"])+', text)


def read_variant(text):
    """Read "name:section.key=value,..." as name and settings, or raise a `UsageError`."""
    name, colon, settings = text.partition(":")
    parts = tuple(re.split(r",(?=[a-z_]+[.=])", settings))  # not inside a list
    if not colon or not re.fullmatch(r"[A-Za-z0-9._-]+", name) or not all(parts):
        raise UsageError(
            "`--vary` takes name:section.key=value, with further settings by comma. "
            f"Received: {text}."
        )
    return name, parts
