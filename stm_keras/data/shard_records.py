"""What the index and the journal of a sharded dataset must hold to be worked with."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stm_keras.records import Bounds, Count, Place, Record


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
