"""Read text, JSON, TOML and zip archives that anybody may have written.

One function each. What they return is plain, of a bounded size and depth; what is wrong
becomes one line. What the values mean is for the caller to check.

In all of them `what` says what should be given, with its article, for the message; `error` is
the class that is raised; `limit` is the most bytes.
"""

import json
import re
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

from stm_keras.errors import InputError, StmKerasError

MAX_TEXT = 16 << 20  # bytes of a text, and of a member of an archive that is one
MAX_TOML = 1 << 20  # bytes; people write it
MAX_ARRAYS = 1 << 32  # bytes of all arrays of an archive
MAX_DEPTH = 100  # of objects and arrays in one another; Keras' own configs have about 40
MAX_DIGITS = 400  # of a number: float64 has no more
LARGEST = 1 << 64  # a whole number is below; beyond, not every reader knows it
MAX_MEMBERS = 10_000  # of an archive
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = "{}: is damaged ({}). Copy or make it again."
DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
)


def ordinary_file(
    path: str | Path, what: str = "a file", error: type[StmKerasError] = InputError
) -> Path:
    """Return a path if it is a file that ends: not a folder, FIFO, socket or device."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise error(f"{path}: does not exist. Give {what}.") from None
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        text = getattr(reason, "strerror", None) or reason
        raise error(f"{path}: cannot be read ({text}). Give {what}.") from None
    if stat.S_ISDIR(mode):
        raise error(f"{path}: is a folder. Give {what}.")
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is not an ordinary file. Give {what}.")
    return path


def read_text(
    path: str | Path,
    what: str = "a text file",
    error: type[StmKerasError] = InputError,
    limit: int = MAX_TEXT,
) -> str:
    """Read a text in UTF-8, with a byte order mark or without, whatever the locale."""
    data = read_data(path, what, error, limit)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as reason:
        raise error(
            f"{path}: is not in UTF-8 (byte {reason.start}). Give {what}, saved in UTF-8."
        ) from None


def read_data(
    path: str | Path,
    what: str,
    error: type[StmKerasError] = InputError,
    limit: int = MAX_TEXT,
) -> bytes:
    """Read all bytes of an ordinary file."""
    path = ordinary_file(path, what, error)
    data = bytearray()
    try:
        with path.open("rb") as file:  # in pieces: `read` gets all of its memory at once
            while len(data) <= limit and (piece := file.read(1 << 20)):
                data += piece
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror or reason}).") from None
    if len(data) > limit:
        raise error(f"{path}: has more than {limit >> 20} MiB, too much for {what}.")
    return bytes(data)


def parse_json(
    text: str | bytes,
    name: str,
    error: type[StmKerasError] = InputError,
    limit: int = MAX_TEXT,
    form: str = DAMAGED,
    gaps: bool = False,
) -> object:
    """Read JSON: finite numbers, and nothing deeper than `MAX_DEPTH`.

    `name` says where the text comes from, for the message, and `form` what the message is.
    With `gaps` a number may be NaN.
    """
    try:
        if len(text) > limit:
            raise ValueError(f"more than {limit >> 20} MiB")
        value = json.loads(
            text,
            parse_constant=_nan if gaps else _not_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
        _check(value)
    except RecursionError:
        raise error(form.format(name, "nested too deeply")) from None
    except UnicodeDecodeError as reason:
        where = f"byte {reason.start} is not in UTF-8"
        raise error(form.format(name, where)) from None
    except ValueError as reason:
        raise error(form.format(name, reason)) from None
    return value


def read_json(
    path: str | Path,
    what: str = "a JSON file",
    error: type[StmKerasError] = InputError,
    limit: int = MAX_TEXT,
) -> object:
    """Read a JSON file, as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, what, error, limit), str(path), error, limit)


def parse_toml(text: str, name: str, error: type[StmKerasError] = InputError) -> dict:
    """Read TOML: whole numbers of 64 bits, and nothing deeper than `MAX_DEPTH`.

    NaN and inf, which TOML has, are for the caller to refuse.
    """
    try:
        if len(text) > MAX_TOML:
            raise ValueError(f"more than {MAX_TOML >> 20} MiB")
        if re.search(rf"[0-9_]{{{MAX_DIGITS}}}", text):
            raise ValueError(f"a number of more than {MAX_DIGITS} digits")
        keys = re.finditer(r"[^\n=\[\]{},#]+", re.sub(r"[ \t]", "", text))
        if any(each[0].count(".") > MAX_DEPTH for each in keys):
            raise ValueError("nested too deeply")  # which takes tomllib minutes to do
        value = tomllib.loads(text)
        _check(value)
    except RecursionError:
        raise error(f"{name}: is not TOML (nested too deeply).") from None
    except ValueError as reason:  # tomllib.TOMLDecodeError is one
        raise error(f"{name}: is not TOML ({reason}).") from None
    return value


@contextmanager
def open_archive(
    path: str | Path,
    what: str,
    error: type[StmKerasError] = InputError,
    limit: int | None = None,
) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose members are plain, and turn what is wrong into one line.

    `path` may be an open binary file with a name, and `limit` is of all members unpacked.
    `error` is raised too while the archive is read in the block.
    """
    if isinstance(path, str | Path):
        path = ordinary_file(path, what, error)
    name = path if isinstance(path, Path) else getattr(path, "name", "archive")
    try:
        with zipfile.ZipFile(path) as archive:
            members = plain_members(archive)
            if limit is not None and sum(each.file_size for each in members) > limit:
                raise error(
                    f"{name}: unpacks to more than {limit / 2**20:.0f} MiB, too much for "
                    f"{what}."
                )
            yield archive
    except StmKerasError:
        raise
    except DAMAGED_ZIP as reason:
        text = getattr(reason, "strerror", None) or str(reason).split("\n")[0][:200]
        raise error(
            f"{name}: cannot be read ({text}). Give {what} that is whole."
        ) from None


def plain_members(archive: zipfile.ZipFile) -> list:
    """Return the members of an open archive, list of `zipfile.ZipInfo`.

    Raises:
        ValueError: One is encrypted, compressed in an unknown way, or there twice; or they
            are too many.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members)} members")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two members have one name")
    if any(member.flag_bits & 1 for member in members):
        raise ValueError("it is encrypted")
    unknown = {member.compress_type for member in members} - set(PLAIN)
    if unknown:
        raise ValueError(f"packed by zip method {min(unknown)}, not stored or deflated")
    return members


def read_arrays(
    path: str | Path,
    what: str,
    error: type[StmKerasError] = InputError,
    limit: int = MAX_ARRAYS,
) -> dict:
    """Read all arrays of an NPZ archive, whose sizes are what is stored: dict of str to array."""
    from numpy.lib import format as npy  # late: readers of texts do without

    arrays = {}
    with open_archive(path, what, error, limit) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            try:
                with archive.open(member) as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)
            except (TypeError, SyntaxError, TokenError, MemoryError) as reason:
                raise ValueError(f"{member.filename}: {reason}") from None
    return arrays


def _nan(text):
    return float("nan") if text == "NaN" else _not_finite(text)


def _not_finite(text):
    raise ValueError(f"a number that is not finite: {text}")


def _finite(text):
    value = float(text) if len(text) <= MAX_DIGITS else float("inf")
    return value if abs(value) != float("inf") else _not_finite(text[:40])


def _whole(text):
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _check(value):
    """Raise a `ValueError` where values lie too deep or are too large; no recursion here."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = []
        for node in level:
            if isinstance(node, dict):
                inner += node.values()
            elif isinstance(node, list):
                inner += node
            elif isinstance(node, int) and abs(node) >= LARGEST:
                raise ValueError("a whole number beyond 64 bits")
        level = inner
        if not level:
            return
    raise ValueError("nested too deeply")
