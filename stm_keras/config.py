"""A training run's config: read from TOML and `--set`, checked, and written down again.

A TOML file holds only what differs from the defaults of `stm_keras.settings`, and
`--set section.key=value` wins over it.
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from pydantic import Field, ValidationError

from stm_keras.errors import ConfigError, InputError
from stm_keras.resources import resource_folder
from stm_keras.settings import AugmentConfig, DataConfig, SimulateConfig, TrainConfig
from stm_keras.settings.models import MODEL_CONFIGS, CnnSmallConfig, ModelConfig
from stm_keras.settings.section import Section
from stm_keras.untrusted import parse_toml, read_text

KEYWORDS = {  # of `train` from Python and of its options, to the setting that each is short for
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "seed": "seed",
    "protocol": "data.protocol",
    "fold": "data.fold",
    "precision": "train.precision",
}
SHOWN = 80  # characters of what was received, in a message


class Config(Section):
    """One training run."""

    name: str = Field("quickstart", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    """Name of the run; its folder is runs/<date>-<name> unless `--output` says otherwise."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the split, the first weights and the batches."""
    data: DataConfig = DataConfig()
    simulate: SimulateConfig = SimulateConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = CnnSmallConfig()
    train: TrainConfig = TrainConfig()


def config_names() -> list[str]:
    """List the names of the configs that come with stm-keras."""
    return sorted(path.stem for path in resource_folder("configs").glob("*.toml"))


def find_config(given: str | Path) -> Path:
    """Return the TOML file of a config that is given by its path or by its name.

    A file that is called like a config, with or without `.toml`, wins over the config that
    comes with stm-keras. Where there is neither, what was given is returned.
    """
    path = Path(given)
    if len(path.parts) != 1 or path.name not in config_names() or path.is_file():
        return path
    own = path.with_suffix(".toml")
    return own if own.is_file() else resource_folder("configs") / own.name


def config_word(path: Path) -> str:
    """Name a config in a command for other machines: without the folders of this one."""
    ours = resource_folder("configs") / path.name
    return path.stem if path.resolve() == ours.resolve() else f"configs/{path.name}"


def load_config(
    path: str | Path | Config | None = None,
    settings: Iterable[str | tuple[str, object]] = (),
) -> Config:
    """Read a config file and apply settings to it.

    Args:
        path: A TOML file, or the name of a config that comes with stm-keras, see
            `find_config`; a config that was read before; None for the defaults.
        settings: Each is a str such as `"train.epochs=5"`, or a pair of dotted key and
            value. Later ones win.

    Raises:
        InputError: The file cannot be read.
        ConfigError: A key is unknown, or a value is of the wrong kind.
    """
    if isinstance(path, Config):
        table, path = path.model_dump(exclude_none=True), None
    else:
        table = {} if path is None else _read(find_config(path))
    given = [_parse_setting(s) if isinstance(s, str) else s for s in settings]
    for key, value in given:
        _set(table, key, value)
    if isinstance(table.get("model"), dict):
        table["model"].setdefault("name", Config().model.name)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        key = ".".join(_location(error.errors()[0]))
        set_here = any(_overlap(key, each) for each, _ in given)  # not in the file
        where = "" if path is None or set_here else f"{path}: "
        raise ConfigError(where + _explain(error)) from None


def dump_config(config: Config) -> str:
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


def differences(one: Config, other: Config) -> list[str]:
    """List the dotted keys in which two configs differ, except the path of the data."""

    def flat(config):
        table = {}
        for section, values in config.model_dump(exclude={"data": {"path"}}).items():
            if isinstance(values, dict):
                table |= {f"{section}.{key}": value for key, value in values.items()}
            else:
                table[section] = values
        return table

    left, right = flat(one), flat(other)
    return sorted(key for key in left | right if left.get(key) != right.get(key))


def parse_value(text):
    """Read the value of a setting as TOML; anything else is a text."""
    try:
        table = parse_toml(f"value = {text}", "setting", ConfigError)
    except ConfigError:
        return text.strip()
    return table["value"] if len(table) == 1 else text.strip()


def _read(path):
    if not path.exists():
        close = difflib.get_close_matches(path.stem, config_names(), 1, 0.6)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise InputError(
            f"{path}: no such file.{hint} These configs come with stm-keras and go by their "
            f"names: {', '.join(config_names())}."
        )
    return parse_toml(read_text(path, "a TOML config"), str(path), ConfigError)


def _parse_setting(text):
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"`--set` takes section.key=value. Received: {shown(text)}.")
    return key.strip(), parse_value(value)


def shown(text):
    """Shorten a text for a message."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _set(table, key, value):
    if not key.isascii():  # pydantic fails to report some
        raise ConfigError(f"`{shown(key)}` is not a setting.")
    *sections, last = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"`{shown(key)}` is not a setting: `{section}` is not a section."
            )
    table[last] = value


def _location(first):
    """Return the parts of the key that an error is about."""
    parts = [str(part) for part in first["loc"]]
    if parts[:1] == ["model"] and len(parts) > 1 and parts[1] in (*MODEL_CONFIGS, "own"):
        del parts[1]  # pydantic names the kind of model here, which the file does not
    return parts


def _overlap(one, other):
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _explain(error):
    first = error.errors()[0]
    parts = _location(first)
    key = shown(".".join(parts))
    if first["type"] == "extra_forbidden":
        names = [n for n, kind in MODEL_CONFIGS.items() if parts[-1] in kind.model_fields]
        if parts[0] == "model" and names:
            known = ", ".join(names)
            return f"`{key}` is a setting of {known} only. Add --set model.name={names[0]}."
        near = _near(key)
        hint = f" Did you mean `{near}`?" if near else ""
        return f"`{key}` is not a setting.{hint}"
    if first["type"].startswith("union_tag"):
        if not isinstance(first["input"], dict):
            received = shown(repr(first["input"]))
            return f"`{key}`: Input should be a table. Received: {received}."
        names = ", ".join(MODEL_CONFIGS)
        return f"`model.name` must be one of {names}, or a network of your own, file.py:function."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "value_error":
        return f"`{key}`: {message}." if key else f"{message}."
    return f"`{key}`: {message}. Received: {shown(repr(first['input']))}."


def _near(key):
    """Return the setting whose name is nearly that of a key, in its section or another."""
    section, _, last = key.rpartition(".")
    names = {}  # the first of a name: in the same section where it is there
    for known in sorted(_keys(Config), key=lambda k: k.rpartition(".")[0] != section):
        names.setdefault(known.rpartition(".")[2], known)
    close = difflib.get_close_matches(last, names, 1, 0.75)
    return names[close[0]] if close else None


def _keys(section, prefix=""):
    for name, item in section.model_fields.items():
        yield prefix + name
        for kind in get_args(item.annotation) or (item.annotation,):
            kind = getattr(kind, "__origin__", kind)  # without its tag
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
