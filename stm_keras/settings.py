"""The tables of a config file, each a class with every default: here and nowhere else.

The defaults are the quickstart, what a bare `stm-keras train` runs.
"""

import functools
import operator
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stm_keras.terminal import printable


class Section(BaseModel):
    """A table of a config file: frozen, and an unknown key is an error.

    TOML knows no null, so "none" stands for it where a setting may be left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values):
        if not isinstance(values, dict):
            return values
        for name, value in values.items():
            if isinstance(value, str) and not value.isascii():
                _check_utf8(name, value)
        optional = {
            name
            for name, item in cls.model_fields.items()
            if type(None) in get_args(item.annotation)
        }
        return {k: None if v == "none" and k in optional else v for k, v in values.items()}


def _check_utf8(name, value):
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"`{name}` must be in UTF-8, as a config is. Rename the file, or give a link to it. "
            f"Received: {printable(value[:80])}"
        ) from None


class DataConfig(Section):
    """Which scans, and how they are split."""

    path: str | None = None  # no path: simulated scans
    protocol: Literal["p1", "p2", "p3"] | None = None  # none: p2 where sessions are known
    fold: int | None = Field(None, ge=0)  # none: one split by `fractions`
    num_folds: int = Field(5, ge=2)
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)  # train, validation, test
    soft_labels: float = Field(0.0, ge=0, le=1)  # share of votes in a target; above 0
    # scans of several classes and begun ones teach as well
    soft_labels_trees: float | None = Field(None, ge=0, le=1)  # of trees beside a network
    # none, or no votes: as `soft_labels`
    labels: int | None = Field(None, gt=0)  # train on so few labelled scans
    others: str | None = None  # scans of other surfaces, which teach what is unknown


class SimulateConfig(Section):
    """The simulated scans that stand in where no data is given, or teach beside it."""

    count: int = Field(10000, gt=0)
    seed: int = Field(0, ge=0)
    share: float = Field(0.0, ge=0, lt=1)  # of a batch, beside the scans of the data
    unknown: float = Field(0.0, ge=0, lt=1)  # of a batch: surfaces not to be known
    p_tip_change: float = Field(0.1, ge=0, le=1)
    p_partial: float = Field(0.0, ge=0, le=1)
    p_medium: float = Field(0.06, ge=0, le=0.5)  # scans of 5.5 to 9 nm
    p_large: float = Field(0.06, ge=0, le=0.5)  # and of 10 to 30 nm


class AugmentConfig(Section):
    """How a training scan is varied before the model sees it.

    The simulator draws angle, size, place and noise itself, so the defaults are mild;
    configs for real scans turn, zoom, pan and add noise.
    """

    flip: bool = True
    rotate: float = Field(0.0, ge=0, le=1)  # probability of a turn by any angle
    zoom: float = Field(0.0, ge=0, lt=0.5)  # largest relative change of size
    pan: float = Field(0.0, ge=0, lt=0.5)  # largest shift, of the scan's width
    noise: float = Field(0.0, ge=0)  # largest noise, in standard deviations of the scan
    line_dropout: float = Field(0.02, ge=0, lt=1)  # share of lines lost
    cut: float = Field(0.1, ge=0, le=1)  # probability to end after a random line
    min_lines: int = Field(8, ge=1)  # the fewest lines that a cut leaves


class CnnSmallConfig(Section):
    """A small convolutional network over the whole scan."""

    input: ClassVar[str] = "standardised"  # a key of `stm_keras.data.preprocess.INPUTS`
    name: Literal["cnn_small"] = "cnn_small"
    width: int = Field(16, gt=0)  # filters of the first convolution
    dropout: float = Field(0.2, ge=0, lt=1)


class CnnConfig(Section):
    """The full-scan CNN of Gordon et al., 2020, a small VGG."""

    input: ClassVar[str] = "standardised"
    name: Literal["cnn"] = "cnn"
    width: int = Field(32, gt=0)  # filters of the first pair of convolutions
    dropout: float = Field(0.2, ge=0, lt=1)


class LrcnConfig(Section):
    """The LRCN of Gordon et al., 2020: that CNN over a rolling window, then an LSTM."""

    input: ClassVar[str] = "standardised"
    name: Literal["lrcn"] = "lrcn"
    window: int = Field(20, gt=0)  # lines that the CNN sees at a time
    stride: int = Field(1, gt=0)  # lines from one window to the next; 1 is the paper's
    width: int = Field(32, gt=0)  # filters of the first pair of convolutions
    units: int = Field(256, gt=0)  # of the LSTM
    dropout: float = Field(0.2, ge=0, lt=1)


class TreesConfig(Section):
    """Boosted trees and logistic regression on spectra: no network, the bar to clear."""

    name: Literal["trees"] = "trees"
    iterations: int = Field(150, gt=0)  # of boosting, a tree for each class
    learning_rate: float = Field(0.1, gt=0)
    leaves: int = Field(8, gt=1)  # of a tree, at most
    regularisation: float = Field(20.0, ge=0)  # L2, of the leaves
    features: float = Field(0.1, gt=0, le=1)  # share that a split chooses among
    logistic: float = Field(0.003, gt=0)  # inverse L2 regularisation of the regression
    begun: int = Field(2, ge=0)  # times that each scan is learned cut after a random line
    refit: bool = True  # at last on the validation scans too, which choose nothing


class VitConfig(Section):
    """A vision transformer whose tokens are scan lines."""

    input: ClassVar[str] = "standardised"
    name: Literal["vit"] = "vit"
    tokenizer: Literal["linear", "conv", "spectra"] = "linear"
    positions: Literal["learned", "sinusoidal"] = "learned"
    layers: int = Field(6, gt=0)
    heads: int = Field(8, gt=0)
    dim: int = Field(256, gt=0)
    mlp_dim: int = Field(1024, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_dim(self):
        if self.dim % self.heads:
            raise ValueError(
                f"`heads` must divide `dim`. Received: heads={self.heads}, dim={self.dim}"
            )
        return self


class SequentialConfig(Section):
    """The streaming network: a verdict after every line."""

    input: ClassVar[str] = "scaled"
    name: Literal["sequential"] = "sequential"
    width: int = Field(16, gt=0)  # filters of the first convolution
    taps: int = Field(3, gt=0)  # lines that a convolution spans; 1 sees each line alone
    mixer: Literal["gru", "attention", "mean"] = "gru"
    units: int = Field(128, gt=0)  # length of a token and of the state
    spectra: int = Field(64, ge=0)  # length added for the spectrum so far, 0 without
    lattice: int = Field(64, ge=0)  # width that reads the lattice so far, 0 without
    trees: int = Field(0, ge=0)  # boosted trees of a class and stage beside the network
    surface: int = Field(0, ge=0)  # width of what `data.others` teaches; 0: a head instead
    layers: int = Field(2, gt=0)  # of attention
    heads: int = Field(4, gt=0)
    window: int = Field(128, gt=0)  # lines that attention looks back on
    dropout: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_units(self):
        if self.mixer == "attention" and self.units % (2 * self.heads):
            raise ValueError(
                "`units` must be a multiple of twice `heads`. Received: "
                f"heads={self.heads}, units={self.units}"
            )
        return self


MODEL_CONFIGS = {
    "cnn": CnnConfig,
    "cnn_small": CnnSmallConfig,
    "lrcn": LrcnConfig,
    "sequential": SequentialConfig,
    "trees": TreesConfig,
    "vit": VitConfig,
}
ModelConfig = Annotated[
    functools.reduce(operator.or_, MODEL_CONFIGS.values()), Field(discriminator="name")
]


class TrainConfig(Section):
    """How to fit."""

    epochs: int = Field(12, gt=0)
    batch_size: int = Field(64, gt=0)
    # batches of an epoch, which then is a part of a pass over the scans; none: a whole pass
    steps_per_epoch: int | None = Field(None, gt=0)
    learning_rate: float = Field(3e-3, gt=0)  # peak, after warm-up
    start_learning_rate: float = Field(1e-6, ge=0)
    warmup_epochs: float = Field(1, ge=0)
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    plateau_patience: int = Field(5, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float | None = Field(1.0, gt=0)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_weight: bool = True  # inverse frequency in the training part
    change_weight: float = Field(0.3, ge=0)  # of the loss of the tip-change head
    unknown_weight: float = Field(0.3, ge=0)  # of the loss of the unknown-surface head
    late_lines: float = Field(0.0, ge=0)  # weight of the last line over the first, less 1
    keep: Literal["best", "last"] = "best"  # epoch by val_auroc, or simply the last
    refit: bool = False  # train again, on the validation scans too, once they calibrated
    calibration_folds: int = Field(1, ge=1)  # with `refit`: models that calibrate together
    init: str | None = None  # a model whose weights to begin with
    # layers that stay as `init` has them; those of "change" find tip changes
    frozen: Literal["none", "stem", "change", "all but change"] = "none"
    layer_decay: float = Field(1.0, gt=0, le=1)  # learning rate of a layer over the next's
    early_stopping: int | None = Field(None, gt=0)  # epochs without a better val_auroc
    ema: float | None = Field(None, gt=0, lt=1)  # momentum of the average of the weights
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _refit_chooses_nothing(self):
        chooses = self.keep == "best" or self.early_stopping or self.schedule == "plateau"
        if self.refit and chooses:
            raise ValueError(
                "`refit` leaves no validation scans to choose by. Use keep=last, and neither "
                "early_stopping nor schedule=plateau"
            )
        return self
