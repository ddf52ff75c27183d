"""Standard input, output and error of a command: safe to write to, whatever is there.

Text from files cannot move the cursor or disguise itself: controls are escaped. Text is in
UTF-8 whatever the locale, and work goes on where nobody reads a stream any more.
"""

import contextlib
import locale
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import ClassVar

# C0, DEL and C1 controls; marks that turn the direction of text; half characters, which
# stand for bytes of a file name that are not UTF-8.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Return a text with `\x1b` and its like in place of control characters.

    Tab and newline stay. Bytes of a file name that are not UTF-8 become `\udc80` and so on, so
    that the result can always be encoded.
    """
    return CONTROLS.sub(lambda match: _escaped(match[0]), str(text))


def one_line(text: object) -> str:
    r"""Return a printable text for a cell or a row: tab and newline as `\t` and `\n` too."""
    return printable(text).replace("\t", r"\t").replace("\n", r"\n")


def shell(words: list[str]) -> str:
    r"""Write a command as a shell reads it; `$'\265'` where a word is not printable."""
    return " ".join(map(_word, words))


class Unwritten(Exception):
    """Standard output cannot be written: its reader is `gone`, or its disk is full."""

    def __init__(self, reason, gone):
        super().__init__(f"Standard output cannot be written ({reason}).")
        self.gone = gone


class Outlet:
    """A stream that escapes controls in all that is written to it, so that no command has to.

    Args:
        stream: open text file.
        needed: bool. Whether a text that cannot be written ends the command. Messages do not:
            without a reader they are lost, and the work goes on.
        escape: callable of str, that makes a text harmless.
    """

    make_room: ClassVar = staticmethod(lambda text: None)  # clears a line of progress first

    def __init__(self, stream, needed=False, escape=printable):
        self.stream, self.needed, self.escape = stream, needed, escape

    def __getattr__(self, name):
        if name in ("stream", "buffer"):  # bytes would pass unseen
            raise AttributeError(name)
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            Unwritten: It cannot be written, and is needed.
        """
        if not isinstance(text, str):
            raise TypeError(f"An outlet takes text. Received: {type(text).__name__}.")
        self.make_room(text)
        if text:  # click tests streams by writing nothing, and ignores the outcome
            self._do(self.stream.write, self.escape(text))
        return len(text)

    def writelines(self, texts):
        """Write several texts."""
        for text in texts:
            self.write(text)

    def flush(self):
        """Write what waits to be written."""
        self._do(self.stream.flush)

    def _do(self, work, *words):
        try:
            work(*words)
        except BlockingIOError:  # a pipe that does not wait; the next text may pass
            if self.needed:
                raise
        except OSError as error:
            with contextlib.suppress(OSError):  # of a stream without a descriptor
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, self.stream.fileno())
                os.close(null)
            if self.needed:
                gone = isinstance(error, BrokenPipeError)
                raise Unwritten(error.strerror, gone) from None


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Make `sys.stdout` and `sys.stderr` outlets, and open streams that are closed.

    A stream that is closed, as in a service, becomes the null device: else the next file that
    is opened would get its descriptor, and what libraries print.
    """
    _open_closed()
    former = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _outlet(sys.stdout, True), _outlet(sys.stderr, False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = former


def console(stderr=False):
    """Return rich's console of standard output or error, in which names are not markup."""
    from rich.console import Console
    from rich.segment import Segment

    class Escaped:
        def __init__(self, drawn):
            self.drawn = drawn

        def __rich_console__(self, console, options):
            for text, style, control in console.render(self.drawn, options):
                yield Segment(text if control else printable(text), style, control)

    class Hook:
        def process_renderables(self, renderables):
            return list(map(Escaped, renderables))

    stream = as_is(sys.stderr if stderr else sys.stdout)
    made = Console(file=stream, highlight=False, markup=False, emoji=False)
    made.push_render_hook(Hook())
    return made


def redraw(text: str, stream) -> None:
    """Show a line of progress on a terminal in place of the one before; "" clears it."""
    if stream.isatty():
        stream = as_is(stream)
        stream.write(f"\r{printable(text)[: columns(stream) - 1]}\x1b[K")
        stream.flush()


def columns(stream) -> int:
    """Return the width of the terminal of a stream, 80 where it is not a terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80


def as_is(stream):
    """Return a stream for what this program draws itself, without escaping."""
    if isinstance(stream, Outlet):
        return Outlet(stream.stream, stream.needed, str)
    return stream


@contextlib.contextmanager
def captured(*numbers: int, tell=False) -> Iterator[None]:
    """Hide what is printed in this block, by C libraries too.

    Args:
        *numbers: 1 for standard output, 2 for standard error.
        tell: bool. Whether to print it after all if an exception ends the block.
    """
    import tempfile  # 10 ms, which `--help` does without

    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(number) for number in numbers]
    with tempfile.TemporaryFile() as output:
        for number in numbers:
            os.dup2(output.fileno(), number)
        failed = None
        try:
            yield
        except Exception as error:
            failed = error
            raise
        finally:
            for number, each in zip(numbers, kept, strict=True):
                os.dup2(each, number)
                os.close(each)
            if failed and tell:
                output.seek(0)
                sys.stderr.write(output.read().decode(errors="replace"))


def use_utf8() -> None:
    """Start Python again in its UTF-8 mode where names of files are in another encoding.

    From version 3.15 on Python does so by itself. In a Latin-1 locale a name would be another
    text than in a UTF-8 one, where the same run may be read again.
    """
    chosen = os.environ.get("PYTHONUTF8") == "1" or sys.flags.ignore_environment
    if sys.getfilesystemencoding() != "utf-8" and not chosen and sys.executable:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _open_closed():
    """Open the null device in place of what is closed."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _outlet(stream, needed):
    if isinstance(stream, Outlet):
        return stream
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding=_encoding(stream), errors="backslashreplace")
    return Outlet(stream, needed)


def _encoding(stream):
    """Return the encoding for a stream: UTF-8, and of a terminal its own."""
    if os.environ.get("PYTHONIOENCODING") or os.name == "nt" and stream.isatty():
        return stream.encoding
    own = locale.getencoding()
    ascii_only = (
        "ascii" in own.lower() or own == "ANSI_X3.4-1968"
    )  # of a locale that is unset
    return own if stream.isatty() and not ascii_only else "utf-8"


def _word(text):
    if one_line(text) == text:
        return shlex.quote(text)
    escaped = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\'" else f"\\{byte:03o}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(escaped)}'"


def _escaped(character):
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
