"""`stm-keras connect`: save how a controller behaves, for users to send."""

import re
from datetime import date
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.files import atomic, check_outputs

HOLDS = (
    "The file will hold versions, names of channels, settings of the scan, times, and error "
    "texts; of heights only a few statistics; no path, no file name, no comment. Nothing is sent "
    "anywhere."
)


@click.command()
@click.argument("source")
@options.path(
    "-o", "--output", help="JSON file to write. Default: connect-HOST-DATE.json, here."
)
@click.option(
    "--ports",
    type=options.Ports(),
    help="Try only these two: one to ask, one to wait at. Default: all four, of which the last "
    "two that answer are used.",
)
@options.overwrite
def connect(source, output, ports, overwrite):
    """Save how a Nanonis controller behaves, for you to send.

    SOURCE is nanonis://HOST, or nanonis://HOST:PORT where the first of its four ports is not
    6501. The file tells us how to read controllers like yours, most of all while a scan runs.
    Nothing is ever written to the controller, and it takes two minutes at most. docs/live.md
    says what the file holds.

    \b
        stm-keras connect nanonis://stm-pc
        stm-keras connect nanonis://stm-pc --ports 6502,6504 -o ours.json
    """
    from stm_keras.live.connect import as_text, read_controller, summary
    from stm_keras.live.nanonis import check_ports, parse_url

    host, (third, fourth) = parse_url(source)
    ports = check_ports(ports) if ports else tuple(range(third - 2, fourth + 1))
    if output is None:
        name = re.sub(r"[^\w.-]+", "-", host)[:100]
        output = Path(f"connect-{name}-{date.today()}.json")
    check_outputs({"-o": output})
    with atomic(output, overwrite) as temporary:  # before anything is asked
        options.say(HOLDS)
        report = read_controller(host, ports, options.say)
        temporary.write_text(as_text(report), encoding="utf-8")
    click.echo("\n".join(summary(report)))
    options.say(f"{output}: written. Read it, and send it to us.")
