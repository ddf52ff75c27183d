"""An app served on a port of its own, as the page of the watch is."""

import threading
import time

import uvicorn

WAIT = 20  # s, of which a machine that is busy needs few


class Served:
    """An app that uvicorn serves in a thread, in a block.

    Args:
        app: `fastapi.FastAPI`.
        port: int. 0 for any that is free, which is in `port` then.
    """

    def __init__(self, app, port=0):
        self.app = app
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        end = time.monotonic() + WAIT
        while not self.server.started:
            assert time.monotonic() < end
            time.sleep(0.001)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(WAIT)
