"""A page of NiceGUI, served on this computer by a thread of its own.

server = Server(port=8765)          # the port is ours from here on
server.start(add_routes, page)
server.close()
"""

import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stm_keras.errors import OutputError, UsageError, require
from stm_keras.live.subscribers import listen
from stm_keras.web.guard import LOCAL, Guard

RECONNECT = 60.0  # s that a page may be away without losing what it was sent
AT_EXIT = 1.0  # s that pages get when the server ends
AT_START = 30.0  # s that it takes at most to begin
MOST_MESSAGE = 1 << 20  # bytes that a page may send at once
MOST_CONNECTIONS = 300  # so that enough files are left to open for those who watch
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")


class Server:
    """Serves pages at a port, which is taken at once, so that nothing else begins in vain.

    Args:
        port: int. 0: one that is free.
        host: str. Address at which to listen. Any other than this computer's own needs a token.
        token: str of 16 letters or more. That who connects must know. None: for this computer.

    Attributes:
        port: int. At which pages are served.
        address: str. Of the page, as a browser takes it, with the token if there is one.

    Raises:
        UsageError: The port is taken, or the host is open to others without a token.
    """

    def __init__(self, port: int, host: str = LOCAL[0], token: str | None = None):
        if token is not None and not TOKEN.fullmatch(token):
            raise UsageError(
                "`--token`: must be 16 to 200 letters, digits, and characters of ._~-"
            )
        if host not in LOCAL and token is None:
            raise UsageError(
                f"`--host {host}`: lets other computers see the page and give labels. Add "
                "--token env:NAME or --token file:PATH, or leave --host out and use `ssh -L`."
            )
        self.open_to_others = host not in LOCAL
        option = f"--host {host} --port" if self.open_to_others else "--port"
        self._socket = listen(port, option, host if self.open_to_others else LOCAL[0])
        self.port = self._socket.getsockname()[1]
        self._token = token
        shown = LOCAL[0] if host in (*LOCAL, "0.0.0.0", "::") else host
        shown = f"[{shown}]" if ":" in shown else shown
        self.address = f"http://{shown}:{self.port}/" + (f"?token={token}" if token else "")
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None

    def start(self, build: Callable[[Any], object], title: str) -> None:
        """Serve what `build(app)` adds to a FastAPI application, and the pages of NiceGUI.

        Raises:
            MissingExtraError: NiceGUI is not installed.
            OutputError: The server does not begin.
        """
        nicegui = load_nicegui()
        import uvicorn
        from fastapi import FastAPI
        from uvicorn.protocols.http.h11_impl import H11Protocol

        class Connection(H11Protocol):  # others take headers of any length
            def connection_made(self, transport):
                super().connection_made(transport)
                if len(self.connections) > MOST_CONNECTIONS:
                    transport.abort()

        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        build(app)
        nicegui.ui.run_with(
            app,
            title=title,
            dark=None,
            tailwind=False,
            reconnect_timeout=RECONNECT,
            binding_refresh_interval=None,
            cache_control_directives="no-cache",
            gzip_middleware_factory=None,  # costs more than it saves on this computer
            show_welcome_message=False,
        )
        config = uvicorn.Config(
            Guard(app, self.port, self._token),
            http=Connection,
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=MOST_MESSAGE,
            timeout_graceful_shutdown=int(AT_EXIT),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        started = threading.Event()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OutputError(f"The page does not begin ({self._failed}).")
            started.wait(0.01)

    @property
    def ending(self) -> bool:
        """Whether the server is about to end, so that streams of it shall end too."""
        return self._server is not None and self._server.should_exit

    def close(self) -> None:
        """End the server. May be called twice."""
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(2 * AT_EXIT + 1)
        self._socket.close()

    def _serve(self):
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:  # SystemExit as well, which would end in silence
            self._failed = error


def load_nicegui() -> Any:
    """Import NiceGUI, which otherwise logs, and keeps files in the folder that one is in.

    Raises:
        MissingExtraError: It is not installed.
    """
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(Path(tempfile.gettempdir()) / "none"))
    nicegui = require("nicegui", "live")
    for name in ("nicegui", "uvicorn", "uvicorn.error", "socketio", "engineio", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return nicegui
