"""The page of `stm-keras label`: a picture after the other, and what a rater says of it.

What is saved is on the disk before the page goes on. The picture after it is there already.
"""

import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from nicegui import ui
from nicegui.element import Element
from starlette.concurrency import run_in_threadpool

from stm_keras.data.dataset import SIX_CLASSES
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.labelling.desk import Desk
from stm_keras.labelling.marks import RULE
from stm_keras.untrusted import parse_json
from stm_keras.web.server import Server
from stm_keras.web.watch_api import as_json

STATIC = Path(__file__).parent / "label_static"
TITLE = "stm-keras label"
LARGEST = 1 << 16  # bytes of what a page says of a picture
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}


class LabelView(
    Element,
    component="label_static/label.js",
    esm={"stm-keras-label": "label_static", "stm-keras-watch": "static"},
):
    """What a rater sees."""


def serve(server: Server, desk: Desk) -> None:
    """Serve the page of a rater."""
    server.start(lambda app: add_page(app, desk), TITLE)


def add_routes(app: FastAPI, desk: Desk) -> None:
    """Serve what the page asks for, at `/api/...`."""
    lock = threading.Lock()  # answers come in threads, one after the other

    @app.get("/api/progress")
    def progress() -> Response:
        with lock:
            marks = [
                {"name": mark.name, "key": mark.key, "help": mark.help}
                | {"examples": len(mark.examples)}
                for mark in desk.marks
            ]
            own = tuple(mark.name for mark in desk.marks) != SIX_CLASSES
            rule = "" if own else RULE
            return as_json({**desk.progress(), "marks": marks, "rule": rule})

    @app.get("/api/pictures/{position}")
    def picture(position: int) -> Response:
        with lock:
            return as_json(_told(desk.show, position))

    @app.post("/api/pictures/{position}")
    async def save(position: int, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                raise HTTPException(413, "That is too much for a label.")

        def write():
            with lock:
                said: Any = parse_json(body, "The label")
                if not isinstance(said, dict):
                    raise UsageError("The label: give an object.")
                desk.save(position, said)
                return desk.progress()

        return as_json(await run_in_threadpool(_told, write))

    @app.get("/api/examples/{mark}/{number}")
    def example(mark: int, number: int) -> FileResponse:
        try:
            path = desk.marks[mark].examples[number]
        except IndexError:
            raise HTTPException(404, "There is no such example.") from None
        if path.suffix.lower() not in PICTURES:
            raise HTTPException(404, f"{path.name} is not a picture that browsers show.")
        return FileResponse(path)


def add_page(app: FastAPI, desk: Desk) -> None:
    """Serve the page at `/`, and what it asks for."""
    add_routes(app, desk)

    @ui.page("/", title=TITLE)
    def page() -> None:
        style = Path(__file__).parent / "static" / "common.css"
        ui.add_css(style.read_text(encoding="utf-8"))
        ui.add_css((STATIC / "label.css").read_text(encoding="utf-8"))
        LabelView()


def _told(ask, *arguments):
    """Return an answer; an error of the user's, or of the disk, as the page shows it."""
    try:
        return ask(*arguments)
    except StmKerasError as error:
        status = 400 if error.exit_code in (2, 3) else 507
        raise HTTPException(status, str(error)) from None
