"""The tables of a config file, each a class with every default: here and nowhere else.

The defaults are the quickstart, what a bare `stm-keras train` runs.
"""

import re
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stm_keras.terminal import printable

Protocol = Literal["p1", "p2", "p3"]
NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what stands for other bytes of a file name


class Section(BaseModel):
    """A table of a config file: frozen, and an unknown key is an error.

    TOML knows no null, so "none" stands for it where a setting may be left out.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values):
        if not isinstance(values, dict):
            return values
        for name, value in values.items():
            if isinstance(value, str) and NOT_UTF8.search(value):
                raise ValueError(
                    f"`{name}` must be in UTF-8, as a config is. Rename the file, or give a "
                    f"link to it. Received: {printable(value[:80])}"
                )
        optional = {
            name
            for name, item in cls.model_fields.items()
            if type(None) in get_args(item.annotation)
        }
        return {k: None if v == "none" and k in optional else v for k, v in values.items()}


class DataConfig(Section):
    """Which scans, and how they are split."""

    path: str | None = None
    """Dataset to train on: an HDF5, NPZ or MAT file, or a folder of shards or pictures. Without
    it the scans are simulated."""
    protocol: Protocol | None = None
    """How scans are split: p1 by scan, p2 by session, p3 by campaign. Default: p2 where the
    sessions are known, else p1."""
    fold: int | None = Field(None, ge=0)
    """Fold that is the test part. Without it there is one split, by `data.fractions`."""
    num_folds: int = Field(5, ge=2)
    """Number of folds; p3 has one for each campaign instead."""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Fractions of the training, validation and test part; they sum to 1."""
    soft_labels: float = Field(0.0, ge=0, le=1)
    """Share of the raters' votes in the target of a scan; the rest is its class. Above 0 a scan
    counts the more the more raters saw it, and scans of several classes and partial scans are
    trained on too."""
    soft_labels_trees: float | None = Field(None, ge=0, le=1)
    """The same for the boosted trees beside a network. Default, and where the data has no
    votes: `data.soft_labels`."""
    labels: int | None = Field(None, gt=0)
    """Number of labelled scans to train on, drawn from the training part, to see what a small
    labelled set is good for. Default: all."""
    others: str | None = None
    """Dataset of scans of other surfaces, which the model is trained to call unknown."""
    residence: Literal["auto", "device", "host"] = "auto"
    """Where training scans live: on the device, where they are varied in front of the network, or
    on the host, which makes batches of them. auto: on a GPU, if they fit a quarter of its
    memory."""


class SimulateConfig(Section):
    """Simulated scans: in place of a dataset, or beside it."""

    count: int = Field(10000, gt=0)
    """Number of simulated scans, where no dataset is given."""
    seed: int = Field(0, ge=0)
    """Seed of the simulator."""
    share: float = Field(0.0, ge=0, lt=1)
    """Share of every batch that is simulated, beside the scans of the dataset."""
    unknown: float = Field(0.0, ge=0, lt=1)
    """Share of every batch that is simulated scans of other surfaces, which the model is
    trained to call unknown."""
    p_tip_change: float = Field(0.1, ge=0, le=1)
    """Probability that the tip changes during a scan."""
    p_partial: float = Field(0.0, ge=0, le=1)
    """Probability that a scan is aborted before its last line."""
    p_medium: float = Field(0.06, ge=0, le=0.5)
    """Probability of a scan that is 5.5 to 9 nm wide."""
    p_large: float = Field(0.06, ge=0, le=0.5)
    """Probability of a scan that is 10 to 30 nm wide; the rest is 3 to 4.6 nm."""


class AugmentConfig(Section):
    """How a training scan is varied before the model sees it.

    The simulator draws angle, size, position and noise itself, so the defaults are mild;
    configs for real scans turn, zoom, pan and add noise.
    """

    flip: bool = True
    """Mirror scans at random: left to right, top to bottom, or both."""
    rotate: float = Field(0.0, ge=0, le=1)
    """Probability that a scan is turned, by any angle."""
    zoom: float = Field(0.0, ge=0, lt=0.5)
    """Largest relative change of a scan's size."""
    pan: float = Field(0.0, ge=0, lt=0.5)
    """Largest shift, in widths of the scan."""
    noise: float = Field(0.0, ge=0)
    """Largest standard deviation of the white noise that is added, in standard deviations of
    the scan."""
    line_dropout: float = Field(0.02, ge=0, lt=1)
    """Share of the lines that are left out, at random."""
    cut: float = Field(0.1, ge=0, le=1)
    """Probability that a scan ends after a random line."""
    min_lines: int = Field(8, ge=1)
    """Fewest lines that such a cut leaves."""


class CnnSmallConfig(Section):
    """A small convolutional network over the whole scan."""

    input: ClassVar[str] = "standardised"  # a key of `stm_keras.data.preprocess.INPUTS`
    name: Literal["cnn_small"] = "cnn_small"
    """Which model."""
    width: int = Field(16, gt=0)
    """Filters of the first convolution."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate before the last layer."""


class CnnConfig(Section):
    """The full-scan CNN of Gordon et al., 2020, a small VGG."""

    input: ClassVar[str] = "standardised"
    name: Literal["cnn"] = "cnn"
    """Which model."""
    width: int = Field(32, gt=0)
    """Filters of the first pair of convolutions."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate."""


class LrcnConfig(Section):
    """The LRCN of Gordon et al., 2020: that CNN over a rolling window, then an LSTM."""

    input: ClassVar[str] = "standardised"
    name: Literal["lrcn"] = "lrcn"
    """Which model."""
    window: int = Field(20, gt=0)
    """Lines that the CNN sees at a time."""
    stride: int = Field(1, gt=0)
    """Lines from one window to the next; 1 in the paper."""
    width: int = Field(32, gt=0)
    """Filters of the first pair of convolutions."""
    units: int = Field(256, gt=0)
    """Units of the LSTM."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate."""


class TreesConfig(Section):
    """Boosted trees and logistic regression on spectra: no network, the baseline."""

    name: Literal["trees"] = "trees"
    """Which model."""
    iterations: int = Field(150, gt=0)
    """Boosting iterations; each adds a tree for every class."""
    learning_rate: float = Field(0.1, gt=0)
    """Learning rate of the boosting."""
    leaves: int = Field(8, gt=1)
    """Most leaves of a tree."""
    regularisation: float = Field(20.0, ge=0)
    """L2 regularisation of the leaves of the trees."""
    features: float = Field(0.1, gt=0, le=1)
    """Share of the features that a split chooses from."""
    logistic: float = Field(0.003, gt=0)
    """Inverse L2 regularisation of the logistic regression."""
    begun: int = Field(2, ge=0)
    """Partial copies of each scan to train on, cut after a random line."""
    refit: bool = True
    """Fit once more at the end, on the validation scans too: trees choose nothing by them."""


class VitConfig(Section):
    """A vision transformer whose tokens are scan lines."""

    input: ClassVar[str] = "standardised"
    name: Literal["vit"] = "vit"
    """Which model."""
    tokenizer: Literal["linear", "conv", "spectra"] = "linear"
    """How a line becomes a token: by a linear projection, by convolutions along the line, or by
    its spectrum."""
    positions: Literal["learned", "sinusoidal"] = "learned"
    """Position embedding of the lines."""
    layers: int = Field(6, gt=0)
    """Transformer blocks."""
    heads: int = Field(8, gt=0)
    """Attention heads; they divide `model.dim`."""
    dim: int = Field(256, gt=0)
    """Length of a token."""
    mlp_dim: int = Field(1024, gt=0)
    """Width of the hidden layer of a block's MLP."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout rate."""

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
    """Which model."""
    width: int = Field(16, gt=0)
    """Filters of the first convolution."""
    taps: int = Field(3, gt=0)
    """Lines that a convolution spans; 1 sees each line alone."""
    mixer: Literal["gru", "attention", "mean"] = "gru"
    """What carries on what earlier lines showed: a GRU, causal attention, or only the running
    mean."""
    units: int = Field(128, gt=0)
    """Length of a token and of the GRU's state."""
    spectra: int = Field(64, ge=0)
    """Length that a token grows by for the spectrum of the lines so far; 0 without."""
    lattice: int = Field(64, ge=0)
    """Width of the layer that reads the harmonics of the lattice so far; 0 without."""
    trees: int = Field(0, ge=0)
    """Boosted trees for each class and stage of a scan, beside the network; 0 without."""
    surface: int = Field(0, ge=0)
    """Width of a layer of its own that recognises the surfaces of `data.others`; 0: a head on
    the network's tokens."""
    wide_head: bool = False
    """Let the last layer read more than the tokens: what they were mixed of, and what trees read.
    Models of `stm-keras adapt` do."""
    layers: int = Field(2, gt=0)
    """Blocks of `mixer = attention`."""
    heads: int = Field(4, gt=0)
    """Heads of `mixer = attention`; `model.units` is a multiple of twice as many."""
    window: int = Field(128, gt=0)
    """Lines that attention looks back on."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate before the heads and in the blocks."""

    @model_validator(mode="after")
    def _heads_divide_units(self):
        if self.mixer == "attention" and self.units % (2 * self.heads):
            raise ValueError(
                "`units` must be a multiple of twice `heads`. Received: "
                f"heads={self.heads}, units={self.units}"
            )
        return self


AnyModel: TypeAlias = (
    CnnConfig | CnnSmallConfig | LrcnConfig | SequentialConfig | TreesConfig | VitConfig
)
MODEL_CONFIGS: dict[str, type[Section]] = {
    section.model_fields["name"].default: section for section in get_args(AnyModel)
}
ModelConfig: TypeAlias = Annotated[AnyModel, Field(discriminator="name")]


class TrainConfig(Section):
    """How to fit the model."""

    epochs: int = Field(12, gt=0)
    """Number of epochs."""
    batch_size: int = Field(64, gt=0)
    """Scans of a batch, over all devices."""
    steps_per_epoch: int | None = Field(None, gt=0)
    """Batches of an epoch, which then is a part of a pass over the scans. Default: a whole
    pass."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate, reached after the warm-up."""
    start_learning_rate: float = Field(1e-6, ge=0)
    """Learning rate at which the warm-up starts."""
    warmup_epochs: float = Field(1, ge=0)
    """Epochs in which the learning rate rises to its peak."""
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """Learning rate after the warm-up: falls as a cosine, stays, or falls when val_auroc stops
    rising."""
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    """Factor of the learning rate at a plateau."""
    plateau_patience: int = Field(5, gt=0)
    """Epochs without a better val_auroc that make a plateau."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay of AdamW."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest norm of all gradients together; none: no limit."""
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    """Share of a target that is spread evenly over all classes."""
    class_weight: bool = True
    """Weight classes by the inverse of their frequency in the training part."""
    change_weight: float = Field(0.3, ge=0)
    """Weight of the loss of the tip-change head."""
    unknown_weight: float = Field(0.3, ge=0)
    """Weight of the loss of the unknown-surface head."""
    late_lines: float = Field(0.0, ge=0)
    """How much more the last line of a scan counts in the loss than the first, relative to the
    first."""
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights are kept: the best by val_auroc, or the last."""
    refit: bool = False
    """Train once more at the end, on the validation scans too, after they calibrated the first
    model. Needs `keep = last`."""
    calibration_folds: int = Field(1, ge=1)
    """With `refit`: number of models, each with other validation scans, that calibrate the last
    one together."""
    init: str | None = None
    """Model whose weights to start from: a .keras file, the folder of a run, or the name of a
    model that comes with stm-keras."""
    frozen: Literal["none", "stem", "change", "all but change"] = "none"
    """Layers that stay as `train.init` has them; those of change find tip changes."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of a layer relative to that of the next one."""
    early_stopping: int | None = Field(None, gt=0)
    """Epochs without a better val_auroc after which training stops. Default: never."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Momentum of the moving average of the weights, which then is the model. Default: no
    average."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Number format of the computation; weights are float32."""
    jit_compile: bool | Literal["auto"] = "auto"
    """Compile the step: by XLA, under torch by its own compiler, with which a small network took
    longer. auto: by XLA where the backend can."""

    @model_validator(mode="after")
    def _refit_chooses_nothing(self):
        chooses = self.keep == "best" or self.early_stopping or self.schedule == "plateau"
        if self.refit and chooses:
            raise ValueError(
                "`refit` leaves no validation scans to choose by. Use keep=last, and neither "
                "early_stopping nor schedule=plateau"
            )
        return self
