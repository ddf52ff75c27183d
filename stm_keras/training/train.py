"""One training run, told from top to bottom.

stm-keras train vit --data scans.h5 --output runs/vit
"""

import io
import random
import sys

import keras
import numpy as np

from stm_keras.backend import check_compiler, feed, settle
from stm_keras.errors import InputError, UsageError
from stm_keras.inference.model_file import save_model
from stm_keras.models import build_model
from stm_keras.runs import STATE, with_legs
from stm_keras.signals import notice
from stm_keras.training import callbacks
from stm_keras.training import callbacks as after
from stm_keras.training.calibrate import adopt, calibrate, calibration_stages, last_stage
from stm_keras.training.callbacks import Interrupt
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.run_data import describe_environment, load_material, split_once
from stm_keras.training.surface import load_surface_teachers, teach_surfaces, without_test
from stm_keras.training.team import ALONE, Average
from stm_keras.training.trees import add_trees, without_trees
from stm_keras.training.warm_start import (
    answers,
    begin_with,
    freeze,
    frozen_heads,
    layer_factors,
    make_batches,
)
from stm_keras.untrusted import ordinary_file

MONITORED = 400  # training scans that are scored after an epoch without validation scans


def train(config, run, say=None, team=ALONE):
    """Train one model and leave it, its history and its best epoch in a run.

    Start again with the same run to go on where it was interrupted: the result is
    that of an undisturbed run.

    Args:
        config: A `stm_keras.config.Config`.
        run: A `stm_keras.runs.Run`, locked by the caller.
        say: callable of str that tells the user what happens, or None.
        team: `Team` of devices and processes that train this model together.

    Returns:
        Tuple of a `Predictor` with the best model, the `Dataset` and its `Split`. None in
        all processes but the first, which need nothing more.

    Raises:
        StmKerasError: The data does not allow it, or the loss is not finite.
    """
    say = say or (lambda text: None)
    if (warmup := config.train.warmup_epochs) > config.train.epochs:
        say(
            f"`train.warmup_epochs` is {warmup:g}, of {config.train.epochs} epochs in all: the "
            "learning rate only rises. Ask for more epochs or a shorter warm-up."
        )
    dataset = load_material(config, say)
    split = split_once(run, config, dataset, say)
    others = None
    if config.data.others is not None:  # before anything slow is done
        others = load_surface_teachers(config.data.others, dataset)
    stages = [(run, split)]
    if config.train.refit and len(split.parts["validation"]):
        folds = config.train.calibration_folds
        stages = calibration_stages(run, dataset, split, folds, say)
        stages.append(last_stage(run, split))
    if team.rank == 0 and not finished(run.epochs(), config.train):
        run.file("evaluation.json").unlink(missing_ok=True)  # of fewer epochs
    kept = {}  # simulated scans, the same for all
    for number, (own, parts) in enumerate(stages, 1):
        place = f"Training {number} of {len(stages)}" if len(stages) > 1 else ""
        _learn(config, own, dataset, parts, say, team, place, kept)
    team.leave()
    if team.rank:
        return None
    for own, _ in stages:
        if not own.file("best.keras").exists():
            raise InputError(
                f"{own.path}: the best model is lost. Train into a new folder."
            )
    if add_trees(config, run, dataset, split, say):
        for own, parts in stages[1:]:  # all have trees, or none
            add_trees(config, own, dataset, parts, say, fewest=0)
    predictor = calibrate(stages[:-1] or stages, dataset, say)
    if len(stages) > 1:
        predictor = adopt(stages, dataset)
    if others is not None and "measured" not in predictor.facts.get("unknown", {}):
        known, groups = without_test(dataset, split)
        predictor = teach_surfaces(predictor, known, others, groups, config.seed, say)
        path = run.file("best.keras")
        save_model(predictor.model, path, predictor.facts, overwrite=True)
    return predictor, dataset, split


def _learn(config, run, dataset, split, say, team, place, kept):
    """Do the epochs that are not done yet."""
    state = team.once(lambda: run.read_json("checkpoints/state.json", STATE)) or {}
    if finished(state.get("rows", []), config.train):
        return
    if place:
        taught, asked = (len(split.parts[name]) for name in ("train", "validation"))
        others = f", asked about {asked} others" if asked else ""
        say(f"{place}: learns from {taught} scans{others}.")
    environment = describe_environment(config, dataset)
    if team.replicas > 1:
        counts = {"processes": team.world, "devices": team.replicas}
        environment["parallel"] = {**counts, "hosts": team.hosts()}
    before = team.once(lambda: run.read_json("environment.json", ("backend",)))
    environment = with_legs(environment, before, len(state.get("rows", [])))
    run.write_json("environment.json", environment)
    _fit(config, run, dataset, split, state, environment, say, team, kept)


def finished(rows, settings):
    """Tell whether a history is complete under a `TrainConfig`."""
    if len(rows) >= settings.epochs:
        return True
    return settings.early_stopping is not None and callbacks.should_stop(
        rows, settings.early_stopping
    )


def set_seed(seed):
    """Seed what Keras draws initial weights and dropout from.

    `keras.utils.set_random_seed` would do, but imports TensorFlow on every backend.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  Keras and its layers draw from it
    if keras.config.backend() == "torch":
        keras.utils.set_random_seed(seed)


def _fit(config, run, dataset, split, state, environment, say, team, kept):
    settings, rows = config.train, state.setdefault("rows", [])
    set_seed(config.seed)
    settle()
    keras.config.set_dtype_policy(settings.precision)
    classes = dataset.classes
    network = without_trees(config.model)

    def build():
        return build_model(network, len(classes), *dataset.images.shape[:0:-1])

    with team.scope():
        model = build()
        if not rows:
            begin_with(model, settings, classes)
        freeze(model, settings.frozen)
        batches = make_batches(config, dataset, split, answers(model), say, team, kept)
        compile_model(model, settings, len(batches))
    if rows:
        _load_weights(model, run.file("checkpoints") / str(state["weights"]))
        say(f"{run.path}: goes on after epoch {rows[-1]['epoch']}.")
    if team.replicas > 1:
        with team.apart():
            team.copy = build()
            freeze(team.copy, settings.frozen)
        team.prepare(model)
    facts = {
        "classes": list(classes),
        "pixels": int(dataset.images.shape[2]),
        "max_lines": int(dataset.images.shape[1]),
        "input": config.model.input,
        "parameters": model.count_params(),
        "training": {
            "config": config.model_dump(),
            "environment": environment,
            "counts": {
                **{name: len(indices) for name, indices in split.parts.items()},
                "taught": len(batches.lessons),
            },
        },
    }

    def save_best(model, row):
        keys = ("epoch", "val_auroc", "val_balanced_accuracy")
        keep = {key: row[key] for key in keys if key in row}
        best = {**facts, "training": {**facts["training"], "best": keep}}
        save_model(model, run.file("best.keras"), best, overwrite=True)

    interrupt = Interrupt(team)
    try:
        model.fit(
            feed(batches),
            shuffle=False,  # the batches have an order of their own
            epochs=settings.epochs,
            initial_epoch=len(rows),
            verbose=0,
            callbacks=[
                *_callbacks(config, run, dataset, split, batches, rows, save_best, team),
                interrupt,
            ],
        )
    finally:
        interrupt.close()
        batches.close()
        keras.config.set_dtype_policy("float32")
    if team.world == 1:
        notice.check()  # of a signal that came after the last step
    if rows:
        seconds = sum(row["seconds"] for row in rows)
        say(
            f"Trained {len(rows)} epoch{'s' * (len(rows) > 1)} in {seconds:.0f} s; "
            f"waiting for data took {batches.waited:.1f} s of this process' share."
        )


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


def compile_model(model, settings, steps_per_epoch):
    """Compile a model as a `TrainConfig` asks for."""
    if settings.precision == "mixed_float16" and keras.config.backend() == "jax":
        from stm_keras.backend import devices

        if devices() == ["cpu"]:
            raise UsageError("JAX has no float16 on a processor. Use mixed_bfloat16.")
    check_compiler(settings.jit_compile)
    state = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=settings.label_smoothing
    )
    losses, shares = state, None
    if isinstance(model.output, dict):
        yes_or_no = keras.losses.BinaryCrossentropy(from_logits=True)
        losses = {name: state if name == "state" else yes_or_no for name in model.output}
        # where a head is frozen there is nothing to learn, and nothing to compute
        losses |= dict.fromkeys(frozen_heads(model, settings.frozen))
        shares = {name: getattr(settings, f"{name}_weight", 1.0) for name in losses}
    model.compile(
        optimizer=make_optimizer(settings, steps_per_epoch, layer_factors(model, settings)),
        loss=losses,
        loss_weights=shares,
        jit_compile=settings.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)


def _callbacks(config, run, dataset, split, batches, rows, save_best, team):
    settings, labels = config.train, dataset.labels
    validation, train = split.parts["validation"], split.parts["train"]
    monitored = np.random.default_rng(config.seed).permutation(train)
    monitored = np.sort(monitored[: len(validation) or MONITORED])
    parts = {"": (monitored, labels[monitored])}
    if len(validation):
        parts["val_"] = (validation, labels[validation])
    chosen = [
        after.Epoch(batches, config.seed, team),
        *([Average(team)] if team.own_logs else []),
        after.FiniteLoss(),
        after.Scores(
            dataset.images,
            parts,
            64,
            batches.prepare,
            team,
        ),
        after.Keeper(run, rows, save_best, settings.keep, team),
    ]
    if settings.schedule == "plateau":
        warmup = int(np.ceil(settings.warmup_epochs))
        chosen.append(
            callbacks.Plateau(
                rows, settings.plateau_factor, settings.plateau_patience, warmup
            )
        )
    if settings.early_stopping is not None:
        chosen.append(callbacks.Stop(rows, settings.early_stopping))
    stream = io.StringIO() if team.rank else sys.stderr
    return [*chosen, after.Lines(settings.epochs, stream)]
