"""The errors a user can cause, and what a command exits with.

StmKerasError            1  anything below
├── UsageError           2  an argument or option makes no sense
│   ├── ConfigError      2  a config file or `--set` is wrong
│   └── BackendError     2  the backend asked for is unknown or not installed
├── InputError           3  a file is missing or cannot be read
│   ├── DatasetError     3  a file can be read, but is not a usable dataset
│   └── ScanError        3  a scan file is damaged, or holds no image
│       ├── NoImageError 3  it is whole, and holds something other than an image
│       └── UnclearError 3  it holds scans, but not which array or axis they are
├── MismatchError        4  model and data do not fit
│   └── NotFiniteError   4  the network gives NaN or infinity
├── OutputError          1  a result cannot be written, or exists already
├── TrainingError        1  training cannot go on
└── MissingExtraError    1  an optional package is not installed
"""

import os
from importlib import import_module

SILENT = {  # variable that turns telemetry of a package off; to be set before its import
    "onnxruntime": "ORT_DISABLE_TELEMETRY",
}
SOURCE = "."  # what pip installs: a checkout; "stm-keras" once it is in a registry


class StmKerasError(Exception):
    """An error that the user can fix. The message is one line and says how."""

    exit_code = 1


class UsageError(StmKerasError):
    """An argument or option makes no sense."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file or `--set` is wrong."""


class BackendError(UsageError):
    """The backend asked for is unknown or not installed."""


class InputError(StmKerasError):
    """A file is missing or cannot be read."""

    exit_code = 3


class DatasetError(InputError):
    """A file can be read, but is not a usable dataset."""


class ScanError(InputError):
    """A scan file is damaged, of an unknown format, or holds no image."""


class NoImageError(ScanError):
    """A file of a microscope is whole, but holds curves, a grid or settings."""


class UnclearError(ScanError):
    """A file holds scans, but nothing says which array, or which axis, they are."""


class MismatchError(StmKerasError):
    """Model and data do not fit."""

    exit_code = 4


class NotFiniteError(MismatchError):
    """The network gives NaN or infinity, for every scan or an odd one."""


class OutputError(StmKerasError):
    """A result cannot be written, or exists already."""


class TrainingError(StmKerasError):
    """Training cannot go on."""


class MissingExtraError(StmKerasError):
    """An optional package is not installed."""


def install(extra: str) -> str:
    """Return the command that installs stm-keras with an extra, as docs write it too."""
    return f'pip install "{SOURCE}[{extra}]"'


def how_to_install(extra: str) -> str:
    """Return the sentence that ends a message about a package that is missing."""
    where = " in the source folder of stm-keras" if SOURCE == "." else ""
    return f"Run{where}: {install(extra)}"


def require(module, extra):
    """Import an optional package, without its telemetry, or say what to install.

    Args:
        module: str. Dotted name of the module.
        extra: str. The extra of stm-keras that installs it.

    Raises:
        MissingExtraError: The package is not installed.
    """
    switch = SILENT.get(module.split(".")[0])
    if switch is not None:
        os.environ.setdefault(switch, "1")
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{module.split('.')[0]} is not installed. {how_to_install(extra)}"
        ) from None
