"""Models as files for others, each compared with the original before it is kept."""

from stm_keras.export.formats import FORMATS, check_pair, choose_format, export_model

__all__ = ["FORMATS", "check_pair", "choose_format", "export_model", "export_onnx"]


def export_onnx(predictor, path, overwrite=False):
    """Write the step of a streaming model as `.onnx`; see `export_model`."""
    return export_model(predictor, path, "onnx-step", overwrite)
