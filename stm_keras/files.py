"""Write a result whole or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from stm_keras.errors import OutputError


@contextmanager
def atomic(path, overwrite=False):
    """Yield a temporary path beside `path` and rename it when all went well.

    A full disk, an error or a kill leaves `path` as it was: missing, or old.

    Args:
        path: str or `Path`. Where the result goes. Missing folders are made.
        overwrite: bool. Whether an existing result may be replaced.

    Yields:
        `Path` of the temporary file, with the suffix of `path`.

    Raises:
        OutputError: `path` exists, or its folder cannot be written or is full.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder. Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that others cannot read
        temporary.replace(path)
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(path):
    """Make a folder and see that a file can be written there.

    Args:
        path: str or `Path`.

    Returns:
        `Path` of the folder.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    return path


def _reason(path, error):
    return f"{path}: cannot be written ({error.strerror or error}). Choose another place."
