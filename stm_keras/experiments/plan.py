"""What a sweep is made of: its settings, read from a file or the command line, and its members."""

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from stm_keras.config import load_config, parse_value, shown, toml_value
from stm_keras.data.split import session_campaigns
from stm_keras.errors import ConfigError, UsageError
from stm_keras.settings import Section
from stm_keras.untrusted import parse_toml, read_text

Value = bool | int | float | str | list | None
MOST = 100_000  # runs of a sweep
BACKEND = "backend"  # a key of the grid that is no setting of a config


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
    """Everything that decides what the members of a sweep are."""

    config: str | None = None  # TOML file of the runs; none is the quickstart
    data: str | None = None
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    seeds: int = Field(1, gt=0, le=MOST)  # 0, 1, 2, ...
    settings: tuple[str, ...] = ()  # section.key=value for every run
    grid: dict[str, tuple[Value, ...]] = {}
    space: dict[str, Range] = {}  # of a search, instead of a grid
    sampler: Literal["tpe", "random"] = "tpe"
    trials: int = Field(20, gt=0, le=MOST)  # of a search
    concurrent: int = Field(8, gt=0, le=MOST)  # jobs at a time
    sbatch: tuple[str, ...] = ()  # further words for sbatch

    @model_validator(mode="after")
    def _grid_or_space(self):
        if self.grid and self.space:
            raise ValueError("give a `grid`, or a `space` to search, not both")
        empty = [key for key, values in self.grid.items() if not values]
        if empty:
            raise ValueError(f"`{empty[0]}` has no values")
        count = self.seeds * math.prod(map(len, self.grid.values()))
        if count > MOST:
            raise ValueError(f"{count} runs are more than {MOST}. Give fewer values")
        return self


HOW_QUEUED = ("concurrent", "sbatch")  # of no matter for what comes out


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Args:
        name: str. Name of its folder in `runs/` of the sweep.
        settings: dict of dotted key to value: what differs from the config.
        seed: int.
    """

    name: str
    settings: dict
    seed: int

    def words(self, folder, sweep):
        """Return the arguments of `stm-keras` that make this run: list of str.

        Args:
            folder: `Path` of the sweep. A job starts elsewhere, so it is made absolute.
            sweep: Its `Sweep`.
        """
        folder = Path(folder).resolve()
        backend = self.settings.get(BACKEND, sweep.backend)
        words = [
            "train",
            str(folder / "config.toml"),
            "-o",
            str(folder / "runs" / self.name),
        ]
        if sweep.data is not None:
            words += ["--data", str(Path(sweep.data).resolve())]
        for key, value in self.settings.items():
            if key != BACKEND:
                words += ["--set", setting(key, value)]
        words += ["--seed", str(self.seed)]
        return words + (["--backend", backend] if backend else [])


def setting(key, value):
    """Write a setting as `--set` takes it."""
    return f"{key}={toml_value(value)}"


def read_sweep(path):
    """Read a sweep file.

    Args:
        path: `Path` of a TOML file with the keys of `Sweep`.

    Returns:
        A dict of what it says, to be completed by `make_sweep`.

    Raises:
        InputError: The file cannot be read.
        ConfigError: It is no TOML.
    """
    return parse_toml(read_text(path, "a TOML file of a sweep"), str(path), ConfigError)


def make_sweep(table):
    """Check what a sweep is to be.

    Args:
        table: dict with the keys of `Sweep`.

    Returns:
        `Sweep`.

    Raises:
        ConfigError: A key is unknown or a value is wrong, also one for a run.
    """
    try:
        sweep = Sweep.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "sweep"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"`{key}` is nothing a sweep has. Known: {', '.join(Sweep.model_fields)}."
            ) from None
        raise ConfigError(
            f"`{key}`: {message}. Received: {shown(repr(first['input']))}."
        ) from None
    base_config(sweep)
    for member in members(sweep):
        member_config(sweep, member)
    for key, span in sweep.space.items():
        for value in span.values or (span.low, span.high):
            load_config(sweep.config, [*sweep.settings, (key, value)])
    return sweep


def base_config(sweep):
    """Return the `Config` that all members share."""
    return load_config(sweep.config, sweep.settings)


def member_config(sweep, member):
    """Return the `Config` of a member; the backend is not part of it.

    Raises:
        ConfigError: A setting does not exist, or has such no value.
    """
    own = [(key, value) for key, value in member.settings.items() if key != BACKEND]
    backend = member.settings.get(BACKEND)
    if backend not in (None, "tensorflow", "jax", "torch"):
        raise ConfigError(f"`backend` is tensorflow, jax or torch. Received: {backend!r}.")
    return load_config(sweep.config, [*sweep.settings, *own, ("seed", member.seed)])


def members(sweep):
    """List the members of a grid; of a search there are none before it runs.

    Returns:
        list of `Member`, seeds last: the first runs cover the grid once.
    """
    if sweep.space:
        return []
    points = itertools.product(*sweep.grid.values())
    points = [dict(zip(sweep.grid, values, strict=True)) for values in points]
    return [
        Member(member_name(number, point, seed), point, seed)
        for number, (seed, point) in enumerate(
            (seed, point) for seed in range(sweep.seeds) for point in points
        )
    ]


def member_name(number, settings, seed):
    """Name the folder of a member, such as `0003-weight_decay-0.05-seed-1`."""
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in settings.items()]
    text = "-".join([*parts, f"seed-{seed}"])
    return f"{number:04d}-" + re.sub(r"[^A-Za-z0-9._+-]+", "_", text)[:120]


def jobs(folder, sweep):
    """Return what the jobs of an array do: dict of name to arguments of `stm-keras`.

    A job makes a member of a grid; in a search it is a worker that tries one trial after
    another.
    """
    if sweep.space:
        words = ["submit", str(Path(folder).resolve()), "--worker"]
        count = min(sweep.concurrent, sweep.trials)
        return {f"worker-{number}": [*words, str(number)] for number in range(count)}
    return {member.name: member.words(folder, sweep) for member in members(sweep)}


def read_values(text):
    """Read `section.key=1,2,3` of `--grid`.

    Returns:
        Tuple of str and tuple of values.

    Raises:
        UsageError: It is no such thing.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.isascii() or not key.strip() or not values.strip():
        raise UsageError(
            f"`--grid` takes section.key=value,value. Received: {shown(text)}."
        )
    return key.strip(), tuple(map(parse_value, split_values(values)))


def read_space(text):
    """Read `section.key=low:high`, `low:high:log` or `one,other` of `--space`.

    Returns:
        Tuple of str and dict for a `Range`.

    Raises:
        UsageError: It is no such thing.
    """
    key, equals, values = text.partition("=")
    wrong = UsageError(
        "`--space` takes section.key=low:high, low:high:log or value,value. "
        f"Received: {shown(text)}."
    )
    if not equals or not key.isascii() or not key.strip() or not values.strip():
        raise wrong
    low, colon, rest = values.partition(":")
    if not colon:
        return key.strip(), {"values": [parse_value(each) for each in split_values(values)]}
    high, _, kind = rest.partition(":")
    low, high = parse_value(low), parse_value(high)
    if kind not in ("", "log") or isinstance(low, str) or isinstance(high, str):
        raise wrong
    return key.strip(), {"low": low, "high": high, "log": kind == "log"}


def split_values(text):
    """Split at commas that are not inside of a list or quotes."""
    return re.findall(r'(?:\[[^\]]*\]|"[^"]*"|[^,\[\]"])+', text)


@dataclass(frozen=True)
class Fold:
    """One run of a benchmark.

    Args:
        config: `Path` of the config file.
        protocol: str. "p1", "p2" or "p3".
        number: int. The test fold.
        path: `Path` of the run.
        variant: str. Name of what differs from the config, empty for the config itself.
        settings: tuple of str `section.key=value`: what differs.
    """

    config: Path
    protocol: str
    number: int
    path: Path
    variant: str = ""
    settings: tuple = ()

    @property
    def name(self):
        """Name of config and variant."""
        return self.config.stem + ("+" if self.variant else "") + self.variant

    @property
    def key(self):
        """Name for `--only` and messages."""
        return f"{self.name}:{self.protocol}:{self.number}"

    def done(self):
        """Tell whether the run has judged its test scans."""
        return (self.path / "predictions.npz").exists()


def read_variant(text):
    """Read "name:section.key=value,section.key=value".

    Returns:
        Tuple of str and tuple of str.

    Raises:
        UsageError: It is none.
    """
    name, colon, settings = text.partition(":")
    parts = tuple(re.split(r",(?=[a-z_]+[.=])", settings))  # not inside a list
    if not colon or not re.fullmatch(r"[A-Za-z0-9._-]+", name) or not all(parts):
        raise UsageError(
            "`--vary` takes name:section.key=value, with further settings by comma. "
            f"Received: {text}."
        )
    return name, parts


def plan(configs, protocols, dataset, folder, num_folds=5, only=(), variants=()):
    """List the runs of a benchmark.

    Args:
        configs: sequence of `Path`.
        protocols: sequence of str.
        dataset: A `Dataset`. Under P3 each campaign is a fold.
        folder: `Path`. Where the runs lie.
        num_folds: int. Folds under P1 and P2.
        only: sequence of str `config:protocol:fold`, each part of which may be left out
            from the right. Empty for all.
        variants: sequence of pairs of name and settings, as of `read_variant`: each config
            is planned as it is and once with each of these.

    Returns:
        list of `Fold`.

    Raises:
        UsageError: `only` names no run.
    """
    folds = []
    named = [(config, *each) for config in configs for each in [("", ()), *variants]]
    for config, variant, settings in named:
        for protocol in protocols:
            count = num_folds
            if protocol == "p3":
                count = len(np.unique(session_campaigns(dataset)))
            stem = Fold(config, protocol, 0, folder, variant).name
            folds += [
                Fold(
                    config,
                    protocol,
                    number,
                    folder / f"{stem}-{protocol}-fold{number}",
                    variant,
                    settings,
                )
                for number in range(count)
            ]
    if only:
        chosen = [
            fold for fold in folds if any(f"{fold.key}:".startswith(f"{o}:") for o in only)
        ]
        if not chosen:
            known = ", ".join(fold.key for fold in folds[:3])
            raise UsageError(f"`--only {only[0]}` names no run. Runs are {known} ...")
        return chosen
    return folds
