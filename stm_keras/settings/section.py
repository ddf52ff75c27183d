"""What every table of a config file is, and how one names a function of a user's own."""

import re
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from stm_keras.terminal import printable

GIVEN = "python"  # in place of a file: what was given from Python
OWN = re.compile(rf"(.+\.py|{GIVEN}):[A-Za-z_]\w*")
NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what stands for other bytes of a file name


def _is_own(name: str) -> str:
    if not OWN.fullmatch(name):
        raise ValueError(
            'must be "file.py:function", a Python file and the name of a function in it. '
            f"Received: {printable(name[:80])}"
        )
    return name


OwnName = Annotated[str, AfterValidator(_is_own)]


class Section(BaseModel):
    """A table of a config file: frozen, and an unknown key is an error.

    TOML knows no null, so "none" stands for it where a setting may be left out.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values):
        if not isinstance(values, dict):
            return values
        for name, value in values.items():
            if isinstance(value, str) and NOT_UTF8.search(value):
                raise ValueError(
                    f"`{name}` must be in UTF-8, as a config is. Rename the file, or give a "
                    f"link to it. Received: {printable(value[:80])}"
                )
        optional = {
            name
            for name, item in cls.model_fields.items()
            if type(None) in get_args(item.annotation)
        }
        return {k: None if v == "none" and k in optional else v for k, v in values.items()}
