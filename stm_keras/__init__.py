"""The tip-state engine for scanning tunnelling microscopes.

Names are looked up when they are first used, so `import stm_keras` loads nothing; see
docs/python.md for what they do.
"""

from importlib import import_module

__version__ = "0.2.0"

NAMES = {  # public name: module
    "use_backend": "backend",
    "Scan": "scan",
    "read_scan": "readers",
    "fit_scan": "inference.inputs",
    "read_scan_file": "inference.inputs",
    "Dataset": "data.dataset",
    "load_dataset": "data.load",
    "save_dataset": "data.load",
    "load_config": "config",
    "Run": "training.python",
    "train": "training.python",
    "adapt": "experiments.adapt_run",
    "Predictor": "inference.predictor",
    "KerasPredictor": "inference.keras_predictor",
    "load_predictor": "inference.model_file",
    "load_model": "inference.model_file",
    "shipped_path": "inference.find_model",
    "scan_verdicts": "inference.judge",
    "LineStream": "inference.stream",
    "OnnxPredictor": "inference.onnx_model",
    "OnnxScanPredictor": "inference.onnx_model",
    "OnnxStream": "inference.onnx_model",
    "load_onnx": "inference.onnx_model",
    "verdict_of": "inference.judge",
    "load_scans": "inference.prediction",
    "predict": "inference.prediction",
    "Prediction": "inference.prediction",
    "draw_scan": "data.draw",
    "export_model": "export.formats",
    "StmKerasError": "errors",
}
__all__ = ["__version__", *NAMES]


def __getattr__(name):
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{NAMES[name]}"), name)


def __dir__():
    return sorted(__all__)
