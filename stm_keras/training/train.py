"""One training run, from its scans to its best model.

stm-keras train vit --data scans.h5 --output runs/vit
"""

import functools
import logging
import platform
import random
import sys
from types import MappingProxyType

import keras
import numpy as np

from stm_keras.backend import check_compiler, devices, feed, settle
from stm_keras.config import Config
from stm_keras.data.dataset import Dataset
from stm_keras.data.split import Split
from stm_keras.errors import InputError, UsageError
from stm_keras.inference.model_file import bare_model, save_model
from stm_keras.inference.predictor import Predictor
from stm_keras.models import build_model
from stm_keras.progress import is_quiet
from stm_keras.runs import Run, with_legs
from stm_keras.signals import notice
from stm_keras.training import callbacks
from stm_keras.training.calibrate import (
    adopt_refit,
    calibrate,
    calibration_stages,
    refit_stage,
)
from stm_keras.training.finished import is_finished
from stm_keras.training.network_trees import add_trees, without_trees
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.own_parts import NOTHING, OwnParts, build_own
from stm_keras.training.parallel import SINGLE, Strategy
from stm_keras.training.residence import with_scans
from stm_keras.training.run_data import (
    describe_environment,
    load_run_data,
    split_once,
    training_metadata,
)
from stm_keras.training.unknown_surface import (
    fit_unknown_surface,
    load_other_surfaces,
    outside_test,
)
from stm_keras.training.warm_start import (
    freeze,
    frozen_heads,
    learning_rate_factors,
    line_heads,
    load_initial_weights,
    make_batches,
)
from stm_keras.untrusted import ordinary_file

MONITORED = 400  # training scans at most that are scored after an epoch, for one column

logger = logging.getLogger(__name__)


def train(
    config: Config,
    run: Run,
    *,
    strategy: Strategy = SINGLE,
    dataset: Dataset | None = None,
    own: OwnParts = NOTHING,
) -> tuple[Predictor, Dataset, Split] | None:
    """Train one model and leave it, its history and its best epoch in a run.

    Start again with the same run to go on where it was interrupted: the result is
    that of an undisturbed run. Progress is logged by `stm_keras.training`.

    Args:
        config: What to train, and how.
        run: Where to leave it, locked by the caller.
        strategy: How devices and processes share the training.
        dataset: The scans. None: those that the config names.
        own: What a user brings: a network, callbacks and so on.

    Returns:
        A predictor with the best model, the scans and their split. None in all processes
        but the first, which need nothing more.

    Raises:
        StmKerasError: The data does not allow it, or the loss is not finite.
    """
    if (warmup := config.train.warmup_epochs) >= config.train.epochs:
        logger.info(
            f"`train.warmup_epochs` is {warmup:g}, of {config.train.epochs} epochs in all: the "
            "learning rate only rises. Ask for more epochs or a shorter warm-up."
        )
    # === Scans ===
    dataset = load_run_data(config) if dataset is None else dataset
    split = split_once(run, config, dataset)
    others = None
    if config.data.others is not None:  # before anything slow is done
        others = load_other_surfaces(config.data.others, dataset)

    # === Networks: one, or those that calibrate and then the last, on all scans ===
    stages = [(run, split)]
    if config.train.refit and len(split.parts["validation"]):
        stages = calibration_stages(run, dataset, split, config.train.calibration_folds)
        stages.append(refit_stage(run, split))
    if strategy.rank == 0 and not is_finished(run.state(), config.train):
        run.file("evaluation.json").unlink(missing_ok=True)  # of fewer epochs
    cache: dict = {}  # simulated scans, the same for all
    for number, (stage_run, stage_split) in enumerate(stages, 1):
        title = f"Training {number} of {len(stages)}" if len(stages) > 1 else ""
        _train_stage(config, stage_run, dataset, stage_split, strategy, title, cache, own)
    strategy.shutdown()
    if strategy.rank:
        return None
    for stage_run, _ in stages:
        if not stage_run.file("best.keras").exists():
            raise InputError(
                f"{stage_run.path}: the best model is lost. Train into a new folder."
            )

    # === What is fitted after them ===
    if add_trees(config, run, dataset, split):
        for stage_run, stage_split in stages[1:]:  # all have trees, or none
            add_trees(config, stage_run, dataset, stage_split, fewest=0)
    predictor = calibrate(stages[:-1] or stages, dataset)
    if len(stages) > 1:
        predictor = adopt_refit(stages, dataset)
    if others is not None and "measured" not in predictor.metadata.get("unknown", {}):
        known, groups = outside_test(dataset, split)
        predictor = fit_unknown_surface(predictor, known, others, groups, config.seed)
        path = run.file("best.keras")
        save_model(predictor.model, path, predictor.metadata, overwrite=True)
    return predictor, dataset, split


def _train_stage(config, run, dataset, split, strategy, title, cache, own):
    """Train the epochs that are not done yet."""
    state = strategy.run_on_first(run.state)
    if is_finished(state, config.train):
        return
    if title:
        trained, held_out = (len(split.parts[name]) for name in ("train", "validation"))
        judges = f", and judges {held_out} others" if held_out else ""
        logger.info(f"{title}: trains on {trained} scans{judges}.")
    environment = describe_environment(config, dataset)
    if own.files:
        environment["own_code"] = dict(own.files)  # with their SHA-256
    if strategy.replicas > 1:
        counts = {"processes": strategy.world, "devices": strategy.replicas}
        environment["parallel"] = {**counts, "hosts": strategy.exchange(platform.node())}
    before = strategy.run_on_first(lambda: run.read_json("environment.json"))
    environment = with_legs(environment, before, len(state["rows"]))
    run.write_json("environment.json", environment)
    _fit(config, run, dataset, split, state, environment, strategy, cache, own)


def _fit(config, run, dataset, split, state, environment, strategy, cache, own):
    settings, rows = config.train, state["rows"]
    set_seed(config.seed)
    settle()
    keras.config.set_dtype_policy(settings.precision)
    network = without_trees(config.model)

    def build():
        sizes = len(dataset.classes), *dataset.images.shape[:0:-1]  # classes, pixels, lines
        if own.build is not None:
            return build_own(own.build, network, *sizes)
        return build_model(network, *sizes)

    with strategy.scope():
        model = build()
        if not rows:
            load_initial_weights(model, settings, dataset.classes)
        freeze(model, settings.frozen)
        heads = line_heads(model)
        batches = make_batches(config, dataset, split, heads, strategy, cache, own.augment)
        metrics = own.fresh_metrics()
        compile_model(model, settings, len(batches), metrics=metrics)
        trained = model_to_fit(model, batches, settings, metrics)
    if rows:
        _load_weights(model, run.file("checkpoints") / str(state["weights"]))
        run.write_history(rows)  # which an interrupt after the last epoch may have left out
        logger.info(f"{run.path}: goes on after epoch {rows[-1]['epoch']}.")
    if strategy.replicas > 1:
        with strategy.single_device():
            strategy.copy = build()
            freeze(strategy.copy, settings.frozen)
        strategy.prepare(model)
    metadata = training_metadata(config, dataset, split, environment, len(batches.scans))
    metadata |= {"input": config.model.input, "parameters": model.count_params()}

    def save_best(model, row):
        keys = ("epoch", "val_auroc", "val_balanced_accuracy")
        best = {key: row[key] for key in keys if key in row}
        training = {**metadata["training"], "best": best}
        path = run.file("best.keras")
        save_model(model, path, {**metadata, "training": training}, overwrite=True)

    save = callbacks.Checkpoint(run, rows, save_best, model, settings.keep, strategy)
    all_callbacks = _callbacks(config, dataset, split, batches, rows, save, strategy, model)
    if own.tensorboard and strategy.rank == 0:
        all_callbacks.append(callbacks.TensorBoard(run.file("tensorboard"), rows))
    interrupt = callbacks.Interrupt(strategy)
    try:
        trained.fit(
            feed(batches),
            shuffle=False,  # the batches have an order of their own
            epochs=settings.epochs,
            initial_epoch=len(rows),
            verbose=0,
            callbacks=[*all_callbacks, *own.callbacks, interrupt],
        )
    finally:
        interrupt.close()
        batches.close()
        keras.config.set_dtype_policy("float32")
    if trained.stop_training and not is_finished({"rows": rows}, settings):
        # a callback of the user, which knows nothing of it when this is called again
        run.write_json("checkpoints/state.json", {**run.state(), "stopped": True})
    if strategy.world == 1:
        notice.check()  # of a signal that came after the last step
    if rows:
        seconds = sum(row["seconds"] for row in rows)
        logger.info(
            f"Trained {len(rows)} epoch{'s' * (len(rows) > 1)} in {seconds:.0f} s; "
            f"waiting for data took {batches.waited:.1f} s of this process' share."
        )


def set_seed(seed):
    """Seed what Keras draws initial weights and dropout from.

    `keras.utils.set_random_seed` would do, but imports TensorFlow on every backend.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  Keras and its layers draw from it
    if keras.config.backend() == "torch":
        keras.utils.set_random_seed(seed)


def compile_model(model, settings, steps_per_epoch, optimizer=None, metrics=()):
    """Compile a model as a `TrainConfig` asks for, maybe with the optimizer of another.

    `metrics` are a user's, of the class of a scan.
    """
    jax_float16 = settings.precision == "mixed_float16" and keras.config.backend() == "jax"
    if jax_float16 and devices() == ["cpu"]:
        raise UsageError("JAX has no float16 on a processor. Use mixed_bfloat16.")
    check_compiler(settings.jit_compile)
    losses = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=settings.label_smoothing
    )
    shares = None
    metrics = list(metrics) or None
    if isinstance(model.output, dict):
        yes_or_no = keras.losses.BinaryCrossentropy(from_logits=True)
        losses = {name: losses if name == "state" else yes_or_no for name in model.output}
        # a frozen head has no gradient, and needs no loss
        losses |= dict.fromkeys(frozen_heads(model, settings.frozen))
        metrics = metrics and {"state": metrics}
        shares = {name: getattr(settings, f"{name}_weight", 1.0) for name in losses}
    if optimizer is None:
        factors = learning_rate_factors(model, settings)
        optimizer = make_optimizer(settings, steps_per_epoch, factors)
    model.compile(
        optimizer=optimizer,
        loss=losses,
        loss_weights=shares,
        metrics=metrics,
        jit_compile=settings.jit_compile,
    )
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


class _Fitted(keras.Model):
    """A model that is only trained: what Keras does around each step costs less Python.

    Under JAX Keras wraps every array of the state after a step, to find layers and variables
    among them; under torch it gathers the weights from all layers three times.
    """

    @functools.cached_property
    def trainable_weights(self):
        return super().trainable_weights

    def __setattr__(self, name, value):
        if name == "_jax_state" and isinstance(value, dict):
            value = MappingProxyType(value)  # nothing that Keras looks into
        super().__setattr__(name, value)


def model_to_fit(network, batches, settings, metrics=()):
    """Return what `fit` is called of, compiled as the network: it, maybe with scans in front."""
    model = with_scans(network, batches)
    if keras.config.backend() != "tensorflow":
        model = _Fitted(model.input, model.output, name=model.name)
    if model is not network:
        compile_model(model, settings, len(batches), network.optimizer, metrics)
        model.save_weights = network.save_weights
    # a user's `ModelCheckpoint` writes an ordinary network, which Keras opens alone
    model.save = lambda *where, **how: bare_model(network).save(*where, **how)
    return model


def _load_weights(model, path):
    """Load the weights to go on with; a damaged file may raise anything."""
    ordinary_file(path, "the folder of a run that is whole")
    try:
        model.load_weights(path)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"{path}: cannot be loaded ({reason}). Train into a new folder."
        ) from error


def _callbacks(config, dataset, split, batches, rows, save, strategy, network):
    """List the callbacks of a training, in the order in which they must be called."""
    settings, labels = config.train, dataset.labels
    validation, train = split.parts["validation"], split.parts["train"]
    monitored = _monitored(train, len(validation), config.seed)
    parts = {"": (monitored, labels[monitored])}
    if len(validation):
        parts["val_"] = (validation, labels[validation])
    chosen = [
        callbacks.SetEpoch(batches, config.seed, strategy),
        *([callbacks.AverageLogs(strategy)] if strategy.local_logs else []),
        callbacks.FiniteLoss(),
        callbacks.EpochScores(dataset.images, parts, network, batches.prepare, strategy),
        save,
    ]
    if settings.schedule == "plateau":
        warmup = int(np.ceil(settings.warmup_epochs))
        factor, patience = settings.plateau_factor, settings.plateau_patience
        chosen.append(callbacks.Plateau(rows, factor, patience, warmup))
    if settings.early_stopping is not None:
        chosen.append(callbacks.EarlyStopping(rows, settings.early_stopping))
    silent = strategy.rank or is_quiet()
    return chosen if silent else [*chosen, callbacks.ProgressLines(sys.stderr)]


def _monitored(train, validation, seed):
    """Draw training scans to score: as many as of validation, `MONITORED` at most."""
    drawn = np.random.default_rng(seed).permutation(train)
    return np.sort(drawn[: min(validation or MONITORED, MONITORED)])
