"""Converters talk: to stdout, to loggers, from C++ straight to stderr, and to the network."""

import contextlib
import importlib
import io
import logging
import sys
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


@contextlib.contextmanager
def no_telemetry():
    """Import and use OpenVINO as where its package that reports to Google is not installed."""
    there = sys.modules.get("openvino_telemetry")
    bound = [m for n, m in sys.modules.items() if n.startswith("openvino.tools.ovc.")]
    bound = [(module, module.tm) for module in bound if hasattr(module, "tm")]
    sys.modules["openvino_telemetry"] = None  # an import fails, and OpenVINO does without
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
