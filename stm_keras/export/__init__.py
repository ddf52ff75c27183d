"""Models as files for others, each compared with the original before it is kept."""

from stm_keras.export.keras_file import export_keras
from stm_keras.export.onnx_step import export_onnx

FORMATS = {"keras": export_keras, "onnx": export_onnx}

__all__ = ["FORMATS", "export_keras", "export_onnx"]
