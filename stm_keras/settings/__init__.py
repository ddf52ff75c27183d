"""The tables of a config file, each a class with every default: here and nowhere else.

The defaults are the quickstart, what a bare `stm-keras train` runs.
"""

from typing import Literal

from pydantic import Field, model_validator

from stm_keras.settings.section import OwnName, Section

Protocol = Literal["p1", "p2", "p3"]


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
    size: int = Field(128, ge=32, le=512)
    """Lines of a simulated scan and pixels of a line, where no dataset is given; beside one they
    are as in it."""
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
    own: OwnName | None = None
    """Function of your own that varies a scan before all this: "file.py:function". Needs
    `--trust-code`."""


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
