"""Converters talk: to stdout, to loggers, from C++ straight to stderr, and to the network."""

import contextlib
import importlib
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


@contextlib.contextmanager
def no_telemetry():
    """Import and use OpenVINO as where its package that reports to Google is not installed."""
    there = sys.modules.get("openvino_telemetry")
    bound = [m for n, m in sys.modules.items() if n.startswith("openvino.tools.ovc.")]
    bound = [(module, module.tm) for module in bound if hasattr(module, "tm")]
    sys.modules["openvino_telemetry"] = (
        None  # an import of it fails, and OpenVINO does without
    )
    try:
        for module, _ in bound:  # of a program that imported OpenVINO before
            module.tm = importlib.import_module("openvino.tools.ovc.telemetry_stub")
        yield
    finally:
        for module, reports in bound:
            module.tm = reports
        del sys.modules["openvino_telemetry"]
        if there is not None:
            sys.modules["openvino_telemetry"] = there
