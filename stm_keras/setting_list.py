"""List what a config may hold: each setting with its default, type and meaning.

`stm-keras settings` prints it, and docs/settings.md is written from it.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal, get_args, get_origin

from stm_keras.config import Config, toml_value
from stm_keras.errors import UsageError
from stm_keras.settings.models import MODEL_CONFIGS, OwnModelConfig
from stm_keras.settings.section import Section

BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}
MODELS = {**MODEL_CONFIGS, "file.py:function": OwnModelConfig}  # the last: of your own
WORDS = {int: "integer", float: "number", str: "text", bool: "true, false"}


@dataclass(frozen=True)
class Setting:
    """One setting of a config.

    Args:
        section: The table it stands in, "" for the top of the file.
        model: The model whose it is, in the table `model`; else None.
        name: Its name in the table.
        default: Its value where a config does not name it.
        kinds: What it takes: its choices, or its type and bounds.
        meaning: What it does, in one line.
    """

    section: str
    model: str | None
    name: str
    default: Any
    kinds: tuple[str, ...]
    meaning: str

    @property
    def key(self) -> str:
        """What `--set` calls it, such as "train.epochs"."""
        return f"{self.section}.{self.name}" if self.section else self.name

    def to_json(self) -> dict:
        """Return a dict as `stm-keras settings --json` prints it."""
        return {
            "key": self.key,
            "model": self.model,
            "default": self.default,
            "type": ", ".join(self.kinds),
            "meaning": self.meaning,
        }


def list_settings(wanted: str | None = None) -> list[Setting]:
    """List settings in the order of a config.

    Args:
        wanted: A section, a model, or the key of one setting; None for all.

    Raises:
        UsageError: There is nothing of that name.
    """
    every = list(_settings())
    if wanted is None:
        return every
    sections, models, keys = (
        list(dict.fromkeys(filter(None, names)))
        for names in zip(*((s.section, s.model, s.key) for s in every), strict=True)
    )
    if wanted in sections:
        return [each for each in every if each.section == wanted]
    if wanted in (*models, *keys):
        return [each for each in every if wanted in (each.model, each.key)]
    close = difflib.get_close_matches(wanted, [*sections, *models, *keys], 1, 0.75)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    raise UsageError(
        f"`{wanted}` is neither a section nor a setting.{hint} Sections: "
        f"{', '.join(sections)}; models: {', '.join(models)}."
    )


def settings_toml(settings: Iterable[Setting]) -> str:
    """Write settings with their defaults as a config: TOML that `load_config` reads.

    Of several models only the first is written, for a config has one.
    """
    settings = list(settings)
    models = [each.model for each in settings if each.model is not None]
    default = Config().model.name
    model = default if default in models else (models or [None])[0]
    chosen = [each for each in settings if each.model in (None, model)]
    parts = []
    for section, each in groupby(chosen, lambda setting: setting.section):
        lines = [f"[{section}]"] if section else []
        if section == "model":
            lines.append(f"name = {toml_value(model)}  # one of {', '.join(MODEL_CONFIGS)}")
        for setting in each:
            lines.append(f"# {setting.meaning} [{', '.join(setting.kinds)}]")
            lines.append(f"{setting.name} = {toml_value(setting.default)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _settings() -> Iterator[Setting]:
    """Yield every setting: those of the top, then a table after the other."""
    tables = {}
    for name, field in Config.model_fields.items():
        if not isinstance(field.default, Section):
            yield _setting("", None, name, field)
        else:
            tables[name] = type(field.default)
    for section, table in tables.items():
        models = MODELS if section == "model" else {None: table}
        for model, fields in models.items():
            for name, field in fields.model_fields.items():
                if model is None or name != "name":  # which says what model it is
                    yield _setting(section, model, name, field)


def _setting(section, model, name, field):
    meaning = " ".join((field.description or "").split())
    return Setting(section, model, name, field.default, tuple(_kinds(field)), meaning)


def _kinds(field):
    """Yield what a setting takes."""
    union = type(None) in get_args(field.annotation) or (
        len(get_args(field.annotation)) > 1
        and get_origin(field.annotation) not in (Literal, tuple)
    )
    for kind in get_args(field.annotation) if union else (field.annotation,):
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if get_origin(kind) is Literal:
            yield from map(toml_value, get_args(kind))
        elif kind is type(None):
            yield '"none"'
        elif get_origin(kind) is tuple:
            yield f"{len(get_args(kind))} numbers"
        else:
            yield WORDS[kind]
    for rule in field.metadata:
        for name, text in BOUNDS.items():
            if getattr(rule, name, None) is not None:
                yield text.format(getattr(rule, name))
