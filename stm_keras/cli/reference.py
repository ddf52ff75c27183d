"""The pages of docs/ that are written from the code: `python -m stm_keras.cli.reference docs`.

cli.md is the help of every command, settings.md the settings of a config with their
defaults, api.md the list of public names, whose docstrings the site shows.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import click

import stm_keras
from stm_keras.cli.main import COMMANDS, main
from stm_keras.config import Config
from stm_keras.settings.models import MODEL_CONFIGS, OwnModelConfig
from stm_keras.settings.section import Section

WRITTEN = "Written by `python -m stm_keras.cli.reference docs`; do not edit."
BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}


def commands_page() -> str:
    """Return docs/cli.md: the help of every command."""
    pages = [f"# Commands\n\n{WRITTEN}\n"]
    context = main.make_context("stm-keras", [], resilient_parsing=True)
    pages.append(_help("stm-keras", main, context))
    for name in COMMANDS:
        command = main.get_command(context, name)
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        pages.append(_help(f"stm-keras {name}", command, inner))
        for part, each in getattr(command, "commands", {}).items():
            if not each.hidden:
                deeper = each.make_context(part, [], parent=inner, resilient_parsing=True)
                pages.append(_help(f"stm-keras {name} {part}", each, deeper))
    return "\n".join(pages)


def _help(name, command, context):
    context.terminal_width = 88
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


def settings_page() -> str:
    """Return docs/settings.md: every setting of a config, with its default."""
    text = (
        f"# Settings\n\n{WRITTEN}\n\nA config is a TOML file with these tables; it holds only "
        "what differs from the defaults. `--set train.epochs=5` on the command line wins over the "
        'file. "none" stands for a setting that is left out.\n'
    )
    own = {
        k: v for k, v in Config.model_fields.items() if not isinstance(v.default, Section)
    }
    text += _table("The config itself", Config, own)
    for name, field in Config.model_fields.items():
        if name in own:
            continue
        if name != "model":
            text += _table(f"`[{name}]`", type(field.default))
            continue
        for model, section in MODEL_CONFIGS.items():
            text += _table(f'`[model]` with `name = "{model}"`', section)
        text += _table('`[model]` with `name = "file.py:function"`', OwnModelConfig)
    return text


def _table(title, section, fields=None):
    lines = [f"\n## {title}", "", f"{(section.__doc__ or '').strip().splitlines()[0]}", ""]
    lines += ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, field in (fields or section.model_fields).items():
        if section in (*MODEL_CONFIGS.values(), OwnModelConfig) and name == "name":
            continue
        default = "none" if field.default is None else _value(field.default)
        cells = (
            f"`{name}`",
            f"`{default}`",
            ", ".join(_values(field)),
            " ".join((field.description or "").split()),  # a row is one line
        )
        lines.append(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        )
    return "\n".join(lines) + "\n"


def _value(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"' if isinstance(value, str) else str(value)


def _values(field) -> Iterator[str]:
    """Yield what a setting takes: its choices, or its type and bounds."""
    kinds = (
        get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    )
    for kind in kinds:
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if get_origin(kind) is Literal:
            yield from (f"`{_value(choice)}`" for choice in get_args(kind))
        elif kind is type(None):
            yield "`none`"
        elif get_origin(kind) is tuple:
            yield f"{len(get_args(kind))} numbers"
        else:
            words = {int: "integer", float: "number", str: "text", bool: "`true`, `false`"}
            yield words[kind]
    for rule in field.metadata:
        for name, text in BOUNDS.items():
            if getattr(rule, name, None) is not None:
                yield text.format(getattr(rule, name))


def _is_union(annotation):
    return type(None) in get_args(annotation) or (
        len(get_args(annotation)) > 1 and get_origin(annotation) not in (Literal, tuple)
    )


def api_page() -> str:
    """Return docs/api.md: a line for each public name, where the site puts its docstring."""
    text = f"# API\n\n{WRITTEN}\n\n[From Python](python.md) has examples that run.\n"
    for name, module in stm_keras.NAMES.items():
        text += f"\n::: stm_keras.{module}.{name}\n"
    return text


PAGES = {"cli.md": commands_page, "settings.md": settings_page, "api.md": api_page}


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        click.echo("Give the folder of the pages: docs", err=True)
        sys.exit(2)
    for name, page in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(page(), encoding="utf-8")
