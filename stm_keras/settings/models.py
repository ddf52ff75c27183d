"""The table `[model]` of a config file: a class for each network, with every default."""

from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from stm_keras.settings.section import OwnName, Section


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

    name: Literal["vit"] = "vit"
    """Which model."""
    tokenizer: Literal["linear", "conv", "spectra", "sequential"] = "linear"
    """How a line becomes a token: by a linear projection, by convolutions along the line, by
    what is periodic so far, or as in `sequential`: by the lines just before it, too."""
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

    @property
    def input(self) -> str:
        """How heights become its input, a key of `stm_keras.data.preprocess.INPUTS`."""
        return "scaled" if self.tokenizer == "sequential" else "standardised"

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


class OwnModelConfig(Section):
    """A network of your own: `name = "file.py:function"`. Needs `--trust-code`.

    Every other key is an argument of the function.
    """

    model_config = ConfigDict(extra="allow")
    name: OwnName
    """The function that builds it."""
    input: Literal["standardised", "scaled"] = "standardised"
    """How heights become its input, as of `stm_keras.data.preprocess.INPUTS`."""


AnyModel: TypeAlias = (
    CnnConfig | CnnSmallConfig | LrcnConfig | SequentialConfig | TreesConfig | VitConfig
)
MODEL_CONFIGS: dict[str, type[Section]] = {
    section.model_fields["name"].default: section for section in get_args(AnyModel)
}


def _kind_of_model(values):
    """Return which section a table `[model]` is of, by its name."""
    name = values.get("name") if isinstance(values, dict) else getattr(values, "name", None)
    return "own" if isinstance(name, str) and ":" in name else name


ModelConfig: TypeAlias = Annotated[
    Annotated[CnnConfig, Tag("cnn")]
    | Annotated[CnnSmallConfig, Tag("cnn_small")]
    | Annotated[LrcnConfig, Tag("lrcn")]
    | Annotated[SequentialConfig, Tag("sequential")]
    | Annotated[TreesConfig, Tag("trees")]
    | Annotated[VitConfig, Tag("vit")]
    | Annotated[OwnModelConfig, Tag("own")],
    Discriminator(_kind_of_model),
]
