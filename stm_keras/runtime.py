"""The former place of names that are now in `stm_keras` itself, such as `load_onnx`.

`from stm_keras.runtime import load_onnx` still works, and so does the same from what was the
module `stm_keras.runtime.onnx_model`; both warn.
"""

import sys
import warnings

import stm_keras

NAMES = (
    "OnnxPredictor",
    "OnnxScanPredictor",
    "OnnxStream",
    "load_onnx",
    "scan_verdicts",
    "verdict_of",
)
__all__ = list(NAMES)  # noqa: PLE0605
sys.modules[f"{__name__}.onnx_model"] = sys.modules[__name__]


def __getattr__(name):
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"`stm_keras.runtime` is now `stm_keras`: from stm_keras import {name}.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(stm_keras, name)
