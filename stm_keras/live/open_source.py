"""Find out which source is meant by what a user types."""

from collections.abc import Callable, Iterable
from pathlib import Path

from stm_keras.errors import InputError, UsageError
from stm_keras.inference.find_files import is_dataset
from stm_keras.live.events import Source

SOURCES = (
    "nanonis://HOST, a folder, a file, simulated, push://127.0.0.1:PORT, or - for "
    "standard input"
)
NANONIS, FOLDER, FILE, SIMULATED, PUSH = "nanonis", "folder", "file", "simulated", "push"
OPTIONS = {  # each with the sources that it is for
    "--ports": (NANONIS,),
    "--every": (NANONIS,),
    "--wire": (NANONIS,),
    "--speed": (FILE, SIMULATED),
    "--channel": (NANONIS, FOLDER, FILE),
}


def kind_of(text: str) -> str:
    """Return the kind of a source.

    Raises:
        InputError: It is none, or a file that is not there.
    """
    for kind in (NANONIS, PUSH):
        if text.startswith(f"{kind}://"):
            return kind
    if text == "-":
        return PUSH
    path = Path(text)
    if text == SIMULATED and not path.exists():
        return SIMULATED
    if path.is_dir():
        return FILE if is_dataset(path) else FOLDER
    if path.exists():
        return FILE
    raise InputError(f"{text}: no such file or folder. SOURCE is {SOURCES}.")


def open_source(
    text: str,
    *,
    channel: str | None = None,
    speed: float | None = None,
    every: float | None = None,
    ports: tuple[int, int] | None = None,
    wire: Callable[[str], object] | None = None,
    seen: Iterable[tuple] = (),
) -> Source:
    """Open a source.

    Args:
        text: str, as a user types it.
        channel: str. The image to judge; None for the forward topography.
        speed: float. Lines a second of files and simulated scans.
        every: float. Least seconds between two questions to a microscope for its picture.
        ports: tuple of two int. Of the microscope's controller.
        wire: callable of a str, told of every command that is sent.
        seen: path, size and mtime of files that were judged already.

    Raises:
        InputError: There is no such file.
        UsageError: An option is not for this source, or is not what it must be.
    """
    kind = kind_of(text)
    given = {"--ports": ports, "--every": every, "--wire": wire, "--speed": speed}
    for option, value in {**given, "--channel": channel}.items():
        if value is not None and kind not in OPTIONS[option]:
            raise UsageError(
                f"`{option}` is not for this source ({kind}). Leave it out, or give one of "
                f"{', '.join(OPTIONS[option])}."
            )
    if kind == NANONIS:
        from stm_keras.live.nanonis import NanonisSource, parse_url

        host, last_two = parse_url(text)
        more = {} if every is None else {"every": every}
        return NanonisSource(host, ports or last_two, channel=channel, wire=wire, **more)
    if kind == PUSH:
        from stm_keras.live.push import PushSource

        return PushSource(text)
    if kind == FOLDER:
        from stm_keras.live.folder import FolderSource

        return FolderSource(text, channel, seen=seen)
    if kind == SIMULATED:
        from stm_keras.live.simulated import SimulatedSource

        return SimulatedSource(speed)
    from stm_keras.live.replay import ReplaySource

    return ReplaySource(text, speed, channel)
