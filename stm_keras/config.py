"""Everything a training run can be told, with its defaults: here and nowhere else.

The defaults are the quickstart, what a bare `stm-keras train` runs. A TOML file holds only
what differs, and `--set section.key=value` wins over it.
"""

import difflib
import json
import tomllib
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stm_keras.errors import ConfigError, InputError


class Section(BaseModel):
    """A table of a config file: frozen, and an unknown key is an error.

    TOML knows no null, so "none" stands for it where a setting may be left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values):
        if not isinstance(values, dict):
            return values
        optional = {
            name
            for name, item in cls.model_fields.items()
            if type(None) in get_args(item.annotation)
        }
        return {k: None if v == "none" and k in optional else v for k, v in values.items()}


class DataConfig(Section):
    """Which scans, and how they are split."""

    path: str | None = None  # no path: simulated scans
    protocol: Literal["p1", "p2", "p3"] | None = None  # none: p2 where sessions are known
    fold: int | None = Field(None, ge=0)  # none: one split by `fractions`
    num_folds: int = Field(5, ge=2)
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)  # train, validation, test


class SimulateConfig(Section):
    """The simulated scans that stand in where no data is given."""

    count: int = Field(10000, gt=0)
    seed: int = Field(0, ge=0)
    p_tip_change: float = Field(0.1, ge=0, le=1)
    p_partial: float = Field(0.0, ge=0, le=1)


class AugmentConfig(Section):
    """How a training scan is varied before the model sees it.

    The simulator draws angle, size, place and noise itself, so the defaults are mild;
    configs for real scans turn, zoom, pan and add noise.
    """

    flip: bool = True
    rotate: float = Field(0.0, ge=0, le=1)  # probability of a turn by any angle
    zoom: float = Field(0.0, ge=0, lt=0.5)  # largest relative change of size
    pan: float = Field(0.0, ge=0, lt=0.5)  # largest shift, of the scan's width
    noise: float = Field(0.0, ge=0)  # largest noise, in standard deviations of the scan
    line_dropout: float = Field(0.02, ge=0, lt=1)  # share of lines lost
    cut: float = Field(0.1, ge=0, le=1)  # probability to end after a random line
    min_lines: int = Field(8, ge=1)  # the fewest lines that a cut leaves


class CnnSmallConfig(Section):
    """A small convolutional network over the whole scan."""

    name: Literal["cnn_small"] = "cnn_small"
    width: int = Field(16, gt=0)  # filters of the first convolution
    dropout: float = Field(0.2, ge=0, lt=1)


class VitConfig(Section):
    """A vision transformer whose tokens are scan lines."""

    name: Literal["vit"] = "vit"
    tokenizer: Literal["linear", "conv"] = "linear"
    positions: Literal["learned", "sinusoidal"] = "learned"
    layers: int = Field(6, gt=0)
    heads: int = Field(8, gt=0)
    dim: int = Field(256, gt=0)
    mlp_dim: int = Field(1024, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_dim(self):
        if self.dim % self.heads:
            raise ValueError(
                f"`heads` must divide `dim`. Received: heads={self.heads}, dim={self.dim}"
            )
        return self


MODEL_CONFIGS = {"cnn_small": CnnSmallConfig, "vit": VitConfig}


class TrainConfig(Section):
    """How to fit."""

    epochs: int = Field(12, gt=0)
    batch_size: int = Field(64, gt=0)
    learning_rate: float = Field(3e-3, gt=0)  # peak, after warm-up
    start_learning_rate: float = Field(1e-6, ge=0)
    warmup_epochs: float = Field(1, ge=0)
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    plateau_patience: int = Field(5, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float | None = Field(1.0, gt=0)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_weight: bool = True  # inverse frequency in the training part
    early_stopping: int | None = Field(None, gt=0)  # epochs without a better val_auroc
    ema: float | None = Field(None, gt=0, lt=1)  # momentum of the average of the weights
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"


class Config(Section):
    """One training run."""

    name: str = Field("quickstart", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    simulate: SimulateConfig = SimulateConfig()
    augment: AugmentConfig = AugmentConfig()
    model: CnnSmallConfig | VitConfig = Field(CnnSmallConfig(), discriminator="name")
    train: TrainConfig = TrainConfig()


def load_config(path=None, settings=()):
    """Read a config file and apply settings to it.

    Args:
        path: str or `Path` of a TOML file, or None for the defaults.
        settings: sequence of str such as `"train.epochs=5"`, or of pairs of dotted
            key and value. Later ones win.

    Returns:
        A `Config`.

    Raises:
        InputError: The file cannot be read.
        ConfigError: A key is unknown, or a value is of the wrong kind.
    """
    table = {} if path is None else _read(Path(path))
    for setting in settings:
        key, value = _parse_setting(setting) if isinstance(setting, str) else setting
        _set(table, key, value)
    if isinstance(table.get("model"), dict):
        table["model"].setdefault("name", Config().model.name)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        where = "" if path is None else f"{path}: "
        raise ConfigError(where + _explain(error)) from None


def dump_config(config):
    """Write a `Config` as TOML that `load_config` reads back to the same."""
    lines, tables = [], []
    for key, value in config.model_dump().items():
        if isinstance(value, dict):
            kind = type(getattr(config, key))
            rows = [
                f"{name} = {toml_value(item)}"
                for name, item in value.items()
                if item is not None or kind.model_fields[name].default is not None
            ]
            tables.append("\n".join([f"[{key}]", *rows]))
        else:
            lines.append(f"{key} = {toml_value(value)}")
    return "\n\n".join(["\n".join(lines), *tables]) + "\n"


def differences(one, other):
    """List the dotted keys in which two configs differ, whatever their data is called."""

    def flat(config):
        table = config.model_dump()
        return {
            f"{section}.{key}" if isinstance(values, dict) else section: value
            for section, values in table.items()
            for key, value in (
                values.items() if isinstance(values, dict) else [("", values)]
            )
            if (section, key) != ("data", "path")
        }

    left, right = flat(one), flat(other)
    return sorted(key for key in left | right if left.get(key) != right.get(key))


def _read(path):
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file. Give a TOML config.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}.") from None


def _parse_setting(text):
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"`--set` takes section.key=value. Received: {text}.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _set(table, key, value):
    *sections, last = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"`{key}` is not a setting: `{section}` is not a section.")
    table[last] = value


def _explain(error):
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["model"] and len(place) > 1 and place[1] in MODEL_CONFIGS:
        del place[1]  # pydantic names the kind of model here, which the file does not
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        for name, kind in MODEL_CONFIGS.items():
            if place[0] == "model" and place[-1] in kind.model_fields:
                return f"`{key}` is a setting of {name} only. Add --set model.name={name}."
        close = difflib.get_close_matches(key, _keys(Config), 1, 0.5)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        return f"`{key}` is not a setting.{hint}"
    if first["type"].startswith("union_tag"):
        return f"`model.name` must be one of {', '.join(MODEL_CONFIGS)}."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "value_error":
        return f"`{key}`: {message}."
    return f"`{key}`: {message}. Received: {first['input']!r}."


def _keys(section, prefix=""):
    for name, item in section.model_fields.items():
        yield prefix + name
        for kind in get_args(item.annotation) or (item.annotation,):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _keys(kind, f"{prefix}{name}.")


def toml_value(value):
    """Write a value as TOML; None as "none"."""
    if value is None:
        return '"none"'
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)
