"""Options of the commands that show a page in the browser, and what they say of it."""

import os
import sys
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import click

from stm_keras.cli import options
from stm_keras.errors import MissingExtraError


def page_options(port: int) -> Callable:
    """Add the options of a page that is served at a port unless told otherwise."""

    def add(command):
        for option in reversed(
            (
                click.option(
                    "--port",
                    type=click.IntRange(0, 65535),
                    default=port,
                    show_default=True,
                    help="Port of the page, on this computer; 0: one that is free.",
                ),
                click.option(
                    "--no-browser", is_flag=True, help="Do not open the page in a browser."
                ),
                click.option(
                    "--host",
                    default="127.0.0.1",
                    show_default=True,
                    help="Address at which the page listens; another one opens it to the network.",
                ),
                click.option(
                    "--token",
                    metavar="WHERE",
                    help="Secret that --host needs, of 16 letters or more: env:NAME or file:PATH.",
                ),
            )
        ):
            command = option(command)
        return command

    return add


def open_server(stack: ExitStack, chosen: dict, instead: str = "") -> Any:
    """Take the port of a page, before anything else begins; return its `Server`.

    Args:
        instead: how to do without the page, where a command can, as a message ends.
    """
    from stm_keras.live.hooks import secret
    from stm_keras.web.server import Server, load_nicegui

    try:
        load_nicegui()
    except MissingExtraError as error:
        raise MissingExtraError(f"{error}{instead}") from None
    token = chosen["token"] and secret(chosen["token"], "--token")
    server = Server(chosen["port"], chosen["host"], token)
    stack.callback(server.close)
    return server


def show_page(server: Any, chosen: dict) -> None:
    """Say where a page is, and open it where somebody sits at this computer."""
    options.say(f"Page: {server.address}")
    if server.open_to_others:
        options.say(
            "Whoever reaches this computer and knows the token sees the scans and may label "
            "them. What is sent is not encrypted; `ssh -L` is safer (docs/live.md)."
        )
    elsewhere = "SSH_CONNECTION" in os.environ
    screen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not chosen["no_browser"] and screen and not elsewhere and sys.stderr.isatty():
        with suppress(webbrowser.Error):
            webbrowser.open(server.address)


def load_any(model: Any) -> tuple:
    """Load a model, without Keras where it can be; return its file and a `Predictor`."""
    from stm_keras.inference.find_model import DEFAULT, choose_model_file, needs_keras

    file = choose_model_file(model or DEFAULT)
    if needs_keras(file) or file.suffix == ".skops":
        options.load_keras()
        from stm_keras.inference.model_file import load_predictor

        return file, load_predictor(file)
    from stm_keras.inference.onnx_model import load_onnx

    return file, load_onnx(file)
