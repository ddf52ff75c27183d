"""The page of `stm-keras watch`: what a `Board` knows, in any number of tabs.

All is drawn in the browser (`static/`); from here come the state, and the lines as they are
scanned. Each message has a number. A tab that misses one, as its connection was cut, fetches
the whole again from `/api/view`: so no tab loses a line, and a new one shows the scan at once.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from nicegui import app as pages
from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from stm_keras.errors import UsageError
from stm_keras.evaluation.style import NO_CLASS, class_colour
from stm_keras.inference.predictor import Predictor
from stm_keras.live.board import Board
from stm_keras.live.records import encode, read_log, scan_of
from stm_keras.web import classify, watch_api
from stm_keras.web.server import Server
from stm_keras.web.watch_api import as_json

STATIC = Path(__file__).parent / "static"
TITLE = "stm-keras watch"
ALIVE = 1.0  # s: a page hears so often at least, and says so where it does not
OF_ROWS = ("scan", "end", "alarm", "change", "label")  # what changes the list of scans
NEVER_SENT = ("line", "run")  # events of which a page is told in another way


class WatchView(Element, component="static/watch.js", esm={"stm-keras-watch": "static"}):
    """What one tab shows."""


class News:
    """Sends what is new on a board to all tabs.

    Args:
        board: `Board`.

    Attributes:
        number: int. Of the last message.
    """

    def __init__(self, board: Board):
        self.board, self.number = board, 0
        self._views: set[WatchView] = set()
        self._waiting: deque[tuple[dict, dict | None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alive: asyncio.Task | None = None
        self._last = 0.0
        self._woken = False

    async def begin(self) -> None:
        """Listen to the board, in the thread of the pages."""
        self._loop = asyncio.get_running_loop()
        self._alive = asyncio.create_task(self._stay_alive())
        self.board.listen(self._hear)

    async def end(self) -> None:
        """Listen no more."""
        self.board.forget(self._hear)
        self._alive.cancel()

    def show(self) -> None:
        """Build a tab."""
        view = WatchView()
        view.on("label", lambda event: self._label(view, event))
        self._views.add(view)
        view.client.on_delete(lambda: self._views.discard(view))

    def view(self) -> dict:
        """Return all that a page shows, and the number of the message that it stands for."""
        self.flush()
        state = self.board.state()
        scan = state["scan"] and state["scan"]["number"]
        record, lines = self.board.picture(scan) or ({}, [])
        return {
            "number": self.number,
            "state": state,
            "scans": self.board.scans(),
            "run": self.board.run_record(),
            "scan": scan,
            "record": record,
            "lines": lines,
            "colours": [class_colour(index) for index in range(len(self.board.classes))],
            "no_class": NO_CLASS,
        }

    def flush(self, always: bool = False) -> None:
        """Send what waits to all tabs. In the thread of the pages."""
        self._woken = False
        told = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not told and not always:
            return
        rows = {scan_of(record) for record, _ in told if record["event"] in OF_ROWS}
        self.number += 1
        self._last = self._loop.time() if self._loop else 0.0
        message = {
            "number": self.number,
            "state": self.board.state(),
            "lines": [{"scan": record["scan"], **line} for record, line in told if line],
            "events": [record for record, _ in told if record["event"] not in NEVER_SENT],
            "scans": [self.board.scan(number) for number in sorted(rows - {None})],
        }
        # once for all, and with half a character as JSON has it, on which the rest would fail
        text = encode(message).decode()
        for view in list(self._views):
            if view.client.has_socket_connection:  # the others would only fill the memory
                view.run_method("push", text)

    def _hear(self, record, line):
        """Take what the board tells, in the thread that watches."""
        self._waiting.append((record, line))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # of a loop that has ended
                self._loop.call_soon_threadsafe(self.flush)

    async def _stay_alive(self):
        while True:
            await asyncio.sleep(ALIVE / 4)
            if self._loop.time() - self._last >= ALIVE:
                self.flush(always=True)

    def _label(self, view, event: GenericEventArguments):
        """Take what a person says of a scan."""
        said: Any = event.args if isinstance(event.args, dict) else {}
        try:
            self.board.label(said.get("scan"), said.get("class"), said.get("who", ""))
        except UsageError as error:
            view.run_method("refuse", str(error))


def serve(server: Server, predictor: Predictor, bad: Iterable[str], log: Path) -> Board:
    """Serve the page of a watching, and what programs may ask; return the `Board` it shows.

    Args:
        predictor: `Predictor` that judges.
        bad: classes of a bad tip.
        log: `Path`. Of today's records, which may not exist yet.
    """
    board = Board(predictor.classes, bad)
    if log.exists():
        board.remember(read_log(log, brief=True))

    def model_name():
        return board.run_record().get("model", {}).get("name", "stm-keras")

    def build(app):
        watch_api.add_routes(app, board, lambda: server.ending)
        classify.add_routes(app, predictor, model_name)
        add_page(app, News(board))

    server.start(build, TITLE)
    return board


def add_page(app: FastAPI, news: News) -> None:
    """Serve the page at `/`, and what it fetches at `/api/view`."""

    @app.get("/api/view")
    async def view() -> Response:
        return as_json(news.view())

    @ui.page("/", title=TITLE)
    def page() -> None:
        for name in ("common.css", "watch.css"):
            ui.add_css((STATIC / name).read_text(encoding="utf-8"))
        news.show()

    pages.on_startup(news.begin)
    pages.on_shutdown(news.end)
