"""What is told when the tip is bad: a command of the user's, and an address on the network.

    hooks = Hooks(command="pulse.py {class}", url="https://example.org/tips")
    hooks.push(record)
    for fields in hooks.results():
        log.write("hook", **fields)

Both work beside the lines, each in a thread of its own: whatever they do, the watching goes on.
"""

import contextlib
import http.client
import os
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from stm_keras import __version__
from stm_keras.errors import UsageError
from stm_keras.live.alarms import BAD_TIP
from stm_keras.live.records import encode
from stm_keras.terminal import one_line
from stm_keras.untrusted import read_text

TIME_OUT = 10.0  # s, of a command and of one try of an address
AT_EXIT = 2.0  # s that hooks get when the watching ends
MOST_WAITING = 16  # alarms that wait for a hook
TRIES, PAUSE = 3, 1.0  # of an address; s, twice as long each time
KEPT = 4096  # bytes of what a command writes to its standard error
LINES, LETTERS = 3, 200  # of it that are logged
FIELDS = ("class", "rule", "p", "scan", "line", "t", "seq")  # that a command may name
SECRET_LIMIT = 1 << 16  # bytes


class Hooks:
    """Hands the record of each alarm *bad tip* to what a user wants told, and to nothing else.

    Args:
        command: str. Split into words as a shell would, but no shell reads it; then `{class}`
            and its like become fields of the record. It gets the record as JSON on its
            standard input, and as variables `STM_CLASS`, `STM_P`, ...
        url: str. Gets the record as JSON by POST, over http or https. Redirects are not
            followed, and no proxy is asked. `file:PATH` or `env:NAME` says where it stands.
        headers: str. Each `Name: file:PATH` or `Name: env:NAME`, as for a token.

    Raises:
        UsageError: There is no such program, or `url` or a header is not what it must be.
        InputError: The file of a secret cannot be read.
    """

    def __init__(
        self,
        command: str | None = None,
        url: str | None = None,
        headers: Iterable[str] = (),
    ):
        self._results: queue.SimpleQueue[dict] = queue.SimpleQueue()
        hooks = [_Command(command)] if command else []
        hooks += [_Address(url, headers)] if url else []
        self._workers = [_Worker(hook, self._results) for hook in hooks]

    def push(self, record: dict) -> None:
        """Take a record of any event; never waits."""
        if record["event"] == "alarm" and record.get("rule") == BAD_TIP:
            for worker in self._workers:
                worker.put(record)

    def results(self) -> list[dict]:
        """Return what became of hooks since the last call.

        Returns:
            list of dict: `kind` ("command", "url"), `target`, `status` ("ok", or what went
            wrong), `ms`; where there are any, `stderr`, the first lines of it, and
            `dropped`, the number of alarms that it never got because it was busy.
        """
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._results.get_nowait())
        return found

    def close(self, seconds: float = AT_EXIT) -> list[dict]:
        """End all hooks after so many seconds at most, and return the last results."""
        end = time.monotonic() + seconds
        for worker in self._workers:
            worker.finish()
        for worker in self._workers:
            worker.join(end)
        return self.results()


class _Worker:
    """Calls one hook for one record after the other, in its own thread."""

    def __init__(self, hook, results):
        self.hook, self.results = hook, results
        self._waiting, self._changed = deque(), threading.Condition()
        self._dropped, self._closing, self._calling = 0, False, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, record):
        with self._changed:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(record)
            self._changed.notify()

    def finish(self):
        """Have the thread end once nothing waits."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, end):
        """Wait until a time, then stop what is being called and say what was not."""
        self._thread.join(max(0.0, end - time.monotonic()))
        if not self._thread.is_alive():
            return
        with self._changed:
            left = len(self._waiting) + self._calling
            self._waiting.clear()
        self.hook.stop()
        self._thread.join(0.2)  # which says so itself, if it can
        left -= not self._thread.is_alive()
        if left > 0:
            self._tell({"status": f"{left} not done: the watching ended"}, 0.0, 0)

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                record, dropped = self._waiting.popleft(), self._dropped
                self._dropped, self._calling = 0, True
            began = time.monotonic()
            try:
                told = self.hook.call(record)
            except Exception as error:  # whatever it is, the next alarm is told again
                told = {"status": f"failed ({short(error)})"}
            self._tell(told, time.monotonic() - began, dropped)
            with self._changed:
                self._calling = False

    def _tell(self, told, seconds, dropped):
        status = {
            "kind": self.hook.kind,
            "target": self.hook.target,
            "status": told["status"],
        }
        more = {"dropped": dropped} if dropped else {}
        self.results.put({**status, "ms": round(1000 * seconds, 1), **told, **more})


class _Command:
    """A program that is started for each alarm."""

    kind = "command"

    def __init__(self, text):
        posix = os.name != "nt"  # where a backslash separates folders
        try:
            words = shlex.split(text, posix=posix)
        except ValueError as error:
            raise UsageError(f"`--on-bad-command`: {error}. Received: {text}") from None
        self.words = (
            words if posix else [re.sub(r'^"(.*)"$', r"\1", word) for word in words]
        )
        unknown = set(re.findall(r"\{(\w+)\}", " ".join(self.words))) - set(FIELDS)
        if unknown:
            raise UsageError(
                f"`--on-bad-command`: an alarm has no {min(unknown)!r}. Choose of: "
                f"{', '.join(FIELDS)}."
            )
        if not self.words or shutil.which(self.words[0]) is None:
            raise UsageError(
                f"`--on-bad-command`: there is no program {self.words[0] if words else ''!r}. "
                "Give its whole path, or install it."
            )
        self.target = one_line(self.words[0])[:LETTERS]  # its arguments may hold a secret
        self._stopped = threading.Event()

    def call(self, record):
        kept: list[bytes] = []
        with self._start(record) as process:
            stream, process.stderr = process.stderr, None
            reader = threading.Thread(target=_read_some, args=(stream, kept), daemon=True)
            reader.start()
            with contextlib.suppress(OSError):  # of a program that does not read
                process.stdin.write(encode(record))
            with contextlib.suppress(OSError):
                process.stdin.close()
            status = self._wait(process)
            reader.join(0.5)  # a child of it may hold its standard error for ever
        text = b"".join(kept).decode("utf-8", "replace")
        lines = [one_line(line)[:LETTERS] for line in text.splitlines() if line.strip()]
        return {"status": status} | ({"stderr": lines[:LINES]} if lines else {})

    def stop(self):
        self._stopped.set()

    def _start(self, record):
        values = {name: _text(record.get(name)) for name in FIELDS}
        words = [
            re.sub(r"\{(\w+)\}", lambda match: _argument(values[match[1]]), word)
            for word in self.words
        ]
        variables = {
            f"STM_{name.upper()}": _text(value)
            for name, value in record.items()
            if name.isidentifier() and not isinstance(value, dict | list)
        }
        apart = {
            "start_new_session": True
        }  # so that Ctrl-C is not theirs, and all can be ended
        if os.name == "nt":
            new = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            apart = {"creationflags": new}
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
            **apart,
        )

    def _wait(self, process):
        end = time.monotonic() + TIME_OUT
        while not self._stopped.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=0.05)
                return "ok" if code == 0 else f"exit code {code}"
            if time.monotonic() > end:
                _kill_tree(process)
                return f"ended after {TIME_OUT:g} s"
        _kill_tree(process)
        return "ended: the watching ended"


class _Address:
    """A URL to which each alarm is posted."""

    kind = "url"

    def __init__(self, url, headers):
        if url.startswith(("file:", "env:")):
            url = secret(url, "--on-bad-url")
        self.parts = _http(url)
        port = f":{self.parts.port}" if self.parts.port else ""
        # no more, as a path may be a secret
        self.target = one_line(f"{self.parts.scheme}://{self.parts.hostname}{port}")
        self.headers = {"Content-Type": "application/json"}
        self.headers["User-Agent"] = f"stm-keras/{__version__}"
        self.headers |= dict(map(_header, headers))
        self._stopped = threading.Event()

    def call(self, record):
        for attempt in range(TRIES):
            if attempt and self._stopped.wait(PAUSE * 2 ** (attempt - 1)):
                break
            try:
                code = self._post(encode(record).rstrip())
            except (OSError, http.client.HTTPException) as error:
                status = f"failed ({short(error)})"
                continue
            status = "ok" if 200 <= code < 300 else f"HTTP status {code}"
            if code < 500 and code != 429:  # others may go by
                break
        return {"status": status}

    def stop(self):
        self._stopped.set()

    def _post(self, body):
        parts = self.parts
        connect, port = http.client.HTTPConnection, 80
        if parts.scheme == "https":
            connect, port = http.client.HTTPSConnection, 443
        connection = connect(parts.hostname, parts.port or port, timeout=TIME_OUT)

        late = threading.Event()

        def cut():  # an answer that comes a byte at a time
            late.set()
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(TIME_OUT, cut)
        timer.daemon = True
        timer.start()
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, self.headers)
            code = connection.getresponse().status
            if late.is_set():
                raise TimeoutError("timed out")
            return code
        finally:
            timer.cancel()
            connection.close()


def secret(where: str, option: str) -> str:
    """Return what stands in a file or a variable, from `file:PATH` or `env:NAME`.

    Raises:
        UsageError: `where` is neither, or nothing is there that fits on a line of a request.
        InputError: The file cannot be read.
    """
    kind, _, name = where.partition(":")
    if kind == "file":
        value = read_text(name, "a text file of one line", limit=SECRET_LIMIT).strip()
    elif kind == "env":
        value = os.environ.get(name, "").strip()
    else:
        raise UsageError(
            f"`{option}`: the value of a header is read from a file or a variable, so that it "
            "is seen nowhere. Give file:PATH or env:NAME."
        )
    if not value or not re.fullmatch(r"[\x20-\x7e]+", value):
        what = "is empty" if not value else "holds more than one line of plain ASCII"
        raise UsageError(f"`{option}`: {kind}:{name} {what}.")
    return value


def short(error: Exception) -> str:
    """Say in one line what went wrong, without an address that may be in the message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(text).split("://")[0][:LETTERS]


def _http(url) -> SplitResult:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise UsageError("`--on-bad-url`: must begin with http:// or https:// and a host.")
    if parts.username or parts.password:
        raise UsageError(
            "`--on-bad-url`: holds a name or password, which others can see. Use "
            '`--on-bad-header "Authorization: file:PATH"`.'
        )
    return parts


def _header(text):
    name, _, where = text.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise UsageError(
            '`--on-bad-header`: must read "Name: file:PATH" or "Name: env:NAME".'
        )
    return name, secret(where.strip(), f"--on-bad-header {name}")


def _text(value):
    return "" if value is None else str(value).replace("\0", "")


def _argument(value):
    """Return a value as a part of a word; on Windows a batch file would act on some letters."""
    return re.sub(r'["%&|<>^!\r\n]', "_", value) if os.name == "nt" else value


def _read_some(stream, kept):
    """Keep the first bytes of a stream, and read on, so that its writer never waits."""
    left = KEPT
    with stream, contextlib.suppress(OSError):
        while piece := stream.read1(KEPT):
            if left > 0:
                kept.append(piece[:left])
                left -= len(piece)


def _kill_tree(process):
    """End a program and all that it started."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if os.name == "nt":
            command = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, timeout=1)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
