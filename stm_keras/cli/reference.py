"""The pages of docs/ that are written from the code: `python -m stm_keras.cli.reference docs`.

cli.md is the help of every command, settings.md the settings of a config with their
defaults, api.md the list of public names, whose docstrings the site shows.
"""

import sys
from itertools import groupby
from pathlib import Path

import click

import stm_keras
from stm_keras.cli.main import COMMANDS, main
from stm_keras.config import Config, toml_value
from stm_keras.setting_list import MODELS, list_settings

WRITTEN = "Written by `python -m stm_keras.cli.reference docs`; do not edit."


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
        'file. "none" stands for a setting that is left out. `stm-keras settings [SECTION]` prints '
        "the same, and with `--toml` a config to start from.\n"
    )
    for (section, model), group in groupby(list_settings(), lambda s: (s.section, s.model)):
        rows = list(group)
        title = f"`[{section}]`" if section else "The config itself"
        title += f' with `name = "{model}"`' if model else ""
        table = type(getattr(Config(), section)) if section else Config
        about = (MODELS.get(model, table).__doc__ or "").strip().splitlines()[0]
        text += f"\n## {title}\n\n{about}\n\n"
        text += "| setting | default | type | meaning |\n|---|---|---|---|\n"
        for row in rows:
            kinds = ", ".join(row.kinds)
            cells = f"`{row.name}`", f"`{toml_value(row.default)}`", kinds, row.meaning
            text += " | ".join(
                cell.replace("|", r"\|") for cell in ("", *cells, "")
            ).strip()
            text += "\n"
    return text


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
