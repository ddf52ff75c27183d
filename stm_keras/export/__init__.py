"""Models as files for others, each compared with the original before it is kept."""

from stm_keras.export.keras_file import export_keras

FORMATS = {"keras": export_keras}

__all__ = ["FORMATS", "export_keras"]
