"""What the models are built of and Keras lacks."""

from stm_keras.layers.block import EncoderBlock
from stm_keras.layers.position import ClassToken, Positions
from stm_keras.layers.tokenizer import RecordedLines, ScanlineTokenizer

__all__ = ["ClassToken", "EncoderBlock", "Positions", "RecordedLines", "ScanlineTokenizer"]
