"""Verdicts line by line, and exported models, with numpy and onnxruntime alone."""

from stm_keras.inference.judge import scan_verdicts, verdict_of
from stm_keras.inference.onnx_model import OnnxPredictor, OnnxStream
from stm_keras.inference.onnx_scan import OnnxScanPredictor, load_onnx

__all__ = [
    "OnnxPredictor",
    "OnnxScanPredictor",
    "OnnxStream",
    "load_onnx",
    "scan_verdicts",
    "verdict_of",
]
