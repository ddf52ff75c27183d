"""The index of a sharded dataset: which files it has, and what they must hold.

A sharded dataset is a folder with `shards.json` and shards, each of which is a dataset as
`save_dataset` writes it and can be read alone.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stm_keras.errors import DatasetError, InputError
from stm_keras.records import Bounds, Count, Place, Record
from stm_keras.untrusted import read_json

INDEX = "shards.json"
JOURNAL = "shards.part"  # instead of the index while shards are being written
FORMAT = "stm-keras shards"
VERSION = 1
LARGEST = 1 << 28  # bytes of the index: a line a shard
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """What the index says of a shard.

    Args:
        file: str. Its name in the folder.
        scans: int.
        bytes: int. Size of the file.
        sha256: str. Of the file.
        heights: list of the lowest and the highest recorded height, or None.
    """

    file: str
    scans: int
    bytes: int
    sha256: str
    heights: list | None = None


@dataclass(frozen=True)
class ShardIndex:
    """What `shards.json` says.

    Args:
        shape: list of int. Lines and pixels of a scan.
        dtype: str. Of the images.
        classes: list of str.
        fields: list of str. The arrays beside the images, see `Dataset`.
        parameters: list of str. Names of what the simulator drew.
        source: str. Where the scans come from.
        settings: dict. What was asked for when the shards were written.
        shards: tuple of `Shard`, in the order of their scans.
    """

    shape: list
    dtype: str
    classes: list
    fields: list
    parameters: list
    source: str
    settings: dict
    shards: tuple

    @property
    def scans(self):
        """Number of scans, int."""
        return sum(shard.scans for shard in self.shards)

    def digest(self):
        """Return a SHA-256 over those of the shards, in their order."""
        text = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self):
        """Return the text of `shards.json`, one line a shard."""
        table = {"format": FORMAT, "version": VERSION, "scans": self.scans, **vars(self)}
        del table["shards"]
        head = json.dumps(table, indent=1, allow_nan=False)[:-2]
        rows = ",\n".join(
            f"  {json.dumps(asdict(shard), allow_nan=False)}" for shard in self.shards
        )
        return f'{head},\n "shards": [\n{rows}\n ]\n}}\n'


def is_sharded(path):
    """Tell whether a folder is a sharded dataset, complete or begun."""
    path = Path(path)
    return (path / INDEX).is_file() or (path / JOURNAL).is_file()


def read_index(folder):
    """Read the index of a sharded dataset, and see that its shards are there.

    Args:
        folder: str or `Path`.

    Returns:
        `ShardIndex`.

    Raises:
        InputError: It cannot be read, or the shards were not all written.
        DatasetError: It is damaged or of another version, or a shard is missing or of
            another size.
    """
    path = Path(folder) / INDEX
    if not path.is_file() and (path.parent / JOURNAL).is_file():
        raise InputError(
            f"{folder}: its shards were not all written. Type the command that began it "
            "again: it goes on."
        )
    index = _checked(
        path, read_json(path, "the folder of a dataset", DatasetError, LARGEST)
    )
    for shard in index.shards:
        _check_size(path.parent / shard.file, shard, len(index.shards))
    return index


def verify_shards(folder, progress=None):
    """Compare every shard with its SHA-256.

    Args:
        folder: str or `Path`.
        progress: callable of (bytes read, bytes in all), or None.

    Returns:
        `ShardIndex`.

    Raises:
        DatasetError: A shard is damaged.
    """
    index = read_index(folder)
    total, done = sum(shard.bytes for shard in index.shards), 0
    for shard in index.shards:
        path = Path(folder) / shard.file
        if file_sha256(path) != shard.sha256:
            raise DatasetError(
                f"{path}: is damaged: its SHA-256 is not that of {INDEX}. Copy it again."
            )
        done += shard.bytes
        if progress:
            progress(done, total)
    return index


def file_sha256(path):
    """Return the SHA-256 of a file as text."""
    state = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _checked(path, table):
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise DatasetError(f"{path}: is no index of shards. Give a dataset.")
    version = table.get("version")
    if version != VERSION:
        version = version if type(version) is int else "?"
        raise DatasetError(
            f"{path}: was written in version {version} of the format; this stm-keras reads "
            f"version {VERSION}. Update stm-keras, or write the shards again."
        )
    from stm_keras.records import check_record

    check_record(Shards, table, path, DatasetError)
    shards = tuple(_known(Shard, shard) for shard in table["shards"])
    return _known(ShardIndex, {**table, "shards": shards})


def _known(kind, table):
    """Make a dataclass of what it knows of a table; a later version may add to it."""
    return kind(
        **{each.name: table[each.name] for each in fields(kind) if each.name in table}
    )


def _check_size(path, shard, count):
    try:
        size = path.stat().st_size
    except OSError:
        raise DatasetError(
            f"{path}: is missing, one of {count} shards. Copy it again."
        ) from None
    if size != shard.bytes:
        raise DatasetError(
            f"{path}: has {size} bytes, and {INDEX} says {shard.bytes}. It is cut short or "
            "of another dataset: copy it again."
        )


def _plain_name(text):
    if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,254}", text):
        raise ValueError("is no name of a file in this folder")
    return text


class ShardFile(Record):
    """A file of a sharded dataset; its name leads nowhere else."""

    file: Annotated[str, AfterValidator(_plain_name)]
    scans: Annotated[int, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0, lt=2**53)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    heights: Bounds = None

    @model_validator(mode="after")
    def _each_scan_takes_a_byte(self):
        if self.scans > self.bytes:
            raise ValueError(f"{self.bytes} bytes cannot hold {self.scans} scans")
        return self


class ShardFacts(Record):
    """What all shards of a dataset have alike."""

    shape: Annotated[
        list[Annotated[int, Field(gt=0, le=2**16)]], Field(min_length=2, max_length=2)
    ]
    dtype: Literal["uint8", "int8", "uint16", "int16", "float16", "float32", "float64"]
    classes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1000)
    ]
    fields: list[Annotated[str, Field(pattern=r"^[a-z_]{1,200}$")]]
    parameters: list[Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,200}$")]]
    source: Place

    @model_validator(mode="after")
    def _named_once(self):
        for names in (self.classes, self.fields, self.parameters):
            if len(set(names)) < len(names):
                raise ValueError("a name is there twice")
        return self


class Shards(ShardFacts):
    """The index of a sharded dataset: shards.json."""

    scans: Count
    settings: dict
    shards: Annotated[list[ShardFile], Field(min_length=1)]

    @model_validator(mode="after")
    def _add_up(self):
        names = {shard.file for shard in self.shards}
        if len(names) < len(self.shards) or self.scans != sum(s.scans for s in self.shards):
            raise ValueError("its shards do not add up")
        return self
