"""Converters talk: to stdout, to loggers, and from C++ straight to stderr. Not here."""

import contextlib
import io
import logging
import warnings

from stm_keras.terminal import captured


@contextlib.contextmanager
def quiet():
    """Keep what is said inside from the user, who is told the result or one error."""
    disabled = logging.root.manager.disable
    said = io.StringIO()
    try:
        with captured(1, 2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                yield
    finally:
        logging.disable(disabled)
