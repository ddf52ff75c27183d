"""Models as files for others, each compared with the original before it is kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from stm_keras.export.formats import FORMATS, check_pair, choose_format, export_model

if TYPE_CHECKING:
    from stm_keras.inference.predictor import Predictor

__all__ = ["FORMATS", "check_pair", "choose_format", "export_model", "export_onnx"]


def export_onnx(predictor: "Predictor", path: str | Path, overwrite: bool = False) -> dict:
    """Write the step of a streaming model as `.onnx`; see `export_model`."""
    return export_model(predictor, path, "onnx-step", overwrite)
