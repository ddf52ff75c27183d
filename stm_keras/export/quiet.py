"""Converters talk: to stdout, to loggers, and from C++ straight to stderr. Not here."""

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings


@contextlib.contextmanager
def quiet():
    """Keep what is said inside from the user, who is told the result or one error."""
    disabled = logging.root.manager.disable
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with tempfile.TemporaryFile() as told, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            for number in (1, 2):
                os.dup2(told.fileno(), number)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                yield
    finally:
        logging.disable(disabled)
        for number, each in enumerate(kept, 1):
            os.dup2(each, number)
            os.close(each)
