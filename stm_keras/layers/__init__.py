"""What the models are built of and Keras lacks."""

from stm_keras.layers.boosted import BoostedTrees
from stm_keras.layers.causal import (
    CausalConv,
    LineChannels,
    LineSummary,
    LineWindow,
    Recurrent,
    RunningMean,
)
from stm_keras.layers.dropout import HashedDropout
from stm_keras.layers.lattice import LastFeatures, RunningLattice
from stm_keras.layers.position import ClassToken, Positions
from stm_keras.layers.spectra import RunningSpectra
from stm_keras.layers.statistics import RunningStatistics
from stm_keras.layers.tokenizer import RecordedLines, ScanlineTokenizer
from stm_keras.layers.transformer import CausalBlock, EncoderBlock
from stm_keras.layers.windows import HoldAnswers, RollingWindows, WindowSequences

__all__ = [
    "BoostedTrees",
    "CausalBlock",
    "CausalConv",
    "ClassToken",
    "EncoderBlock",
    "HashedDropout",
    "HoldAnswers",
    "LastFeatures",
    "LineChannels",
    "LineSummary",
    "LineWindow",
    "Positions",
    "RecordedLines",
    "Recurrent",
    "RollingWindows",
    "RunningLattice",
    "RunningMean",
    "RunningSpectra",
    "RunningStatistics",
    "ScanlineTokenizer",
    "WindowSequences",
]
