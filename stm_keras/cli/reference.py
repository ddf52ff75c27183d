"""The help of every command as one page: `python -m stm_keras.cli.reference > docs/cli.md`."""

import click

from stm_keras.cli.main import COMMANDS, main


def reference():
    """Return docs/cli.md, which a test compares with the file."""
    pages = ["# Commands\n\nWritten by `python -m stm_keras.cli.reference`; do not edit.\n"]
    context = main.make_context("stm-keras", [], resilient_parsing=True)
    pages.append(_page("stm-keras", main, context))
    for name in COMMANDS:
        command = main.get_command(context, name)
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        pages.append(_page(f"stm-keras {name}", command, inner))
    return "\n".join(pages)


def _page(name, command, context):
    context.terminal_width = 88
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
