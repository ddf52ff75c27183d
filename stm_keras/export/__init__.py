"""Models as files for others, each compared with the original before it is kept."""

from stm_keras.export.formats import FORMATS, check_pair, choose_format, export_model

__all__ = ["FORMATS", "check_pair", "choose_format", "export_model"]
