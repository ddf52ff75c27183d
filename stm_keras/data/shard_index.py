"""The index of a sharded dataset: which files it has, and what they must hold.

A sharded dataset is a folder with `shards.json` and shards, each of which is a dataset as
`save_dataset` writes it and can be read alone.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stm_keras.errors import DatasetError, InputError
from stm_keras.records import Bounds, Count, Record, Text, check_record
from stm_keras.untrusted import read_json

INDEX = "shards.json"
BEGUN = "shards.part"  # instead of the index while shards are being written
FORMAT = "stm-keras shards"
VERSION = 1
LARGEST = 1 << 28  # bytes of the index: a line a shard


def _plain_name(text):
    if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,254}", text):
        raise ValueError("is not the name of a file in this folder")
    return text


class Shard(Record):
    """What the index says of a shard; its name leads to no other folder."""

    file: Annotated[str, AfterValidator(_plain_name)]
    scans: Annotated[int, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0, lt=2**53)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    heights: Bounds = None  # the lowest and the highest that was recorded

    @model_validator(mode="after")
    def _each_scan_takes_a_byte(self):
        if self.scans > self.bytes:
            raise ValueError(f"{self.bytes} bytes cannot hold {self.scans} scans")
        return self


class ShardLayout(Record):
    """What all shards of a dataset have alike."""

    shape: Annotated[  # of a scan: lines, pixels
        list[Annotated[int, Field(gt=0, le=2**16)]], Field(min_length=2, max_length=2)
    ]
    dtype: Literal["uint8", "int8", "uint16", "int16", "float16", "float32", "float64"]
    classes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1000)
    ]
    fields: list[Annotated[str, Field(pattern=r"^[a-z_]{1,200}$")]]  # of `Dataset`
    parameters: list[Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,200}$")]]
    source: Text

    @model_validator(mode="after")
    def _named_once(self):
        for names in (self.classes, self.fields, self.parameters):
            if len(set(names)) < len(names):
                raise ValueError("a name is there twice")
        return self


class ShardIndex(ShardLayout):
    """What `shards.json` says; `settings` is what was asked for when they were written."""

    scans: Count
    settings: dict
    shards: Annotated[list[Shard], Field(min_length=1)]

    @model_validator(mode="after")
    def _add_up(self):
        names = {shard.file for shard in self.shards}
        if len(names) < len(self.shards) or self.scans != sum(s.scans for s in self.shards):
            raise ValueError("its shards do not add up")
        return self

    def digest(self) -> str:
        """Return a SHA-256 over those of the shards, in their order."""
        text = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of `shards.json`, one line a shard."""
        table = {"format": FORMAT, "version": VERSION, "scans": self.scans}
        table |= self.model_dump(exclude={"shards"})
        head = json.dumps(table, indent=1, allow_nan=False)[:-2]
        rows = ",\n".join(
            f"  {json.dumps(shard.model_dump(), allow_nan=False)}" for shard in self.shards
        )
        return f'{head},\n "shards": [\n{rows}\n ]\n}}\n'


def is_sharded(path: str | Path) -> bool:
    """Tell whether a folder is a sharded dataset, complete or begun."""
    return any((Path(path) / name).is_file() for name in (INDEX, BEGUN))


def read_index(folder: str | Path) -> ShardIndex:
    """Read the index of a sharded dataset, and see that its shards are there."""
    path = Path(folder) / INDEX
    if not path.is_file() and (path.parent / BEGUN).is_file():
        raise InputError(
            f"{folder}: its shards were not all written. Run the command that began it "
            "again: it goes on."
        )
    table = read_json(path, "the folder of a dataset", DatasetError, LARGEST)
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise DatasetError(f"{path}: is not an index of shards. Give a dataset.")
    version = table.get("version")
    if version != VERSION:
        version = version if type(version) is int else "?"
        raise DatasetError(
            f"{path}: was written in version {version} of the format; this stm-keras reads "
            f"version {VERSION}. Update stm-keras, or write the shards again."
        )
    index = check_record(ShardIndex, table, path, DatasetError)
    for shard in index.shards:
        _check_size(path.parent / shard.file, shard, len(index.shards))
    return index


def verify_shards(
    folder: str | Path, progress: Callable[[int, int], None] | None = None
) -> ShardIndex:
    """Compare every shard with its SHA-256; `progress` takes bytes read and bytes in all."""
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


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
