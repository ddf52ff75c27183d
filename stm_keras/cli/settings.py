"""`stm-keras settings`."""

import json
import sys
import textwrap
from itertools import groupby, zip_longest

import click

from stm_keras.cli import options
from stm_keras.errors import UsageError
from stm_keras.terminal import columns

HEAD = ("key", "default", "type", "meaning")
WIDEST = (34, 20, 24)  # columns on a terminal before the last, which takes what is left
NARROWEST = 24


@click.command()
@click.argument("section", required=False)
@click.option("--toml", is_flag=True, help="Print a config to start from, with comments.")
@options.as_json
def settings(section, toml, as_json):
    """List the settings of a config: key, default, type and meaning.

    SECTION is a table (data, simulate, augment, model, train), a model (vit, cnn, ...) or
    the key of one setting. `stm-keras train --set KEY=VALUE` changes one. In a pipe each
    setting is one line.

    \b
        stm-keras settings train
        stm-keras settings train.warmup_epochs
        stm-keras settings --toml > mine.toml; stm-keras train mine.toml
    """
    if toml and as_json:
        raise UsageError("`--toml` and `--json`: choose one.")
    from stm_keras.setting_list import list_settings, settings_toml

    chosen = list_settings(section)
    if toml:
        click.echo(settings_toml(chosen))
    elif as_json:
        click.echo(json.dumps([each.to_json() for each in chosen], allow_nan=False))
    else:
        width = columns(sys.stdout) if sys.stdout.isatty() else None
        click.echo(settings_table(chosen, width))


def settings_table(chosen, width=None):
    """Lay out settings as a table, wrapped at a width; None: each in one line."""
    from stm_keras.config import toml_value

    tables = []
    for (section, model), group in groupby(chosen, lambda each: (each.section, each.model)):
        rows = [
            (each.key, toml_value(each.default), ", ".join(each.kinds), each.meaning)
            for each in group
        ]
        title = f'[{section}] name = "{model}"' if model else f"[{section}]"
        tables.append((title if section else "top of the file", rows))
    every = [HEAD, *(row for _, rows in tables for row in rows)]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    if width is not None:
        widths = [min(pair) for pair in zip(widths[:3], WIDEST, strict=True)]
        widths.append(max(NARROWEST, width - sum(widths) - 6))
    text = [_row(HEAD, widths)]
    for title, rows in tables:
        text += ["", title, *(_row(row, widths) for row in rows)]
    return "\n".join(text)


def _row(cells, widths):
    wrapped = [textwrap.wrap(cell, room) for cell, room in zip(cells, widths, strict=True)]
    return "\n".join(
        "  ".join(
            f"{part:<{room}}" for part, room in zip(line, widths, strict=True)
        ).rstrip()
        for line in zip_longest(*wrapped, fillvalue="")
    )
