"""What programs may ask a running `stm-keras watch`: its state, its records as they are written.

curl http://127.0.0.1:8765/api/state
curl -N http://127.0.0.1:8765/api/events
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import StreamingResponse

from stm_keras.live.board import Board
from stm_keras.live.day import PNG
from stm_keras.live.records import encode

QUIET = 15.0  # s after which a comment is sent, so that nobody takes the line for dead
MOST_LISTENERS = 20  # programs that hear events at the same time
PATIENCE = 30.0  # s that a program may read nothing; then it is cut off


def add_routes(app: FastAPI, board: Board, ended: Callable[[], bool]) -> None:
    """Serve `/api/state`, `/api/events`, `/api/scans`, and the scans by number.

    Args:
        ended: tells whether the server is about to end, and streams shall end too.
    """

    @app.get("/api/state")
    async def state() -> Response:
        return as_json(board.state())

    streams: set[EventStream] = set()

    @app.get("/api/events")
    async def events(last_event_id: int | None = Header(None)) -> Response:
        if len(streams) >= MOST_LISTENERS:
            raise HTTPException(503, f"{MOST_LISTENERS} programs hear events already.")
        return EventStream(_events(board, last_event_id, ended), streams)

    @app.get("/api/scans")
    async def scans() -> Response:
        return as_json(board.scans())

    @app.get("/api/scans/{number}.png")
    async def thumbnail(number: int) -> Response:
        picture = board.thumbnail(number)
        if picture is None:
            raise HTTPException(404, f"There is no picture of scan {number}.")
        data = base64.b64decode(picture.removeprefix(PNG))
        return Response(data, media_type="image/png")

    @app.get("/api/scans/{number}")
    async def scan(number: int) -> Response:
        found = board.picture(number)
        if found is None:
            raise HTTPException(404, f"The lines of scan {number} are not kept.")
        return as_json({"scan": found[0], "lines": found[1]})


class EventStream(StreamingResponse):
    """Server-sent events, which end where nobody reads them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], streams: set):
        super().__init__(events, headers={"cache-control": "no-cache"})
        self.events, self.streams = events, streams

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send each event, and wait for none longer than `PATIENCE`."""

        async def send_soon(message):
            async with asyncio.timeout(PATIENCE):
                await send(message)

        self.streams.add(self)
        try:
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send_soon)
        finally:
            self.streams.discard(self)
            await self.events.aclose()


async def _events(board: Board, after: int | None, ended) -> AsyncGenerator[bytes, None]:
    """Yield records as server-sent events, for ever: those that were missed, then each new one."""
    loop = asyncio.get_running_loop()
    records: asyncio.Queue[dict] = asyncio.Queue()

    def hear(record, line):
        with contextlib.suppress(RuntimeError):  # of a loop that has ended
            loop.call_soon_threadsafe(records.put_nowait, record)

    board.listen(hear)
    try:
        yield b"retry: 1000\n\n"
        last = 0
        for record in board.records(after):
            last = max(last, record["seq"])
            yield _event(record)
        waited = 0.0
        while not ended():
            try:
                record = await asyncio.wait_for(records.get(), 0.25)
            except TimeoutError:
                waited += 0.25
                if waited >= QUIET:
                    waited = 0.0
                    yield b": nothing new\n\n"
                continue
            if record["seq"] > last or record["seq"] == 0:
                waited = 0.0
                yield _event(record)
    finally:
        board.forget(hear)


def _event(record):
    """Write a record as one server-sent event."""
    head = f"id: {record['seq']}\nevent: {record['event']}\ndata: "
    return head.encode() + encode(record) + b"\n"


def as_json(value: object) -> Response:
    """Answer with JSON, without the checks that make FastAPI's own way slow."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text.encode("utf-8", "backslashreplace"), media_type="application/json")
